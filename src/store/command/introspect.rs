//! `COMMAND`: what clients ask about the table.

use super::refusal::SYNTAX;
use super::table::{self, Flags, Spec};
use super::{docs, glob};
use crate::resp::Reply;
use crate::wire::Argv;

/// Answers `COMMAND [COUNT | INFO name… | DOCS name… | LIST [FILTERBY …] | GETKEYS command… | GETKEYSANDFLAGS command… | HELP]`, of whose arguments
/// there are enough.
pub fn command(argv: Argv<'_>, reply: &mut Reply<'_>) {
    let Some(sub) = argv.get(1) else {
        reply.array(table::all().len());
        return table::all().iter().for_each(|spec| describe(spec, reply));
    };
    match sub.to_ascii_lowercase().as_slice() {
        b"count" => reply.count(table::all().len()),
        b"list" => match filter(argv) {
            Some(filter) => {
                let listed: Vec<&Spec> = table::all_named().filter(|spec| filter.takes(spec)).collect();
                reply.array(listed.len());
                listed.iter().for_each(|spec| reply.bulk(spec.name.as_bytes()));
            }
            None => reply.error(SYNTAX),
        },
        b"info" if argv.len() == 2 => {
            reply.array(table::all().len());
            table::all().iter().for_each(|spec| describe(spec, reply));
        }
        b"info" => {
            reply.array(argv.len() - 2);
            for name in argv.skip(2).iter() {
                match table::find_named(name) {
                    Some(spec) => describe(spec, reply),
                    None => reply.null(),
                }
            }
        }
        b"docs" => {
            let specs: Vec<&Spec> = match argv.len() {
                2 => table::all().iter().collect(),
                _ => argv.skip(2).iter().filter_map(table::find_named).collect(),
            };
            reply.map(specs.len());
            specs.iter().for_each(|spec| explain(spec, reply));
        }
        b"getkeys" => get_keys(argv.skip(2), false, reply),
        b"getkeysandflags" => get_keys(argv.skip(2), true, reply),
        _ => reply.lines(&HELP),
    }
}

const HELP: [&str; 7] = [
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNT",
    "LIST [FILTERBY <ACLCAT category|MODULE name|PATTERN pattern>]",
    "INFO [<command> ...]",
    "DOCS [<command> ...]",
    "GETKEYS <command>",
    "GETKEYSANDFLAGS <command>",
];

/// Which commands `COMMAND LIST` shows.
enum Filter {
    All,
    None,
    Category(Vec<u8>),
    Pattern(Vec<u8>),
}

fn filter(argv: Argv<'_>) -> Option<Filter> {
    match argv.len() {
        2 => return Some(Filter::All),
        5 if argv.arg(2).eq_ignore_ascii_case(b"filterby") => {}
        _ => return None,
    }
    let value = argv.arg(4).to_ascii_lowercase();
    match argv.arg(3).to_ascii_lowercase().as_slice() {
        // There are no modules.
        b"module" => Some(Filter::None),
        b"aclcat" => Some(Filter::Category(value)),
        b"pattern" => Some(Filter::Pattern(value)),
        _ => None,
    }
}

impl Filter {
    fn takes(&self, spec: &Spec) -> bool {
        match self {
            Filter::All => true,
            Filter::None => false,
            Filter::Category(name) => categories(spec).iter().any(|category| category.as_bytes()[1..] == **name),
            Filter::Pattern(pattern) => glob::fits(pattern, spec.name.as_bytes()),
        }
    }
}

/// The categories of a command, as Redis calls them. One that does nothing but what its subcommands do has only its speed.
fn categories(spec: &Spec) -> Vec<String> {
    if is_only_container(spec) {
        return vec!["@slow".to_owned()];
    }
    let mut categories = Vec::new();
    for (flag, name) in [
        (Flags::WRITE, "@write"),
        (Flags::READONLY, "@read"),
        (Flags::ADMIN, "@admin"),
        (Flags::ADMIN, "@dangerous"),
        (Flags::BLOCKING, "@blocking"),
    ] {
        if spec.flags.has(flag) {
            categories.push(name.to_owned());
        }
    }
    let group = match docs::find(spec.name).map(|(group, _)| group) {
        Some("generic") => "@keyspace".to_owned(),
        Some("sorted-set") => "@sortedset".to_owned(),
        Some("transactions") => "@transaction".to_owned(),
        Some("server" | "cluster") | None => String::new(),
        Some(group) => format!("@{group}"),
    };
    categories.extend(Some(group).filter(|group| !group.is_empty()));
    categories.push(if spec.flags.has(Flags::FAST) { "@fast" } else { "@slow" }.to_owned());
    categories
}

