//! The command line: `kevy [serve] [flags]`. One flag for each key of [`KEYS`], so that neither can forget the other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use super::config::{Config, HostPort, KEYS, Machine};
use super::{Failure, bench, check, demo};

/// A Redis-protocol server whose replication runs shard by shard.
#[derive(Parser)]
#[command(name = "kevy", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    action: Option<Subcommands>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run a node: what kevy does when nothing else is said
    Serve(Serve),
    /// Show a primary and a replica under load: a cut link, a freeze, a kill, and the proof that both are equal
    Demo(Demo),
    /// Measure what a stream costs the shards at both ends: frames a second, CPU a frame, lag
    Bench(bench::Raw),
    /// Compare two nodes, hash slot by hash slot, also while they are written to
    #[command(after_help = CHECK_HELP)]
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// The client port of one node
    #[arg(value_name = "HOST:PORT")]
    first: String,
    /// The client port of another
    #[arg(value_name = "HOST:PORT")]
    second: String,
}

const CHECK_HELP: &str = "\
Nodes of one history, a primary and its replica or two replicas of one primary, are compared at the same points of it.
Others are compared while they rest. Nothing is changed on either.

Exit codes: 0 equal, 1 different (the slots are named), 2 usage, 3 cannot compare (one line says why)";

#[derive(Args)]
struct Demo {
    /// Alter one value on the replica, to see that it is found: ends with 1
    #[arg(long)]
    spoil: bool,
    /// Write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    /// Read the configuration from this file; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as info,kevy_replicate=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
    #[command(flatten)]
    keys: KeyFlags,
}

/// The flags that are keys of the file, too: the name of each key that was given, and its text.
struct KeyFlags(Vec<(&'static str, String)>);

/// What a person asked for.
pub(super) enum Action {
    /// Run a node.
    Serve {
        /// How.
        config: Box<Config>,
        /// What to log, as `tracing-subscriber` reads it.
        log: String,
    },
    /// Show what replication does.
    Demo(demo::Options),
    /// Measure streams.
    Bench(bench::Options),
    /// Compare two nodes.
    Check(check::Options),
    /// Print this text: help, or the version.
    Print(String),
}

/// Reads the command line, and the file that it names.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>, machine: &Machine) -> Result<Action, Failure> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Action::Print(error.render().to_string()));
        }
        Err(error) => return Err(Failure::Usage(one_line(&error))),
    };
    let serve = match cli.action {
        None => cli.serve,
        Some(Subcommands::Serve(serve)) => serve,
        Some(Subcommands::Demo(Demo { spoil, json })) => return Ok(Action::Demo(demo::Options { spoil, json })),
        Some(Subcommands::Bench(raw)) => {
            return Ok(Action::Bench(bench::Options::read(raw, machine.parallelism)?));
        }
        Some(Subcommands::Check(Check { first, second })) => {
            return Ok(Action::Check(check::Options { nodes: [node(&first)?, node(&second)?] }));
        }
    };
    let file = match &serve.config {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut config = Config::read(file, &serve.keys.0, machine).map_err(|error| Failure::Usage(error.to_string()))?;
    // As it is from here, wherever the process may go.
    config.file = serve.config.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    Ok(Action::Serve { config: Box::new(config), log: serve.log })
}

fn node(text: &str) -> Result<HostPort, Failure> {
    text.parse().map_err(|()| Failure::Usage(format!("{text:?}: must be HOST:PORT, the client port of a node")))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("--config {:?}: must be a readable file: {error}", path.display())))
}

/// The first line of what clap says; the usage that follows it is in the help.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{}; see kevy --help", line.strip_prefix("error: ").unwrap_or(line))
}

