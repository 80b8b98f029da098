//! The values of keys that do not fit an entry of the slab: big strings and all aggregates.

use crate::snapshot::record::{Kind, Reader, RecordError, put_bytes};
use crate::store::digest;

/// A value that lives in a box of its own.
#[derive(Debug)]
pub enum Value {
    /// A string too long for the slab.
    Str(Vec<u8>),
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Str(_) => Kind::String,
        }
    }

    /// Bytes of memory that it holds, itself included. Costs the same for every size.
    pub fn memory(&self) -> usize {
        size_of::<Value>()
            + match self {
                Value::Str(bytes) => bytes.capacity(),
            }
    }

    /// What it adds to the digest of its key: over type and contents, not over the order of unordered members.
    pub fn digest(&self) -> u64 {
        match self {
            Value::Str(bytes) => digest::bytes(Kind::String as u64, bytes),
        }
    }

    /// Appends its record, without the head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Str(bytes) => put_bytes(bytes, out),
        }
    }

    /// Reads a record behind its head.
    ///
    /// # Errors
    /// If the record is malformed.
    pub fn decode(kind: Kind, reader: &mut Reader<'_>) -> Result<Value, RecordError> {
        match kind {
            Kind::String => Ok(Value::Str(reader.bytes()?.to_vec())),
            _ => Err(reader.error("a kind of value that is not built yet")),
        }
    }

    /// Frees up to `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, _members: usize) -> bool {
        match self {
            Value::Str(_) => true,
        }
    }
}
