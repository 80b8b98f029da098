//! `COMMAND`: what clients ask about the table.

use super::refusal::Refusal;
use super::table::{self, Spec};
use crate::resp::Reply;
use crate::wire::Argv;

/// Answers `COMMAND [COUNT | INFO name… | DOCS name… | LIST | GETKEYS command…]`.
pub fn command(argv: Argv<'_>, reply: &mut Reply<'_>) {
    let Some(sub) = argv.get(1) else {
        reply.array(table::all().len());
        return table::all().iter().for_each(|spec| describe(spec, reply));
    };
    match sub.to_ascii_lowercase().as_slice() {
        b"count" if argv.len() == 2 => reply.count(table::all().len()),
        b"list" if argv.len() == 2 => {
            reply.array(table::all().len());
            table::all().iter().for_each(|spec| reply.bulk(spec.name.as_bytes()));
        }
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
        b"docs" => reply.map(0),
        b"getkeys" if argv.len() > 2 => get_keys(argv.skip(2), reply),
        other => reply.error(Refusal::UnknownSubcommand("command", other.escape_ascii().to_string())),
    }
}

fn get_keys(argv: Argv<'_>, reply: &mut Reply<'_>) {
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
    keys.for_each(|index| reply.bulk(argv.arg(index)));
}

/// Ten elements: name, arity, flags, first key, last key, step, and four empty ones (categories, hints, key
/// specifications, subcommands).
fn describe(spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(i64::from(spec.arity));
    reply.set(spec.flags.names().count());
    spec.flags.names().for_each(|name| reply.simple(name));
    reply.integer(i64::from(spec.keys.first));
    reply.integer(i64::from(spec.keys.last));
    reply.integer(i64::from(spec.keys.step));
    reply.set(0);
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
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n*-1\r\n"
        );
        assert_eq!(answer("COMMAND GETKEYS MSET a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(answer("COMMAND GETKEYS PING"), "-ERR The command has no key arguments\r\n");
        assert_eq!(answer("COMMAND DOCS get"), "*0\r\n");
        assert_eq!(answer("COMMAND NOPE"), "-ERR unknown subcommand 'nope'. Try COMMAND HELP.\r\n");
    }
}
