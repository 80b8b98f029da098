//! `PING` and `ECHO`: what needs no key at all. They are executed among those that have keys, so that a pipeline with a `PING` in it is
//! executed, and timed, as one.

use super::{Context, NOTHING, Outcome, Refusal};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::wire::Argv;

pub(super) fn ping(_: &mut Context<'_>, _: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    match argv.get(1) {
        None => reply.simple("PONG"),
        Some(text) if argv.len() == 2 => reply.bulk(text),
        Some(_) => return Err(Refusal::Arity("ping")),
    }
    NOTHING
}

pub(super) fn echo(_: &mut Context<'_>, _: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(argv.arg(1));
    NOTHING
}
