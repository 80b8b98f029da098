//! What a command answers when it does not do what it was asked: the error texts of Redis, in one place.

use std::fmt;

use crate::wire::Full;

/// Why a command was refused. Nothing has changed then.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// A fixed text, its code first.
    Text(&'static str),
    /// The command has too few or too many arguments.
    Arity(&'static str),
    /// The expiry does not fit.
    ExpireTime(&'static str),
    /// A command that combines keys names none.
    NoInputKey(&'static str),
    /// An option is not known.
    UnsupportedOption(String),
    /// Of these two options exactly one is needed.
    NotOneOf {
        /// Their names.
        options: &'static str,
        /// The command, as the client wrote it.
        command: String,
    },
    /// There is no score for a place.
    NoSuchPlace {
        /// In degrees.
        longitude: f64,
        /// In degrees.
        latitude: f64,
    },
    /// A text that names what it is about, its code first.
    Message(String),
    /// A subcommand is not known: the command, the subcommand.
    UnknownSubcommand(&'static str, String),
}

/// The key holds another type.
pub const WRONG_TYPE: Refusal = Refusal::Text("WRONGTYPE Operation against a key holding the wrong kind of value");
/// An argument or a value is no integer.
pub const NOT_AN_INTEGER: Refusal = Refusal::Text("ERR value is not an integer or out of range");
/// An argument or a value is no number.
pub const NOT_A_FLOAT: Refusal = Refusal::Text("ERR value is not a valid float");
/// The sum does not fit.
pub const OVERFLOW: Refusal = Refusal::Text("ERR increment or decrement would overflow");
/// The sum is no number.
pub const NOT_FINITE: Refusal = Refusal::Text("ERR increment would produce NaN or Infinity");
/// Arguments are not in order.
pub const SYNTAX: Refusal = Refusal::Text("ERR syntax error");
/// There is no such key.
pub const NO_SUCH_KEY: Refusal = Refusal::Text("ERR no such key");
/// There is no such element.
pub const INDEX_OUT_OF_RANGE: Refusal = Refusal::Text("ERR index out of range");
/// A count is negative.
pub const NOT_POSITIVE: Refusal = Refusal::Text("ERR value is out of range, must be positive");
/// A count is the one number that cannot be negated.
pub const OUT_OF_RANGE: Refusal =
    Refusal::Text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");
/// The string would be too long.
pub const TOO_LONG: Refusal = Refusal::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
/// The string is no HyperLogLog.
pub const NOT_A_SKETCH: Refusal = Refusal::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");
/// The string began like a HyperLogLog.
pub const CORRUPT_SKETCH: Refusal = Refusal::Text("INVALIDOBJ Corrupted HLL object detected");
/// The command may need memory, and there is none left.
pub const NO_MEMORY: Refusal = Refusal::Text("OOM command not allowed when used memory > 'maxmemory'.");
/// What the command would do is more than one group of effects may carry.
pub const TOO_LARGE: Refusal = Refusal::Text(
    "ERR what this command, or its transaction, would change is more than one group of effects may carry",
);

impl Refusal {
    /// The arguments of a subcommand are not in order; `name` is that of the command.
    pub fn misused(name: &str, sub: &[u8]) -> Refusal {
        let (name, sub) = (name.to_ascii_uppercase(), String::from_utf8_lossy(&sub[..sub.len().min(128)]));
        Refusal::Message(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."))
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Refusal {
        TOO_LARGE
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Text(text) => f.write_str(text),
            Refusal::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Refusal::ExpireTime(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Refusal::NoInputKey(name) => write!(f, "ERR at least 1 input key is needed for '{name}' command"),
            Refusal::Message(text) => f.write_str(text),
            Refusal::UnsupportedOption(option) => write!(f, "ERR Unsupported option {option}"),
            Refusal::NotOneOf { options, command } => {
                write!(f, "ERR exactly one of {options} can be specified for {command}")
            }
            Refusal::NoSuchPlace { longitude, latitude } => {
                write!(f, "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")
            }
            Refusal::UnknownSubcommand(name, sub) => {
                write!(f, "ERR unknown subcommand '{sub}'. Try {} HELP.", name.to_ascii_uppercase())
            }
        }
    }
}
