#!/usr/bin/env python3
"""Sends the same random commands to kevy and to a real redis-server, and compares the replies.

usage: diff-redis.py [--kevy target/debug/kevy] [--redis redis-server] [--shards 1] [--resp 2|3]
                     [--seed 1] [--commands 40000] [--only REGEX] [--list]

Exit status: 0 all replies were equal, 1 some were not, 2 it could not run. The same seed makes the same commands.
Replies without an order are compared as sets, times to live within two seconds, scores as numbers. Where kevy means
to differ from the release it is compared with, accepted() and refused() say so with the reason.
"""
import argparse
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# Templates of commands. A word in capitals that stands in WORDS is replaced; K is a key of the type named in front.
COMMANDS = """
s SET K V
s SET K N
s SET w_E N
s SET v_E V
h HSET hh_E f V
s SET K V EX 1000
s SET K V NX
s SET K V XX GET
s SET K V KEEPTTL
s SET K V GET
s SET K V PXAT 4000000000000
s SETNX K V
s SETEX K 1000 V
s PSETEX K 100000 V
s GETSET K V
s GETDEL K
s GETEX K
s GETEX K EX 1000
s GETEX K PERSIST
s MSET K V K V
s MSETNX K V K V
s MGET K K K
s INCR K
s DECR K
s INCRBY K N
s DECRBY K N
s INCRBYFLOAT K F
s APPEND K V
s STRLEN K
s SETRANGE K I V
s GETRANGE K N N
s SUBSTR K N N
s GET K
s GET K
s SETBIT K I B
s GETBIT K I
s BITCOUNT K
s BITCOUNT K N N
s BITCOUNT K N N BIT
s BITCOUNT K N N BYTE
s BITPOS K B
s BITPOS K B N
s BITPOS K B N N
s BITPOS K B N N BIT
s BITOP AND K K K
s BITOP OR K K K K
s BITOP XOR K K K
s BITOP NOT K K
s BITFIELD K GET u4 I SET i5 I N
s BITFIELD K INCRBY u3 I N OVERFLOW SAT INCRBY i8 #1 N
s BITFIELD K OVERFLOW FAIL INCRBY u2 I 3 GET u63 0
s BITFIELD K SET i64 I BIG GET i64 I
s BITFIELD K OVERFLOW SAT SET u7 I BIG INCRBY i64 0 BIG
s BITFIELD K OVERFLOW FAIL SET i3 I BIG
s BITFIELD_RO K GET i7 I GET u8 #2
s LCS K K
s LCS K K LEN
s LCS K K IDX
s LCS K K IDX WITHMATCHLEN MINMATCHLEN 2
* DEL K
* UNLINK K K
* EXISTS K K
* TOUCH K K
* TYPE K
* EXPIRE K 1000
* EXPIRE K 2000 NX
* EXPIRE K 500 XX
* EXPIRE K 3000 GT
* EXPIRE K 200 LT
* EXPIRE K -1
* PEXPIRE K 1000000
* EXPIREAT K 4000000000
* PEXPIREAT K 4000000000000
* EXPIREAT K 1
* TTL K
* PTTL K
* EXPIRETIME K
* PEXPIRETIME K
* PERSIST K
* RENAME K K
* RENAMENX K K
* COPY K K
* COPY K K REPLACE
* COPY K K DB 0
* MOVE K 0
* OBJECT REFCOUNT K
* OBJECT ENCODING K
* OBJECT FREQ K
* OBJECT IDLETIME K
* SORT K
* SORT K ALPHA
* SORT K DESC LIMIT N N
* SORT K ALPHA LIMIT 0 5 STORE K
* SORT K BY w_* GET # GET v_* GET hh_*->f
* SORT K ALPHA GET hh_*->f GET # DESC
* SORT K BY nosort
* SORT K BY nosort STORE K
* SORT K BY w_* DESC STORE K
* SORT K GET # GET v_* GET w_*
* SORT_RO K ALPHA DESC
* DBSIZE
* DUMP K
* DUMP K
* RESTORE K 0 DUMPED
* RESTORE K 1000000 DUMPED REPLACE
* RESTORE K 4000000000000 DUMPED ABSTTL REPLACE IDLETIME 5
h HSET K M V
h HSET K M V M N M V
h HMSET K M N
h HSETNX K M V
h HDEL K M M
h HGET K M
h HMGET K M M M
h HGETALL K
h HKEYS K
h HVALS K
h HLEN K
h HEXISTS K M
h HSTRLEN K M
h HINCRBY K M N
h HINCRBYFLOAT K M F
h HRANDFIELD K
h HRANDFIELD K 3
h HRANDFIELD K -4
h HRANDFIELD K 5 WITHVALUES
h HSCAN K 0
h HSCAN K 0 COUNT 1000 MATCH m1*
l LPUSH K V V
l RPUSH K E E V
l RPUSH K E E E E E
l LPUSHX K V
l RPUSHX K V
l LPOP K
l RPOP K
l LPOP K 2
l RPOP K 3
l LLEN K
l LINDEX K N
l LRANGE K N N
l LRANGE K 0 -1
l LSET K N V
l LREM K N E
l LTRIM K N N
l LTRIM K 0 12
l LINSERT K BEFORE E V
l LINSERT K AFTER E E
l LPOS K E
l LPOS K E RANK 2
l LPOS K E RANK -1 COUNT 0
l LPOS K E COUNT 2 MAXLEN 5
l LMOVE K K LEFT RIGHT
l LMOVE K K RIGHT RIGHT
l RPOPLPUSH K K
l LMPOP 2 K K LEFT
l LMPOP 1 K RIGHT COUNT 2
e SADD K M M M
e SADD K M M M M M M
e SADD K N N N
e SREM K M M
e SMEMBERS K
e SISMEMBER K M
e SMISMEMBER K M M M
e SCARD K
e SMOVE K K M
e SINTER K K
e SUNION K K
e SDIFF K K K
e SINTERSTORE K K K
e SUNIONSTORE K K K
e SDIFFSTORE K K K
e SINTERCARD 2 K K
e SINTERCARD 2 K K LIMIT 2
e SRANDMEMBER K
e SRANDMEMBER K 3
e SRANDMEMBER K -5
e SSCAN K 0 COUNT 1000 MATCH *2
z ZADD K F M F M
z ZADD K 0 M 0 M 0 M 0 M 0 M
y ZADD K 0 M 0 M 0 M
y ZADD K 0 M 0 M 0 M 0 M 0 M
z ZADD K NX F M
z ZADD K XX CH F M
z ZADD K GT CH F M
z ZADD K LT F M F M
z ZADD K INCR F M
z ZADD K NX INCR F M
z ZINCRBY K F M
z ZREM K M M
z ZCARD K
z ZSCORE K M
z ZMSCORE K M M
z ZRANK K M
z ZREVRANK K M
z ZCOUNT K F F
z ZCOUNT K (F +inf
y ZLEXCOUNT K [m1 (m3
y ZLEXCOUNT K - +
z ZRANGE K N N
z ZRANGE K N N WITHSCORES
z ZRANGE K N N REV WITHSCORES
z ZRANGE K F F BYSCORE LIMIT N N
z ZRANGE K +inf -inf BYSCORE REV WITHSCORES
y ZRANGE K [m1 (m4 BYLEX
y ZRANGE K + [m2 BYLEX REV LIMIT 1 3
z ZREVRANGE K N N WITHSCORES
z ZRANGEBYSCORE K F F WITHSCORES
z ZRANGEBYSCORE K (F F LIMIT 0 3
z ZREVRANGEBYSCORE K F F
y ZRANGEBYLEX K - (m3 LIMIT 1 2
y ZREVRANGEBYLEX K + [m1
z ZRANGESTORE K K N N
z ZRANGESTORE K K F F BYSCORE LIMIT 0 4
y ZRANGESTORE K K + - BYLEX REV LIMIT 0 4
z ZPOPMIN K
z ZPOPMAX K 2
z ZMPOP 2 K K MIN
z ZMPOP 1 K MAX COUNT 2
z ZREMRANGEBYRANK K N N
z ZREMRANGEBYSCORE K F F
y ZREMRANGEBYLEX K [m1 [m3
z ZUNION 2 K K
z ZUNION 2 K K WEIGHTS 2 F AGGREGATE MAX WITHSCORES
z ZINTER 2 K K WITHSCORES
z ZINTER 3 K K K AGGREGATE MIN WITHSCORES
z ZDIFF 2 K K WITHSCORES
z ZUNIONSTORE K 2 K K WEIGHTS 1 3
z ZINTERSTORE K 2 K K AGGREGATE SUM
z ZDIFFSTORE K 2 K K
ze ZUNIONSTORE K 2 K K AGGREGATE MIN
ze ZINTER 2 K K WITHSCORES
z ZINTERCARD 2 K K
z ZINTERCARD 2 K K LIMIT 2
z ZRANDMEMBER K
z ZRANDMEMBER K 3
z ZRANDMEMBER K -4 WITHSCORES
z ZSCAN K 0 COUNT 1000 MATCH m*
t XADD K NEXT M V
t XADD K NEXT M V
t XADD K NEXT M V M V
t XADD K NEXT f V g V
t XADD K ID M V
t XADD K I-* M V
t XADD K NOMKSTREAM NEXT M V
t XADD K MAXLEN I NEXT M V
t XADD K MAXLEN ~ I NEXT M V
t XADD K MINID = ID NEXT M V
t XADD K MAXLEN ~ 5 LIMIT 100 NEXT M V
t XLEN K
t XRANGE K - +
t XRANGE K ID ID COUNT I
t XRANGE K (ID +
t XREVRANGE K + - COUNT 3
t XREVRANGE K (ID ID
t XDEL K ID ID
t XDEL K SOON SOON
t XTRIM K MAXLEN I
t XTRIM K MINID ID
t XTRIM K MAXLEN ~ I LIMIT N
t XSETID K NEXT
t XSETID K NEXT ENTRIESADDED I MAXDELETEDID ID
t XREAD COUNT 2 STREAMS K ID
t XREAD STREAMS K K SOON ID
t XREAD STREAMS K $
t XREAD COUNT N STREAMS K K 0 0
t XGROUP CREATE K G ID MKSTREAM
t XGROUP CREATE K G $ ENTRIESREAD I
t XGROUP CREATE K G 0
t XGROUP SETID K G ID
t XGROUP SETID K G $
t XGROUP SETID K G 0 ENTRIESREAD I
t XGROUP DESTROY K G
t XGROUP CREATECONSUMER K G C
t XGROUP DELCONSUMER K G C
t XREADGROUP GROUP G C STREAMS K >
t XREADGROUP GROUP G C COUNT 2 STREAMS K >
t XREADGROUP GROUP G C COUNT 1 STREAMS K K > >
t XREADGROUP GROUP G C NOACK STREAMS K >
t XREADGROUP GROUP G C STREAMS K 0
t XREADGROUP GROUP G C COUNT 2 STREAMS K SOON
t XACK K G SOON SOON
t XACK K G ID ID
t XPENDING K G
t XPENDING K G - + 10
t XPENDING K G (ID SOON 5 C
t XPENDING K G IDLE 10000000 - + 3
t XCLAIM K G C 0 SOON SOON ID
t XCLAIM K G C 0 SOON JUSTID
t XCLAIM K G C 10000000 SOON
t XCLAIM K G C 0 SOON SOON FORCE RETRYCOUNT I
t XCLAIM K G C 0 SOON FORCE LASTID SOON
t XAUTOCLAIM K G C 0 - COUNT 2
t XAUTOCLAIM K G C 0 (ID JUSTID
t XAUTOCLAIM K G C 10000000 0
t XINFO STREAM K
t XINFO STREAM K FULL
t XINFO STREAM K FULL COUNT N
t XINFO GROUPS K
t XINFO CONSUMERS K G
t COPY K K REPLACE
t RENAME K K
t DUMP K
t RESTORE K 0 DUMPED REPLACE
t TYPE K
t DEL K
p PFADD K M M M
p PFADD K M
p PFADD K MANY
p PFADD K MANY
p PFCOUNT K
p PFCOUNT K
p PFCOUNT K K K
p PFMERGE K K K
p PFMERGE K K
p GET K
sp PFADD K M
sp PFCOUNT K K
g GEOADD K LON LAT M
g GEOADD K LON LAT M LON LAT M LON LAT M
g GEOADD K LON LAT M LON LAT M LON LAT M
g GEOADD K NX CH LON LAT M LON LAT M
g GEOADD K XX CH LON LAT M LON LAT M
g GEODIST K M M
g GEODIST K M M UNIT
g GEOHASH K M M
g GEOPOS K M M
zg GEOPOS K M
g GEORADIUS K LON LAT DIST UNIT
g GEORADIUS K LON LAT DIST UNIT WITHDIST WITHCOORD ASC
g GEORADIUS K LON LAT DIST UNIT WITHDIST COUNT 3
g GEORADIUS K LON LAT DIST UNIT COUNT 3 ANY
g GEORADIUS K LON LAT DIST UNIT STORE K
g GEORADIUS K LON LAT DIST UNIT STOREDIST K COUNT 4
g GEORADIUS_RO K LON LAT DIST UNIT WITHHASH DESC
g GEORADIUSBYMEMBER K M DIST UNIT
g GEORADIUSBYMEMBER K M DIST UNIT WITHDIST DESC
g GEORADIUSBYMEMBER K M DIST UNIT STORE K
g GEORADIUSBYMEMBER_RO K M DIST UNIT ASC COUNT 2
g GEOSEARCH K FROMMEMBER M BYRADIUS DIST UNIT
g GEOSEARCH K FROMMEMBER M BYBOX DIST DIST UNIT
g GEOSEARCH K FROMLONLAT LON LAT BYRADIUS DIST UNIT WITHDIST
g GEOSEARCH K FROMLONLAT LON LAT BYBOX DIST DIST UNIT WITHDIST ASC
g GEOSEARCH K FROMLONLAT LON LAT BYBOX DIST DIST UNIT WITHCOORD WITHHASH COUNT 5 ANY DESC
g GEOSEARCHSTORE K K FROMMEMBER M BYRADIUS DIST UNIT
g GEOSEARCHSTORE K K FROMLONLAT LON LAT BYBOX DIST DIST UNIT STOREDIST COUNT 6
""".strip().split("\n")

