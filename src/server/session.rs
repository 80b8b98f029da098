//! What a node remembers of one client.

use crate::resp::Protocol;

/// One client's settings.
#[derive(Clone, Debug)]
pub(super) struct ClientSession {
    /// Its number, unique on the node.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// The library it says it uses, and its version.
    pub library: [Vec<u8>; 2],
}

impl ClientSession {
    /// A client that has said nothing yet.
    pub fn new(id: u64, address: String) -> ClientSession {
        ClientSession { id, address, protocol: Protocol::Resp2, name: Vec::new(), library: [const { Vec::new() }; 2] }
    }
}