/// Whether there is nothing to be executed but its subcommands.
fn is_only_container(spec: &Spec) -> bool {
    spec.has_subcommands() && !spec.fits(1)
}

/// Two elements: the name, and a map of what there is to be known.
fn explain(spec: &Spec, reply: &mut Reply<'_>) {
    let (group, doc) = docs::find(spec.name).map_or(("generic", None), |(group, doc)| (group, Some(doc)));
    reply.bulk(spec.name.as_bytes());
    let subcommands = spec.subcommands();
    reply.map(4 + usize::from(!subcommands.is_empty()));
    for (field, value) in [
        ("summary", doc.map_or("", |doc| doc.summary)),
        ("since", doc.map_or("1.0.0", |doc| doc.since)),
        ("group", group),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"arity");
    reply.integer(i64::from(spec.arity));
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        subcommands.iter().for_each(|sub| explain(sub, reply));
    }
}

/// What a command does with its key number `key`, as Redis says it.
fn uses(spec: &Spec, key: usize) -> &'static [&'static str] {
    match spec.name {
        "lmove" | "rpoplpush" | "blmove" | "brpoplpush" | "smove" if key == 0 => &["RW", "access", "delete"],
        "lmove" | "rpoplpush" | "blmove" | "brpoplpush" | "smove" => &["RW", "insert"],
        "rename" | "renamenx" if key == 0 => &["RW", "access", "delete"],
        // What is stored comes last with SORT and GEORADIUS, and else first; COPY copies from the first to the second.
        "sort" | "copy" | "georadius" | "georadiusbymember" if key == 0 => &["RO", "access"],
        "sort" | "copy" | "georadius" | "georadiusbymember" => &["OW", "update"],
        _ if spec.name == "bitop" || spec.name.ends_with("store") => {
            if key == 0 {
                &["OW", "update"]
            } else {
                &["RO", "access"]
            }
        }
        "del" | "unlink" => &["RM", "delete"],
        "set" | "setex" | "psetex" | "mset" | "msetnx" | "setnx" | "restore" => &["OW", "update"],
        "lpop" | "rpop" | "spop" | "getdel" | "zpopmin" | "zpopmax" | "lmpop" | "zmpop" | "blpop" | "brpop"
        | "blmpop" | "bzpopmin" | "bzpopmax" | "bzmpop" | "hgetdel" => &["RW", "access", "delete"],
        "lpush" | "rpush" | "lpushx" | "rpushx" | "sadd" | "linsert" => &["RW", "insert"],
        "srem" | "hdel" | "zrem" | "lrem" | "ltrim" | "xdel" | "xtrim" => &["RW", "delete"],
        "getset" | "incr" | "decr" | "incrby" | "decrby" | "incrbyfloat" | "hincrby" | "hincrbyfloat" | "getex"
        | "hgetex" => &["RW", "access", "update"],
        _ if spec.writes() => &["RW", "update"],
        _ => &["RO", "access"],
    }
}

fn get_keys(argv: Argv<'_>, with_flags: bool, reply: &mut Reply<'_>) {
    let Some(spec) = table::find(argv.arg(0)).and_then(|spec| spec.named(argv).ok()) else {
        return reply.error("ERR Invalid command specified");
    };
    if !spec.keys.are_some() {
        return reply.error("ERR The command has no key arguments");
    }
    if !spec.fits(argv.len()) {
        return reply.error("ERR Invalid number of arguments specified for command");
    }
    let keys = spec.keys(argv);
    if keys.len() == 0 {
        return reply.error("ERR Invalid arguments specified for command");
    }
    reply.array(keys.len());
    for (key, index) in keys.enumerate() {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(argv.arg(index));
        if with_flags {
            let uses = uses(spec, key);
            reply.set(uses.len());
            uses.iter().for_each(|word| reply.simple(word));
        }
    }
}

