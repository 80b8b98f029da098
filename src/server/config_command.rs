//! `CONFIG`: the settings, as clients see and change them.

use std::rc::Rc;
use std::sync::Arc;

use super::names::{self, Unchangeable};
use super::node::Node;
use super::rewrite;
use super::settings;
use crate::resp::{Protocol, Reply};
use crate::runtime::local::{Local, Rates};
use crate::runtime::watchdog::Progress;
use crate::store::command::refusal::SYNTAX;
use crate::wire::Argv;

/// Executes `CONFIG`.
pub(super) async fn execute(local: &Rc<Local>, node: &Rc<Node>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = argv.arg(1).to_ascii_lowercase();
    let mut reply = Reply::new(out, protocol);
    match (sub.as_slice(), argv.len()) {
        (b"get", 3..) => {
            let patterns: Vec<&[u8]> = argv.iter().skip(2).collect();
            let fitting = names::fitting(node.settings.borrow().config(), &patterns);
            reply.map(fitting.len());
            for setting in fitting {
                reply.bulk(setting.name.as_bytes());
                reply.bulk(setting.value.as_bytes());
            }
        }
        (b"set", 4..) if argv.len().is_multiple_of(2) => {
            let done = set(local, node, argv).await;
            let mut reply = Reply::new(out, protocol);
            match done {
                Ok(()) => reply.ok(),
                Err(why) => reply.error(why),
            }
        }
        (b"rewrite", 2) => {
            let done = rewrite(local, node).await;
            let mut reply = Reply::new(out, protocol);
            match done {
                Ok(()) => reply.ok(),
                Err(why) => reply.error(format_args!("ERR {why}")),
            }
        }
        (b"resetstat", 2) => {
            local.executor().health().iter().for_each(Progress::reset_turns);
            local
                .call_all(|local| {
                    local.core().reset_counters();
                    local.gauges.accepted.set(0);
                    local.gauges.received.set(0);
                    local.gauges.sent.set(0);
                    local.gauges.rates.set(Rates::default());
                })
                .await;
            Reply::new(out, protocol).ok();
        }
        (b"help", 2) => reply.lines(&HELP),
        // A name without its value.
        _ => reply.error(SYNTAX),
    }
}

const HELP: [&str; 9] = [
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Return the settings whose names fit, with their values.",
    "SET <name> <value> [<name> <value> ...]",
    "    Change settings: all of them, or none.",
    "REWRITE",
    "    Write what the node does now to its configuration file.",
    "RESETSTAT",
    "    Begin the counters of INFO anew.",
];

async fn set(local: &Rc<Local>, node: &Node, argv: Argv<'_>) -> Result<(), Unchangeable> {
    let text = |index: usize| String::from_utf8_lossy(argv.arg(index)).into_owned();
    let pairs: Vec<(String, String)> = (2..argv.len()).step_by(2).map(|at| (text(at), text(at + 1))).collect();
    let config = Arc::clone(node.settings.borrow().config());
    let changes = names::changes(&config, &pairs)?;
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let most = node.shared.maxclients_most;
    if let Some((_, wanted)) = changes.iter().find(|(key, _)| *key == "maxclients")
        && wanted.parse::<u64>().is_ok_and(|wanted| wanted > most)
    {
        let why = format!("the limit of open files (ulimit -n) has room for {most}");
        return Err(Unchangeable::Refused("maxclients".into(), why));
    }
    settings::change(local, changes).await.map_err(|error| {
        let key = error.key().replace('_', "-");
        // By the name that the client used, where it used another.
        let name = names.iter().find(|name| name.eq_ignore_ascii_case(&key)).or(names.first());
        Unchangeable::Refused(name.map_or(key.clone(), |name| (*name).to_owned()), error.to_string())
    })?;
    // The values may be passwords.
    tracing::info!(settings = names.join(","), "CONFIG SET");
    Ok(())
}

async fn rewrite(local: &Local, node: &Node) -> Result<(), String> {
    let config = Arc::clone(node.settings.borrow().config());
    let Some(file) = config.file.clone() else {
        return Err("The server is running without a config file".into());
    };
    let shared = Arc::clone(&node.shared);
    let done = local.executor().blocking(move || rewrite::rewrite(&file, &config, &shared.machine)).await;
    done.map(|()| tracing::info!("CONFIG REWRITE")).map_err(|error| format!("Rewriting config file: {error}"))
}
