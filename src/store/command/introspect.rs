//! `COMMAND`: what clients ask about the table.

use super::refusal::{Refusal, SYNTAX};
use super::table::{self, Flags, Spec};
use super::{docs, glob};
use crate::resp::Reply;
use crate::wire::Argv;

/// Answers `COMMAND [COUNT | INFO name… | DOCS name… | LIST [FILTERBY …] | GETKEYS command… | GETKEYSANDFLAGS command…]`.
pub fn command(argv: Argv<'_>, reply: &mut Reply<'_>) {
    let Some(sub) = argv.get(1) else {
        reply.array(table::all().len());
        return table::all().iter().for_each(|spec| describe(spec, reply));
    };
    match sub.to_ascii_lowercase().as_slice() {
        b"count" if argv.len() == 2 => reply.count(table::all().len()),
        b"list" => match filter(argv) {
            Some(filter) => {
                let listed: Vec<&Spec> = table::all().iter().filter(|spec| filter.takes(spec)).collect();
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
                match table::find(name) {
                    Some(spec) => describe(spec, reply),
                    None => reply.null_array(),
                }
            }
        }
        b"docs" => {
            let named = argv.skip(2);
            let wanted = |spec: &&Spec| named.is_empty() || named.iter().any(|name| is(spec, name));
            let specs: Vec<&Spec> = table::all().iter().filter(wanted).collect();
            reply.map(specs.len());
            specs.iter().for_each(|spec| explain(spec, reply));
        }
        b"getkeys" if argv.len() > 2 => get_keys(argv.skip(2), false, reply),
        b"getkeysandflags" if argv.len() > 2 => get_keys(argv.skip(2), true, reply),
        b"help" if argv.len() == 2 => {
            reply.array(HELP.len());
            HELP.iter().for_each(|line| reply.simple(line));
        }
        other => reply.error(Refusal::UnknownSubcommand("command", other.escape_ascii().to_string())),
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

fn is(spec: &Spec, name: &[u8]) -> bool {
    spec.name.as_bytes().eq_ignore_ascii_case(name)
}

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

/// The categories of a command, as Redis calls them.
fn categories(spec: &Spec) -> Vec<String> {
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

/// Two elements: the name, and a map of what there is to be known.
fn explain(spec: &Spec, reply: &mut Reply<'_>) {
    let (group, doc) = docs::find(spec.name).map_or(("generic", None), |(group, doc)| (group, Some(doc)));
    reply.bulk(spec.name.as_bytes());
    reply.map(4);
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
    let Some(spec) = table::find(argv.arg(0)) else {
        return reply.error("ERR Invalid command specified");
    };
    if !spec.fits(argv.len()) {
        return reply.error("ERR Invalid number of arguments specified for command");
    }
    let keys = spec.keys(argv);
    if keys.len() == 0 {
        return reply.error("ERR The command has no key arguments");
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

/// Ten elements: name, arity, flags, first key, last key, step, categories, and three empty ones (hints, key specifications,
/// subcommands).
fn describe(spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    reply.set(spec.flags.names().count());
    spec.flags.names().for_each(|name| reply.simple(name));
    reply.integer(i64::from(spec.keys.first));
    reply.integer(i64::from(spec.keys.last));
    reply.integer(i64::from(spec.keys.step));
    let categories = categories(spec);
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.simple(name));
    reply.array(0);
    reply.array(0);
    reply.array(0);
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
             *0\r\n*0\r\n*0\r\n*-1\r\n"
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
        assert_eq!(count(answer("COMMAND LIST")), table::all().len());
        assert_eq!(count(answer("COMMAND LIST FILTERBY MODULE any")), 0);
        assert!(answer("COMMAND LIST FILTERBY PATTERN l*").contains("\nlpop\r"));
        assert!(!answer("COMMAND LIST FILTERBY ACLCAT list").contains("\nget\r"));
        assert!(count(answer("COMMAND LIST FILTERBY ACLCAT list")) > 10);
        assert_eq!(answer("COMMAND LIST FILTERBY NOTHING x"), "-ERR syntax error\r\n");
        assert_eq!(
            answer("COMMAND GETKEYSANDFLAGS LMOVE a b LEFT LEFT"),
            "*2\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+RW\r\n+insert\r\n"
        );
        assert_eq!(answer("COMMAND NOPE"), "-ERR unknown subcommand 'nope'. Try COMMAND HELP.\r\n");
    }
}