/// Ten elements: name, arity, flags, first key, last key, step, categories, two empty ones (hints, key specifications), and the same of
/// each subcommand.
fn describe(spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    let (flags, keys) = match is_only_container(spec) {
        true => (Flags::NONE, table::NO_KEYS),
        false => (spec.flags, spec.keys),
    };
    let movable = keys.are_movable().then_some("movablekeys");
    let flags: Vec<&str> = flags.names().chain(movable).collect();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.simple(name));
    for number in [i64::from(keys.first), i64::from(keys.last), i64::from(keys.step)] {
        // Where there are none, one is no distance.
        reply.integer(if keys.first == 0 { 0 } else { number });
    }
    let categories = categories(spec);
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.simple(name));
    reply.array(0);
    reply.array(0);
    reply.array(spec.subcommands().len());
    spec.subcommands().iter().for_each(|sub| describe(sub, reply));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Protocol, decode_multibulk};
    use crate::wire::Command;

    fn answer(args: &str) -> String {
        let encoded = Command::new(&args.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        decode_multibulk(encoded.as_bytes(), &mut ranges).unwrap();
        let mut out = Vec::new();
        command(Argv::new(encoded.as_bytes(), &ranges), &mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn clients_learn_what_the_table_says() {
        assert_eq!(answer("COMMAND COUNT"), format!(":{}\r\n", table::all().len()));
        assert_eq!(
            answer("COMMAND INFO get nosuch"),
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n\
             *0\r\n*0\r\n*0\r\n$-1\r\n"
        );
        assert_eq!(answer("COMMAND GETKEYS MSET a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(answer("COMMAND GETKEYS PING"), "-ERR The command has no key arguments\r\n");
        assert_eq!(
            answer("COMMAND DOCS get nosuch"),
            "*2\r\n$3\r\nget\r\n*8\r\n$7\r\nsummary\r\n$33\r\nReturns the string value of a key\r\n$5\r\nsince\r\n\
             $5\r\n1.0.0\r\n$5\r\ngroup\r\n$6\r\nstring\r\n$5\r\narity\r\n:2\r\n"
        );
        let count = |text: String| text[1..].split("\r\n").next().unwrap().parse::<usize>().unwrap();
        assert_eq!(count(answer("COMMAND DOCS")), 2 * table::all().len());
        assert_eq!(count(answer("COMMAND LIST")), table::rows());
        assert!(answer("COMMAND LIST").contains("\nconfig|get\r"));
        assert_eq!(count(answer("COMMAND LIST FILTERBY PATTERN xinfo*")), 5);
        assert!(answer("COMMAND LIST FILTERBY ACLCAT admin").contains("\nconfig|set\r"));
        assert!(!answer("COMMAND LIST FILTERBY ACLCAT admin").contains("\nconfig\r"));
        assert_eq!(count(answer("COMMAND LIST FILTERBY MODULE any")), 0);
        assert!(answer("COMMAND LIST FILTERBY PATTERN l*").contains("\nlpop\r"));
        assert!(!answer("COMMAND LIST FILTERBY ACLCAT list").contains("\nget\r"));
        assert!(count(answer("COMMAND LIST FILTERBY ACLCAT list")) > 10);
        assert_eq!(answer("COMMAND LIST FILTERBY NOTHING x"), "-ERR syntax error\r\n");
        assert_eq!(
            answer("COMMAND GETKEYSANDFLAGS LMOVE a b LEFT LEFT"),
            "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+RW\r\n+insert\r\n"
        );
        assert_eq!(answer("COMMAND GETKEYS memory usage k"), "*1\r\n$1\r\nk\r\n");
        assert_eq!(answer("COMMAND GETKEYS config nope"), "-ERR Invalid command specified\r\n");
        assert_eq!(answer("COMMAND GETKEYS zinter 0 a b"), "-ERR Invalid arguments specified for command\r\n");
        assert_eq!(
            answer("COMMAND INFO config|get"),
            "*1\r\n*10\r\n$10\r\nconfig|get\r\n:-3\r\n*3\r\n+admin\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n\
             *3\r\n+@admin\r\n+@dangerous\r\n+@slow\r\n*0\r\n*0\r\n*0\r\n"
        );
        assert!(
            answer("COMMAND INFO object").starts_with("*1\r\n*10\r\n$6\r\nobject\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n")
        );
        assert!(answer("COMMAND INFO object").contains("*0\r\n*5\r\n*10\r\n$15\r\nobject|encoding\r\n:3\r\n"));
        assert!(answer("COMMAND INFO zunionstore").contains("+movablekeys\r\n:1\r\n:1\r\n:1\r\n"));
        assert!(answer("COMMAND DOCS CONFIG|GET").starts_with("*2\r\n$10\r\nconfig|get\r\n*8\r\n$7\r\nsummary\r\n"));
        assert!(answer("COMMAND DOCS slowlog").contains("$11\r\nsubcommands\r\n*8\r\n$11\r\nslowlog|get\r\n*8\r\n"));
    }
}
