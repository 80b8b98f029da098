//! RESP2 and RESP3 as clients speak them: requests in, replies out.
//!
//! ```text
//! socket ──▶ request (owns the bytes) ──▶ command (ranges of one multi-bulk) ──▶ Argv
//!                        └──────────────▶ inline  (quoted words of one line) ──▶ Argv
//! Reply (appends to the connection's buffer) ──▶ socket
//! ```

pub mod command;
pub mod double;
pub mod inline;
pub mod reply;
pub mod request;

pub use command::{RespError, arguments_of, decode_multibulk};
pub use reply::{Protocol, Reply};
pub use request::RequestDecoder;