# What stands in for a value when a command is to be wrong.
WRONG = ["x", "", "-1", "0", "1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "(1", "nan",
         "inf", "1.5", "LIMIT", "WITHSCORES", "COUNT", "-0", "01", " 1", "1e3", "[a", "STORE", "GET", "100000000000"]

# Replies whose elements have no order.
UNORDERED = {"SMEMBERS", "SINTER", "SUNION", "SDIFF", "HKEYS", "HVALS", "KEYS"}
PAIRS = {"HGETALL"}
SCANS = {"SCAN": 1, "SSCAN": 1, "HSCAN": 2, "ZSCAN": 2}
# Chance has a part in these: how many elements there are, and of what kind, is compared.
BY_CHANCE = {"SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "RANDOMKEY"}
# Replies in which numbers may be written in another way.
SCORES = {"ZADD", "ZINCRBY", "ZSCORE", "ZMSCORE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZPOPMIN",
          "ZPOPMAX", "ZMPOP", "ZUNION", "ZINTER", "ZDIFF", "ZSCAN", "ZRANK", "ZREVRANK"}
TIMES = {"TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"}
# The same command is executed so far apart on the two sides.
SKEW_MS = 2000


class Failed(str):
    """An error reply."""


class Client:
    def __init__(self, port, resp):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        if resp == 3:
            self.ask("HELLO", "3")

    def ask(self, *args):
        return self.pipe([args])[0]

    def pipe(self, commands):
        out = []
        for args in commands:
            out.append(b"*%d\r\n" % len(args))
            for arg in args:
                arg = arg if isinstance(arg, bytes) else arg.encode()
                out.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
        self.socket.sendall(b"".join(out))
        return [self.read() for _ in commands]

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return ("status", rest)
        if kind == b"-":
            return Failed(rest.decode("latin-1"))
        if kind == b":":
            return int(rest)
        if kind == b",":
            return ("double", float(rest))
        if kind == b"_":
            return None
        if kind == b"#":
            return ("bool", rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.file.read(length + 2)[:-2]
        if kind in b"*~>":
            count = int(rest)
            items = None if count < 0 else [self.read() for _ in range(count)]
            if items is None:
                return ("null array",)
            return ("set", items) if kind == b"~" else items
        if kind == b"%":
            return ("map", [self.read() for _ in range(2 * int(rest))])
        raise ValueError(line)


def number(value):
    if isinstance(value, tuple) and value and value[0] == "double":
        return float("%.12g" % value[1]) + 0.0
    if isinstance(value, bytes):
        try:
            # Where Redis packs a sorted set, -0 becomes 0.
            return float("%.12g" % float(value)) + 0.0
        except ValueError:
            return value
    if isinstance(value, list):
        return [number(item) for item in value]
    return value


def comparable(args, reply):
    """The reply with everything taken away that may differ."""
    name = args[0].upper()
    if isinstance(reply, Failed):
        return str(reply)
    # Here PFCOUNT writes no count into the header.
    uncounted = lambda text: text[:8] + text[16:] if isinstance(text, bytes) and text.startswith(b"HYLL") else text
    reply = [uncounted(item) for item in reply] if isinstance(reply, list) else uncounted(reply)
    if name in SCANS:
        if not isinstance(reply, list):
            return repr(reply)
        items = reply[1]
        step = SCANS[name]
        grouped = [items[i:i + step] for i in range(0, len(items), step)]
        return repr(sorted(map(repr, map(number if name == "ZSCAN" else list, grouped))))
    if name in BY_CHANCE:
        return shape(reply)
    if name in SCORES:
        reply = number(reply)
    if name == "XINFO":
        reply = without(reply)
    if name == "XPENDING" and isinstance(reply, list):
        # Milliseconds since the delivery.
        reply = [item[:2] + item[3:] if isinstance(item, list) and len(item) == 4 else item for item in reply]
    tag, items = (reply[0], reply[1]) if isinstance(reply, tuple) and len(reply) == 2 else (None, reply)
    if isinstance(items, list):
        if name in UNORDERED or (name.startswith("SORT") and is_unsorted(args)):
            items = sorted(map(repr, items))
        elif name in PAIRS:
            items = sorted(map(repr, zip(items[::2], items[1::2])))
    if name == "OBJECT" and isinstance(items, bytes):
        return "an encoding"
    if name == "OBJECT" and isinstance(items, int):
        return "a number"
    return repr((tag, items))


# What XINFO tells that depends on the time, on how entries are kept, or that redis-server tells from 7.2 on.
UNTOLD = {b"radix-tree-keys", b"radix-tree-nodes", b"idle", b"inactive", b"seen-time", b"active-time"}


def without(reply):
    """A reply of XINFO without all that."""
    if isinstance(reply, tuple):
        return without(reply[1])
    if not isinstance(reply, list):
        return reply
    kept, skip = [], False
    for item in reply:
        if skip or (isinstance(item, bytes) and item in UNTOLD):
            skip = not skip
        else:
            kept.append(without(item))
    # When it was delivered, of entries that are pending.
    if kept and len(kept) in (3, 4) and isinstance(kept[-2], int) and kept[-2] > 10 ** 12:
        kept[-2] = 0
    return kept


def is_unsorted(args):
    by = [args[i + 1] for i in range(2, len(args) - 1) if args[i].upper() == "BY"]
    return bool(by) and "*" not in by[-1]


def shape(reply):
    if isinstance(reply, list):
        return "[" + ",".join(sorted(shape(item) for item in reply)) + "]"
    return "null" if reply is None else "value"


def shown(args):
    return " ".join(arg if isinstance(arg, str) and arg else repr(arg) for arg in args)


def equal(args, ours, theirs):
    name = args[0].upper()
    if name in TIMES and isinstance(ours, int) and isinstance(theirs, int) and min(ours, theirs) >= 0:
        return abs(ours - theirs) <= (SKEW_MS if name.startswith("P") else SKEW_MS // 1000)
    return comparable(args, ours) == comparable(args, theirs)


def compares_times(args):
    """Whether a command compares a time from now on with the one that a key has: the two clocks are read a moment apart."""
    return args[0].upper() in ("EXPIRE", "PEXPIRE") and bool({"GT", "LT"} & {arg.upper() for arg in args[3:]})


def is_skew(args, ours, theirs, clients):
    """Whether such a command was judged otherwise only since that moment lies between. Then the key has the same time left on both sides,
    whichever was kept: that is looked at, before anything else is done."""
    if not compares_times(args) or {repr(ours), repr(theirs)} != {"0", "1"}:
        return False
    left = [client.ask("PTTL", args[1]) for client in clients]
    return all(isinstance(time, int) and time > 0 for time in left) and abs(left[0] - left[1]) <= SKEW_MS


BEHIND_DELETED = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"


def accepted(args, ours, theirs):
    """Whether the replies differ because they are meant to; kevy speaks as 7.2 does, and redis-server may be 7.0."""
    name = args[0].upper()
    # 7.2: arguments are looked at before the key, so a wrong one is an error for a missing key, too.
    if name in ("BITCOUNT", "BITPOS") and isinstance(ours, Failed):
        return True
    # A cursor that nobody gave out.
    if name in SCANS and name != "SCAN" and args[2:3] != ["0"] and not isinstance(ours, Failed):
        return True
    # Members that are equally far have no order.
    if name.startswith("GEO") and "WITHDIST" in args and isinstance(ours, list) and isinstance(theirs, list):
        distances = [[item[1] for item in reply if isinstance(item, list)] for reply in (ours, theirs)]
        return len(ours) == len(theirs) == len(distances[0]) and distances[0] == distances[1]
    # 7.2: ZRANK … WITHSCORE.
    if name in ("ZRANK", "ZREVRANK") and len(args) > 3:
        return True
    # 7.2: the sentence names the command, and says what may stand for an id.
    unbalanced = [isinstance(reply, Failed) and reply.startswith("ERR Unbalanced ") for reply in (ours, theirs)]
    if name in ("XREAD", "XREADGROUP") and all(unbalanced):
        return True
    # 7.2: it does not go back behind what was deleted; see refused(), too.
    if name == "XSETID" and ours == BEHIND_DELETED and isinstance(theirs, Failed):
        return True
    # See consumers_of().
    return name == "XGROUP" and args[1:2] == ["CREATECONSUMER"] and (ours, theirs) == (0, 1)


def refused(args, ours, theirs):
    """Whether kevy means to do another thing than Redis: from there on they hold different values."""
    # There is one database.
    if args[0].upper() in ("MOVE", "COPY") and ours == "ERR DB index is out of range":
        return True
    # Sums of plain decimals are exact here; there they are rounded to 17 digits.
    if args[0].upper() in ("INCRBYFLOAT", "HINCRBYFLOAT") and number(ours) == number(theirs):
        return True
    # 7.2: XSETID does not go back behind what was deleted.
    if args[0].upper() == "XSETID" and ours == BEHIND_DELETED:
        return True
    # Here PFCOUNT writes no count into the header, which shows bit by bit.
    if args[0].upper() in ("BITCOUNT", "BITPOS", "BITFIELD", "BITFIELD_RO") and "".join(args[1:2]).startswith("p"):
        return True
    # Patterns may name keys anywhere.
    return isinstance(ours, Failed) and ours.startswith("ERR BY and GET patterns of SORT are not possible on a node of")


class Generator:
    def __init__(self, seed, only):
        self.random = random.Random(seed)
        self.dumped = [b"nothing"]
        self.next_id = 0
        self.templates = [line.split() for line in COMMANDS if re.search(only, line)]

    def key(self, kinds):
        r = self.random
        # A range of members means something only where all scores are the same: such sorted sets have names of their own.
        if kinds == "*" or (kinds != "y" and r.random() < 0.06):
            kinds = "shlezpgt"
        return f"{r.choice(kinds)}{r.randrange(4)}"

    def word(self, word, kinds):
        r = self.random
        if word == "DUMPED":
            return r.choice(self.dumped)
        prefix = "(" if word.startswith("(") else ""
        word = word[len(prefix):]
        if word == "K":
            text = self.key(kinds)
        elif word == "V":
            text = r.choice(["v", "foo", "hello", "", "10", "3.5"]) * r.choice([1, 1, 2, 12]) + r.choice(["", "a", "b"])
        elif word == "N":
            text = str(r.randrange(-12, 14))
        elif word == "I":
            text = str(r.randrange(0, 90))
        elif word == "B":
            text = r.choice("01")
        elif word == "F":
            text = str(r.choice([r.randrange(-20, 20), r.randrange(-40, 40) / 4]))
        elif word == "BIG":
            text = str(r.choice([2 ** 63 - 1, -2 ** 63, 12345678901, -5, 300]))
        elif word == "NEXT":
            self.next_id += r.randrange(3)
            text = r.choice([f"{self.next_id}", f"{self.next_id}-{r.randrange(3)}", f"{self.next_id}-*"])
        elif word == "ID":
            text = f"{r.randrange(max(self.next_id, 1))}" + r.choice(["", "-0", "-1"])
        elif word == "SOON":
            text = f"{max(self.next_id - r.randrange(8), 0)}" + r.choice(["", "-0", "-1"])
        elif word == "I-*":
            text = f"{self.next_id + r.randrange(-3, 3)}-*"
        elif word == "G":
            text = r.choice("gh")
        elif word == "C":
            text = r.choice("cde")
        elif word == "M":
            text = f"m{r.randrange(30)}"
        elif word == "MANY":
            text = " ".join(f"{r.random()}" for _ in range(r.choice([20, 90, 400])))
        elif word == "LON":
            text = repr(r.choice([r.uniform(-180, 180), r.uniform(9, 16), r.uniform(9, 16), -180, 180, 0]))
        elif word == "LAT":
            text = repr(r.choice([r.uniform(-85, 85), r.uniform(35, 41), r.uniform(35, 41), 85.05112878, 0]))
        elif word == "DIST":
            text = repr(r.choice([0, 1, 10 ** r.uniform(-1, 7)]))
        elif word == "UNIT":
            text = r.choice(["m", "km", "KM", "ft", "mi"])
        elif word == "E":
            text = str(r.randrange(6))
        elif word.endswith("_E"):
            text = word[:-1] + str(r.randrange(6))
        else:
            text = word
        return prefix + text

    def command(self):
        r = self.random
        kinds, *words = r.choice(self.templates)
        args = [arg for word in words for arg in (self.word(word, kinds).split(" ") if word == "MANY" else [self.word(word, kinds)])]
        chance = r.random()
        if chance < 0.04 and len(args) > 1 and kinds != "y":
            args[r.randrange(1, len(args))] = r.choice(WRONG)
        elif chance < 0.055:
            args.append(r.choice(WRONG))
        elif chance < 0.07 and len(args) > 1:
            args.pop()
        if chance > 0.97:
            args[0] = args[0].lower()
        return args


def consumers_of(args):
    """What makes sure of the consumer that this command speaks for: from 7.2 on it is there though it got nothing, before that it is not."""
    name = args[0].upper()
    keys = []
    if name in ("XCLAIM", "XAUTOCLAIM") and len(args) > 3:
        keys, group = args[1:2], args[2:4]
    elif name == "XREADGROUP" and len(args) > 5 and "STREAMS" in args:
        keys, group = args[args.index("STREAMS") + 1:], args[2:4]
    return [["XGROUP", "CREATECONSUMER", key, *group] for key in keys if re.fullmatch(r"[shlezypgt]\d", key)]


# Replies and strings of many megabytes, keys that are gone after a millisecond, times to live whose end is no number there: these never
# go out.
def is_too_much(args):
    name = args[0].upper()
    if name == "RESTORE" and args[2:3] in (["1"], ["9223372036854775807"]):
        return True
    huge = lambda text: isinstance(text, str) and re.fullmatch(r"-?\d{6,}", text) is not None
    if name in BY_CHANCE and len(args) > 2 and huge(args[2]):
        return abs(int(args[2])) < 2 ** 62
    return name in ("SETRANGE", "SETBIT", "BITFIELD", "GETBIT") and any(map(huge, args[2:3] + args[4:5]))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.025)
    sys.exit(f"{command[0]} did not start")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kevy", default="target/debug/kevy")
    parser.add_argument("--redis", default=os.environ.get("REDIS", "redis-server"))
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--resp", type=int, default=2, choices=[2, 3])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", type=int, default=40_000)
    parser.add_argument("--list", action="store_true", help="compare COMMAND LIST instead: what is missing is in docs/commands.md")
    parser.add_argument("--only", default="")
    parser.add_argument("--differences", type=int, default=20, help="give up after so many")
    options = parser.parse_args()
    for program in (options.kevy, options.redis):
        if not shutil.which(program):
            print(f"there is no {program}", file=sys.stderr)
            return 2
    ports = free_port(), free_port()
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            processes.append(start([options.kevy, "serve", "--port", str(ports[0]), "--shards", str(options.shards),
                                    "--cpus", "off", "--role", "standalone", "--dir", directory], ports[0]))
            processes.append(start([options.redis, "--port", str(ports[1]), "--save", "", "--dir", directory], ports[1]))
            clients = [Client(port, options.resp) for port in ports]
            return lists(*clients) if options.list else compare(options, *clients)
        finally:
            for process in processes:
                process.terminate()
                process.wait()


def lists(ours, theirs):
    """Every command of redis-server is here, or the documentation says why not."""
    ours, theirs = ({name.decode().upper().replace("|", " ") for name in client.ask("COMMAND", "LIST")} for client in (ours, theirs))
    missing = theirs - ours
    page = os.path.join(os.path.dirname(__file__), "..", "docs", "commands.md")
    with open(page, encoding="utf-8") as file:
        reasons = file.read().split("## What is not there")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in reasons.splitlines() if line.startswith("| `")]
    explained = set(re.findall(r"`([A-Z_ -]+)`", " ".join(rows)))
    # What is not there has no subcommands either.
    explained |= {name for name in missing if name.split()[0] in explained}
    for name in sorted(missing - explained):
        print(f"{name} is missing, and docs/commands.md does not say why")
    for name in sorted(explained & ours):
        print(f"{name} is there, and docs/commands.md says it is not")
    print(f"{len(ours)} commands here, with their subcommands, {len(theirs & ours)} of redis-server's {len(theirs)}; "
          f"{len(missing)} are missing, {len(missing & explained)} of them with a reason")
    return 0 if missing <= explained and not explained & ours else 1


def compare(options, ours, theirs):
    generator = Generator(options.seed, options.only)
    seen, history, differences = {}, [], 0
    sent = 0
    while sent < options.commands:
        commands = []
        while len(commands) < 50 and not (commands and compares_times(commands[-1])):
            args = generator.command()
            if not is_too_much(args):
                commands.append(args)
                commands += consumers_of(args)
        sent += len(commands)
        for args, a, b in zip(commands, ours.pipe(commands), theirs.pipe(commands)):
            if args[0].upper() == "DUMP":
                # The payloads are not the same bytes, but each side must read the other's.
                generator.dumped += [payload for payload in (a, b) if isinstance(payload, bytes)]
                generator.dumped = generator.dumped[-200:]
                a, b = shape(a), shape(b)
            history = history[-400:] + [args]
            seen[args[0].upper()] = seen.get(args[0].upper(), 0) + 1
            if equal(args, a, b) or accepted(args, a, b) or is_skew(args, a, b, (ours, theirs)):
                continue
            if refused(args, a, b):
                ours.ask("FLUSHALL"), theirs.ask("FLUSHALL")
                break
            differences += 1
            print(f"{shown(args)}\n    kevy  {a!r:.500}\n    redis {b!r:.500}")
            keys = {arg for arg in args[1:] if isinstance(arg, str) and re.fullmatch(r"[shlezypgt]\d", arg)}
            for before in [h for h in history[:-1] if keys & set(h)][-6:]:
                print(f"    after {shown(before):.200}")
            # From here on they hold different things.
            ours.ask("FLUSHALL"), theirs.ask("FLUSHALL")
            break
        if differences >= options.differences:
            break
        if generator.random.random() < 0.01:
            ours.ask("FLUSHALL"), theirs.ask("FLUSHALL")
    print(f"seed {options.seed}, {options.shards} shard(s), RESP{options.resp}: {sent} commands of {len(seen)} names, "
          f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