impl Args for KeyFlags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| {
            let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
            let mut arg = Arg::new(key.name)
                .long(key.name.replace('_', "-"))
                .value_name(key.value)
                .help(format!("{}{default}", key.help))
                .help_heading(format!("[{}]", key.section))
                .allow_hyphen_values(true);
            if let Some(alias) = key.alias {
                arg = arg.visible_alias(alias);
            }
            if key.is_switch() {
                arg = arg.num_args(0..=1).default_missing_value("true");
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<KeyFlags, clap::Error> {
        let given = |key: &'static str| matches.get_one::<String>(key).map(|value| (key, value.clone()));
        Ok(KeyFlags(KEYS.iter().filter_map(|key| given(key.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(args: &[&str]) -> Result<Action, Failure> {
        let machine = Machine { cpus: vec![0, 1], parallelism: 2 };
        parse(std::iter::once("kevy").chain(args.iter().copied()).map(OsString::from), &machine)
    }

    fn config(args: &[&str]) -> Config {
        match run(args) {
            Ok(Action::Serve { config, .. }) => *config,
            Ok(Action::Demo(_) | Action::Bench(_) | Action::Check(_)) => panic!("no node"),
            Ok(Action::Print(text)) => panic!("printed {text}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    fn refused(args: &[&str]) -> String {
        match run(args) {
            Err(failure @ Failure::Usage(_)) => failure.to_string(),
            Err(other) => panic!("{other:?} is no usage error"),
            Ok(_) => panic!("{args:?} was accepted"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_may_be_left_out() {
        assert_eq!(config(&["--port", "7000"]), config(&["serve", "--port", "7000"]));
        assert_eq!(config(&[]), config(&["serve"]));
    }

    #[test]
    fn every_key_is_a_flag() {
        for key in KEYS {
            let flag = format!("--{}", key.name.replace('_', "-"));
            assert_eq!(config(&[&flag, key.default]), config(&[]), "{flag}");
        }
        let config = config(&["--replication-buffer-size", "64mb", "--threads=3", "--accept-empty-primary"]);
        assert_eq!(config.replication_buffer_size, 64 << 20);
        assert_eq!(config.shards.get(), 3);
        assert!(config.accept_empty_primary);
    }

    #[test]
    fn bad_usage_is_one_line() {
        for (args, line) in [
            (&["--prot", "1"][..], "unexpected argument '--prot' found; see kevy --help"),
            (&["--port", "x"], "--port \"x\": must be a whole number from 1 to 65535"),
            (&["--port", "-5"], "--port \"-5\": must be a whole number from 1 to 65535"),
            (&["--promote-gather-ms", "1"], "unexpected argument '--promote-gather-ms' found; see kevy --help"),
            (&["dance"], "unrecognized subcommand 'dance'; see kevy --help"),
            (
                &["--config", "/no/such.toml"],
                "--config \"/no/such.toml\": must be a readable file: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(refused(args), line);
        }
        let twice = refused(&["--port", "1", "--port", "2"]);
        assert!(twice.contains("--port") && !twice.contains('\n'), "{twice}");
    }

    #[test]
    fn a_file_is_read_and_flags_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kevy.toml");
        std::fs::write(&path, "[server]\nport = 7000\nmaxclients = 5\n").unwrap();
        let path = path.to_str().unwrap();
        let config = config(&["serve", "--config", path, "--port", "7001"]);
        assert_eq!((config.port, config.maxclients), (7001, 5));
    }

    #[test]
    fn a_demonstration_has_two_flags_and_none_of_a_node() {
        let Ok(Action::Demo(options)) = run(&["demo"]) else { panic!("no demonstration") };
        assert!(!options.spoil && options.json.is_none());
        let Ok(Action::Demo(options)) = run(&["demo", "--spoil", "--json", "a.json"]) else { panic!("none") };
        assert!(options.spoil && options.json.as_deref() == Some(Path::new("a.json")));
        assert!(refused(&["demo", "--port", "1"]).contains("--port"));
    }

    #[test]
    fn a_benchmark_says_what_its_flags_may_be() {
        let Ok(Action::Bench(options)) = run(&["bench"]) else { panic!("no benchmark") };
        assert_eq!(options.shards.iter().map(|shards| shards.get()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((options.replicas, options.keys, options.load.value_bytes), (vec![0, 1, 2], 1_000_000, 64));
        for (args, line) in [
            (&["bench", "--shards", "0"][..], "--shards \"0\": must be numbers from 1 to 64, comma between them"),
            (&["bench", "--replicas", "1,x"], "--replicas \"1,x\": must be numbers from 0 to 64, comma between them"),
            (&["bench", "--seconds", "-1"], "--seconds \"-1\": must be a number from 0.1 to 600"),
            (&["bench", "--keys", "7"], "--keys \"7\": must be from 10000 to 100000000, such as 100k"),
            (
                &["bench", "--backlog", "1mb", "--value-size", "4kb"],
                "--backlog \"1mb\": must be at least 8320kb, for turns of that many commands",
            ),
            (&["bench", "--cpus", "7"], "--cpus \"7\": must be auto or off"),
            (&["bench", "--port", "7"], "unexpected argument '--port' found; see kevy --help"),
        ] {
            assert_eq!(refused(args), line);
        }
    }

    #[test]
    fn a_check_takes_two_nodes() {
        let Ok(Action::Check(options)) = run(&["check", "a:1", "[::1]:2"]) else { panic!("no check") };
        assert_eq!(options.nodes.map(|node| node.to_string()), ["a:1", "[::1]:2"]);
        assert_eq!(refused(&["check", "a:1", "b"]), "\"b\": must be HOST:PORT, the client port of a node");
        assert!(refused(&["check", "a:1"]).contains("not provided"));
        let Ok(Action::Print(help)) = run(&["check", "--help"]) else { panic!("no help") };
        assert!(help.contains("3 cannot compare"), "{help}");
    }

    #[test]
    fn help_names_what_exists() {
        let Ok(Action::Print(help)) = run(&["--help"]) else { panic!("no help") };
        assert!(help.contains("--replication-buffer-size <SIZE>"));
        assert!(!help.contains("top"), "{help}");
    }
}
