// ioredis's basic flows on the kevy at the port that is named.
import assert from "node:assert/strict";
import Redis from "ioredis";

const port = Number(process.argv[2]);
const redis = new Redis({ port, maxRetriesPerRequest: 1 });

await redis.set("key", "value", "EX", 100);
assert.equal(await redis.get("key"), "value");
assert.ok((await redis.ttl("key")) > 90);

const piped = await redis.pipeline().hset("hash", { a: 1, b: 2 }).hgetall("hash").lpush("hash", "x").exec();
assert.deepEqual(piped[1], [null, { a: "1", b: "2" }]);
assert.match(piped[2][0].message, /^WRONGTYPE/);

const done = await redis.multi().incr("count").incr("count").exec();
assert.deepEqual(done, [[null, 1], [null, 2]]);
await redis.watch("count");
await redis.duplicate().set("count", 9);
assert.equal(await redis.multi().incr("count").exec(), null);

const subscriber = redis.duplicate();
const heard = new Promise((resolve) => subscriber.on("message", (channel, text) => resolve([channel, text])));
await subscriber.subscribe("news");
assert.equal(await redis.publish("news", "something"), 1);
assert.deepEqual(await heard, ["news", "something"]);

await redis.mset(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`many:${i}`, i])));
const seen = new Set();
for await (const keys of redis.scanStream({ match: "many:*", count: 100 })) keys.forEach((key) => seen.add(key));
assert.equal(seen.size, 500);
assert.deepEqual(await redis.zrange("zset", 0, -1), []);
await redis.zadd("zset", 1, "a", 2.5, "b");
assert.deepEqual(await redis.zrange("zset", 0, -1, "WITHSCORES"), ["a", "1", "b", "2.5"]);
assert.deepEqual(await redis.getBuffer("key"), Buffer.from("value"));
await assert.rejects(redis.eval("return 1", 0), /kevy has no scripts/);

subscriber.disconnect();
await redis.quit();
console.log("strings, pipelines, transactions, messages, scans, sorted sets");
process.exit(0);
