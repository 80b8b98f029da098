//! What people are told about commands: `COMMAND DOCS`, and the tables of `docs/commands.md`. It knows commands that are not in the
//! [table](super::table) as well; those are not shown.

/// Commands of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name, as Redis has it.
    pub name: &'static str,
    /// Its commands.
    pub docs: &'static [Doc],
}

/// What is told of one command.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    /// Its name, in lower case.
    pub name: &'static str,
    /// The first release of Redis, or of kevy, that has it.
    pub since: &'static str,
    /// What it does, in a sentence without a period.
    pub summary: &'static str,
}

/// What is told of the command of this name, in lower case, and its group.
pub fn find(name: &str) -> Option<(&'static str, &'static Doc)> {
    let within = |group: &'static Group| group.docs.iter().find(|doc| doc.name == name).map(|doc| (group.name, doc));
    GROUPS.iter().find_map(within)
}

/// All groups, in the order in which people look for them.
pub fn groups() -> &'static [Group] {
    GROUPS
}

const fn doc(name: &'static str, since: &'static str, summary: &'static str) -> Doc {
    Doc { name, since, summary }
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group { name: "string", docs: &[
        doc("set", "1.0.0", "Sets the string value of a key, with options for its expiry and for when to set it"),
        doc("get", "1.0.0", "Returns the string value of a key"),
        doc("mget", "1.0.0", "Returns the string values of several keys"),
        doc("mset", "1.0.1", "Sets the string values of several keys"),
        doc("msetnx", "1.0.1", "Sets the string values of several keys if none of them exists"),
        doc("setnx", "1.0.0", "Sets the string value of a key if it does not exist"),
        doc("setex", "2.0.0", "Sets the string value of a key and its expiry in seconds"),
        doc("psetex", "2.6.0", "Sets the string value of a key and its expiry in milliseconds"),
        doc("getset", "1.0.0", "Sets the string value of a key and returns the one before"),
        doc("getdel", "6.2.0", "Returns the string value of a key and deletes the key"),
        doc("getex", "6.2.0", "Returns the string value of a key and changes its expiry"),
        doc("incr", "1.0.0", "Adds one to the number that a key holds"),
        doc("decr", "1.0.0", "Takes one from the number that a key holds"),
        doc("incrby", "1.0.0", "Adds to the number that a key holds"),
        doc("decrby", "1.0.0", "Takes from the number that a key holds"),
        doc("incrbyfloat", "2.6.0", "Adds to the floating-point number that a key holds"),
        doc("append", "2.0.0", "Adds text to the end of a string"),
        doc("strlen", "2.2.0", "Returns the length of a string"),
        doc("setrange", "2.2.0", "Overwrites a part of a string"),
        doc("getrange", "2.4.0", "Returns a part of a string"),
        doc("substr", "1.0.0", "Returns a part of a string"),
        doc("lcs", "7.0.0", "Returns the longest common subsequence of two strings"),
    ] },
    Group { name: "bitmap", docs: &[
        doc("setbit", "2.2.0", "Sets or clears one bit of a string"),
        doc("getbit", "2.2.0", "Returns one bit of a string"),
        doc("bitcount", "2.6.0", "Counts the bits of a string that are set"),
        doc("bitpos", "2.8.7", "Finds the first bit of a string that is set or clear"),
        doc("bitop", "2.6.0", "Combines strings bit by bit"),
        doc("bitfield", "3.2.0", "Reads and changes integers of any width in a string"),
        doc("bitfield_ro", "6.0.0", "Reads integers of any width in a string"),
    ] },
    Group { name: "generic", docs: &[
        doc("del", "1.0.0", "Deletes keys"),
        doc("unlink", "4.0.0", "Deletes keys, and frees their memory later"),
        doc("exists", "1.0.0", "Counts how many of the keys exist"),
        doc("touch", "3.2.1", "Counts how many of the keys exist, as if they were read"),
        doc("type", "1.0.0", "Returns the type of a key's value"),
        doc("expire", "1.0.0", "Sets the expiry of a key in seconds from now"),
        doc("pexpire", "2.6.0", "Sets the expiry of a key in milliseconds from now"),
        doc("expireat", "1.2.0", "Sets the expiry of a key to a Unix time in seconds"),
        doc("pexpireat", "2.6.0", "Sets the expiry of a key to a Unix time in milliseconds"),
        doc("persist", "2.2.0", "Takes the expiry from a key"),
        doc("ttl", "1.0.0", "Returns the seconds until a key expires"),
        doc("pttl", "2.6.0", "Returns the milliseconds until a key expires"),
        doc("expiretime", "7.0.0", "Returns the Unix time in seconds at which a key expires"),
        doc("pexpiretime", "7.0.0", "Returns the Unix time in milliseconds at which a key expires"),
        doc("rename", "1.0.0", "Renames a key, and overwrites the other"),
        doc("renamenx", "1.0.0", "Renames a key if there is none of the new name"),
        doc("copy", "6.2.0", "Copies the value of a key to another key"),
        doc("move", "1.0.0", "Moves a key to another database, of which there is none"),
        doc("dump", "2.6.0", "Returns the value of a key in Redis's own format"),
        doc("restore", "2.6.0", "Creates a key from what DUMP returned"),
        doc("object", "2.2.3", "Tells how the value of a key is kept"),
        doc("sort", "1.0.0", "Sorts the elements of a list, a set or a sorted set, and may store them"),
        doc("sort_ro", "7.0.0", "Sorts the elements of a list, a set or a sorted set"),
        doc("randomkey", "1.0.0", "Returns a key by chance"),
        doc("scan", "2.8.0", "Walks over the keys, some at a time"),
        doc("keys", "1.0.0", "Returns all keys that fit a pattern"),
        doc("wait", "3.0.0", "Waits until replicas have applied what this client wrote"),
        doc("waitaof", "7.2.0", "Waits until what this client wrote is on disks"),
    ] },
    Group { name: "hash", docs: &[
        doc("hset", "2.0.0", "Sets fields of a hash"),
        doc("hmset", "2.0.0", "Sets fields of a hash"),
        doc("hsetnx", "2.0.0", "Sets a field of a hash if it does not exist"),
        doc("hget", "2.0.0", "Returns a field of a hash"),
        doc("hmget", "2.0.0", "Returns several fields of a hash"),
        doc("hgetall", "2.0.0", "Returns all fields of a hash with their values"),
        doc("hdel", "2.0.0", "Deletes fields of a hash"),
        doc("hgetdel", "8.0.0", "Returns fields of a hash and deletes them"),
        doc("hgetex", "8.0.0", "Returns fields of a hash and changes their expiry"),
        doc("hsetex", "8.0.0", "Sets fields of a hash with their expiry"),
        doc("hlen", "2.0.0", "Returns how many fields a hash has"),
        doc("hexists", "2.0.0", "Tells whether a hash has a field"),
        doc("hkeys", "2.0.0", "Returns all fields of a hash"),
        doc("hvals", "2.0.0", "Returns all values of a hash"),
        doc("hstrlen", "3.2.0", "Returns the length of a field's value"),
        doc("hincrby", "2.0.0", "Adds to the number in a field of a hash"),
        doc("hincrbyfloat", "2.6.0", "Adds to the floating-point number in a field of a hash"),
        doc("hrandfield", "6.2.0", "Returns fields of a hash by chance"),
        doc("hscan", "2.8.0", "Walks over a hash, some fields at a time"),
        doc("hexpire", "7.4.0", "Sets the expiry of fields in seconds from now"),
        doc("hpexpire", "7.4.0", "Sets the expiry of fields in milliseconds from now"),
        doc("hexpireat", "7.4.0", "Sets the expiry of fields to a Unix time in seconds"),
        doc("hpexpireat", "7.4.0", "Sets the expiry of fields to a Unix time in milliseconds"),
        doc("hpersist", "7.4.0", "Takes the expiry from fields"),
        doc("httl", "7.4.0", "Returns the seconds until fields expire"),
        doc("hpttl", "7.4.0", "Returns the milliseconds until fields expire"),
        doc("hexpiretime", "7.4.0", "Returns the Unix time in seconds at which fields expire"),
        doc("hpexpiretime", "7.4.0", "Returns the Unix time in milliseconds at which fields expire"),
    ] },
    Group { name: "list", docs: &[
        doc("lpush", "1.0.0", "Puts elements at the head of a list"),
        doc("rpush", "1.0.0", "Puts elements at the tail of a list"),
        doc("lpushx", "2.2.0", "Puts elements at the head of a list that exists"),
        doc("rpushx", "2.2.0", "Puts elements at the tail of a list that exists"),
        doc("lpop", "1.0.0", "Takes elements from the head of a list"),
        doc("rpop", "1.0.0", "Takes elements from the tail of a list"),
        doc("llen", "1.0.0", "Returns the length of a list"),
        doc("lindex", "1.0.0", "Returns an element of a list by its number"),
        doc("lrange", "1.0.0", "Returns a part of a list"),
        doc("lset", "1.0.0", "Sets an element of a list by its number"),
        doc("lrem", "1.0.0", "Removes elements of a list that are equal to a value"),
        doc("ltrim", "1.0.0", "Keeps a part of a list"),
        doc("linsert", "2.2.0", "Puts an element before or behind another"),
        doc("lpos", "6.0.6", "Finds elements of a list that are equal to a value"),
        doc("lmove", "6.2.0", "Takes an element from a list and puts it to another"),
        doc("rpoplpush", "1.2.0", "Takes an element from the tail of a list and puts it to the head of another"),
        doc("lmpop", "7.0.0", "Takes elements from the first list that has some"),
        doc("blpop", "2.0.0", "Takes an element from the head of the first list that has one, and waits for one"),
        doc("brpop", "2.0.0", "Takes an element from the tail of the first list that has one, and waits for one"),
        doc("blmove", "6.2.0", "Takes an element from a list and puts it to another, and waits for one"),
        doc("brpoplpush", "2.2.0", "Takes an element from the tail of a list and puts it to the head of another, and waits for one"),
        doc("blmpop", "7.0.0", "Takes elements from the first list that has some, and waits for some"),
    ] },
    Group { name: "set", docs: &[
        doc("sadd", "1.0.0", "Adds members to a set"),
        doc("srem", "1.0.0", "Removes members from a set"),
        doc("smembers", "1.0.0", "Returns all members of a set"),
        doc("sismember", "1.0.0", "Tells whether a set has a member"),
        doc("smismember", "6.2.0", "Tells which members a set has"),
        doc("scard", "1.0.0", "Returns how many members a set has"),
        doc("spop", "1.0.0", "Takes members from a set by chance"),
        doc("srandmember", "1.0.0", "Returns members of a set by chance"),
        doc("smove", "1.0.0", "Moves a member from a set to another"),
        doc("sinter", "1.0.0", "Returns the members that all sets have"),
        doc("sunion", "1.0.0", "Returns the members that some set has"),
        doc("sdiff", "1.0.0", "Returns the members that only the first set has"),
        doc("sinterstore", "1.0.0", "Stores the members that all sets have"),
        doc("sunionstore", "1.0.0", "Stores the members that some set has"),
        doc("sdiffstore", "1.0.0", "Stores the members that only the first set has"),
        doc("sintercard", "7.0.0", "Counts the members that all sets have"),
        doc("sscan", "2.8.0", "Walks over a set, some members at a time"),
    ] },
    Group { name: "sorted-set", docs: &[
        doc("zadd", "1.2.0", "Adds members to a sorted set, or changes their scores"),
        doc("zincrby", "1.2.0", "Adds to the score of a member"),
        doc("zrem", "1.2.0", "Removes members from a sorted set"),
        doc("zscore", "1.2.0", "Returns the score of a member"),
        doc("zmscore", "6.2.0", "Returns the scores of several members"),
        doc("zcard", "1.2.0", "Returns how many members a sorted set has"),
        doc("zrank", "2.0.0", "Returns the place of a member, the lowest score first"),
        doc("zrevrank", "2.0.0", "Returns the place of a member, the highest score first"),
        doc("zcount", "2.0.0", "Counts members by their scores"),
        doc("zlexcount", "2.8.9", "Counts members by their names"),
        doc("zrange", "1.2.0", "Returns members by place, score or name"),
        doc("zrevrange", "1.2.0", "Returns members by place, the highest score first"),
        doc("zrangebyscore", "1.0.5", "Returns members by their scores"),
        doc("zrevrangebyscore", "2.2.0", "Returns members by their scores, the highest first"),
        doc("zrangebylex", "2.8.9", "Returns members by their names"),
        doc("zrevrangebylex", "2.8.9", "Returns members by their names, the last first"),
        doc("zpopmin", "5.0.0", "Takes the members with the lowest scores"),
        doc("zpopmax", "5.0.0", "Takes the members with the highest scores"),
        doc("zremrangebyrank", "2.0.0", "Removes members by place"),
        doc("zremrangebyscore", "1.2.0", "Removes members by their scores"),
        doc("zremrangebylex", "2.8.9", "Removes members by their names"),
        doc("zrangestore", "6.2.0", "Stores members that are chosen by place, score or name"),
        doc("zmpop", "7.0.0", "Takes members from the first sorted set that has some"),
        doc("zrandmember", "6.2.0", "Returns members of a sorted set by chance"),
        doc("zscan", "2.8.0", "Walks over a sorted set, some members at a time"),
        doc("zunion", "6.2.0", "Returns the members that some sorted set has"),
        doc("zinter", "6.2.0", "Returns the members that all sorted sets have"),
        doc("zdiff", "6.2.0", "Returns the members that only the first sorted set has"),
        doc("zintercard", "7.0.0", "Counts the members that all sorted sets have"),
        doc("zunionstore", "2.0.0", "Stores the members that some sorted set has"),
        doc("zinterstore", "2.0.0", "Stores the members that all sorted sets have"),
        doc("zdiffstore", "6.2.0", "Stores the members that only the first sorted set has"),
        doc("bzpopmin", "5.0.0", "Takes the member with the lowest score from the first sorted set that has one, and waits for one"),
        doc("bzpopmax", "5.0.0", "Takes the member with the highest score from the first sorted set that has one, and waits for one"),
        doc("bzmpop", "7.0.0", "Takes members from the first sorted set that has some, and waits for some"),
    ] },
    Group { name: "stream", docs: &[
        doc("xadd", "5.0.0", "Adds an entry to a stream"),
        doc("xlen", "5.0.0", "Returns how many entries a stream has"),
        doc("xrange", "5.0.0", "Returns entries between two ids"),
        doc("xrevrange", "5.0.0", "Returns entries between two ids, the last first"),
        doc("xread", "5.0.0", "Returns entries behind an id of several streams, and may wait for some"),
        doc("xreadgroup", "5.0.0", "Returns entries to a consumer of a group, and may wait for some"),
        doc("xgroup", "5.0.0", "Creates, changes and deletes consumer groups"),
        doc("xack", "5.0.0", "Tells that a group is done with entries"),
        doc("xackdel", "8.2.0", "Tells that a group is done with entries, and deletes them"),
        doc("xclaim", "5.0.0", "Gives entries that wait for another consumer to this one"),
        doc("xautoclaim", "6.2.0", "Gives entries that waited for long to this consumer"),
        doc("xpending", "5.0.0", "Tells which entries a group is not done with"),
        doc("xinfo", "5.0.0", "Tells about a stream, its groups and their consumers"),
        doc("xdel", "5.0.0", "Deletes entries of a stream"),
        doc("xdelex", "8.2.0", "Deletes entries of a stream, with what groups know of them"),
        doc("xtrim", "5.0.0", "Deletes the oldest entries of a stream"),
        doc("xsetid", "5.0.0", "Sets the last id of a stream"),
    ] },
    Group { name: "hyperloglog", docs: &[
        doc("pfadd", "2.8.9", "Adds elements to a HyperLogLog"),
        doc("pfcount", "2.8.9", "Estimates how many different elements HyperLogLogs have seen"),
        doc("pfmerge", "2.8.9", "Merges HyperLogLogs into one"),
    ] },
    Group { name: "geo", docs: &[
        doc("geoadd", "3.2.0", "Adds members with longitude and latitude"),
        doc("geodist", "3.2.0", "Returns the distance between two members"),
        doc("geohash", "3.2.0", "Returns the geohashes of members"),
        doc("geopos", "3.2.0", "Returns longitude and latitude of members"),
        doc("geosearch", "6.2.0", "Returns members within a circle or a box"),
        doc("geosearchstore", "6.2.0", "Stores members within a circle or a box"),
        doc("georadius", "3.2.0", "Returns or stores members around a position"),
        doc("georadius_ro", "3.2.10", "Returns members around a position"),
        doc("georadiusbymember", "3.2.0", "Returns or stores members around another"),
        doc("georadiusbymember_ro", "3.2.10", "Returns members around another"),
    ] },
    Group { name: "pubsub", docs: &[
        doc("publish", "2.0.0", "Sends a message to the subscribers of a channel"),
        doc("spublish", "7.0.0", "Sends a message to the subscribers of a shard channel"),
        doc("subscribe", "2.0.0", "Listens to channels"),
        doc("unsubscribe", "2.0.0", "Stops listening to channels"),
        doc("psubscribe", "2.0.0", "Listens to channels that fit patterns"),
        doc("punsubscribe", "2.0.0", "Stops listening to channels that fit patterns"),
        doc("ssubscribe", "7.0.0", "Listens to shard channels"),
        doc("sunsubscribe", "7.0.0", "Stops listening to shard channels"),
        doc("pubsub", "2.8.0", "Tells which channels have subscribers"),
    ] },
    Group { name: "transactions", docs: &[
        doc("multi", "1.2.0", "Begins a transaction"),
        doc("exec", "1.2.0", "Executes the commands of a transaction"),
        doc("discard", "2.0.0", "Gives up a transaction"),
        doc("watch", "2.2.0", "Lets the next transaction depend on keys"),
        doc("unwatch", "2.2.0", "Lets the next transaction depend on nothing"),
    ] },
    Group { name: "connection", docs: &[
        doc("ping", "1.0.0", "Answers PONG, or what it was told"),
        doc("echo", "1.0.0", "Answers what it was told"),
        doc("hello", "6.0.0", "Changes the protocol, and tells what the server is"),
        doc("auth", "1.0.0", "Says the password"),
        doc("quit", "1.0.0", "Ends the connection"),
        doc("reset", "6.2.0", "Makes the connection what it was at its beginning"),
        doc("select", "1.0.0", "Chooses the database, of which there is one"),
        doc("client", "2.4.0", "Tells about connections and changes them"),
    ] },
    Group { name: "server", docs: &[
        doc("acl", "6.0.0", "Tells who the user is"),
        doc("command", "2.8.13", "Tells about commands"),
        doc("config", "2.0.0", "Reads and changes settings"),
        doc("debug", "1.0.0", "Does what tests need"),
        doc("info", "1.0.0", "Tells about the server"),
        doc("kevy", "0.1.0", "Tells digests of hash slots"),
        doc("lastsave", "1.0.0", "Returns the Unix time of the last snapshot, or of the start"),
        doc("latency", "2.8.13", "Tells what took long"),
        doc("memory", "4.0.0", "Tells about memory"),
        doc("slowlog", "2.2.12", "Tells which commands were slow"),
        doc("monitor", "1.0.0", "Shows all commands as they are executed"),
        doc("replicaof", "5.0.0", "Makes the node a replica of another, or a primary"),
        doc("slaveof", "1.0.0", "Makes the node a replica of another, or a primary"),
        doc("role", "2.8.12", "Tells the node's part in replication"),
        doc("shutdown", "1.0.0", "Ends the server"),
        doc("time", "2.6.0", "Returns the server's time"),
        doc("dbsize", "1.0.0", "Returns the number of keys"),
        doc("flushall", "1.0.0", "Deletes all keys"),
        doc("flushdb", "1.0.0", "Deletes all keys"),
        doc("save", "1.0.0", "Writes a snapshot to disk"),
        doc("bgsave", "1.0.0", "Writes a snapshot to disk, beside everything else"),
    ] },
    Group { name: "cluster", docs: &[
        doc("cluster", "3.0.0", "Tells about hash slots and nodes"),
        doc("readonly", "3.0.0", "Lets a replica answer reads of a cluster client"),
        doc("readwrite", "3.0.0", "Ends READONLY"),
        doc("asking", "3.0.0", "Precedes a command on a slot that is being moved"),
    ] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::table;

    #[test]
    fn every_command_is_explained_once() {
        for spec in table::all() {
            assert!(find(spec.name).is_some(), "store/command/docs.rs has nothing about {}", spec.name);
        }
        let mut names: Vec<&str> = GROUPS.iter().flat_map(|group| group.docs).map(|doc| doc.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(GROUPS.iter().flat_map(|group| group.docs).all(|doc| !doc.summary.ends_with('.')));
    }
}
