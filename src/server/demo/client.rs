//! A blocking client for one node: commands out, replies in, in order. It speaks RESP2 only, and trusts the node's
//! replies: it is for a demonstration on loopback and for comparing nodes, and no library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Trouble;
use crate::server::config::HostPort;

/// One connection to a node.
pub(in crate::server) struct Client {
    /// What the node is called in errors.
    name: String,
    replies: BufReader<TcpStream>,
    requests: TcpStream,
}

/// One reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::server) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Null,
    Bulk(Vec<u8>),
    Array(Vec<Value>),
}

/// The text of `INFO`.
pub(in crate::server) struct Info(String);

impl Client {
    /// Connects to the node on loopback whose clients' port this is.
    pub fn connect(port: u16) -> Result<Client, Trouble> {
        Client::open(format!("port {port}"), [SocketAddr::from((Ipv4Addr::LOCALHOST, port))])
    }

    /// Connects to a node anywhere.
    pub fn connect_to(at: &HostPort) -> Result<Client, Trouble> {
        let addresses =
            (at.host.as_str(), at.port).to_socket_addrs().map_err(|error| silence(&at.to_string(), &error))?;
        Client::open(at.to_string(), addresses)
    }

    fn open(name: String, addresses: impl IntoIterator<Item = SocketAddr>) -> Result<Client, Trouble> {
        let mut error = io::ErrorKind::AddrNotAvailable.into();
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE).and_then(prepared) {
                Ok((replies, requests)) => return Ok(Client { name, replies, requests }),
                Err(other) => error = other,
            }
        }
        Err(silence(&name, &error))
    }

    /// Sends requests that are encoded already; [`receive`](Self::receive) their replies, as many as there are.
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Trouble> {
        self.requests.write_all(requests).map_err(|error| silence(&self.name, &error))
    }

    /// The next reply. An error reply is a value like any other.
    pub fn receive(&mut self) -> Result<Value, Trouble> {
        self.read_value().map_err(|error| silence(&self.name, &error))
    }

    /// The next `count` replies, none of them an error.
    pub fn expect(&mut self, count: usize) -> Result<(), Trouble> {
        (0..count).try_for_each(|_| match self.receive()? {
            Value::Error(error) => Err(Trouble::new(format!("{} answered a write with: {error}", self.name))),
            _ => Ok(()),
        })
    }

    /// The answer to one command; an error reply is an error.
    pub fn ask(&mut self, command: &[&str]) -> Result<Value, Trouble> {
        let mut request = Vec::new();
        encode(&mut request, command);
        self.send(&request)?;
        match self.receive()? {
            Value::Error(error) => {
                Err(Trouble::new(format!("{} answered {} with: {error}", self.name, command.join(" "))))
            }
            value => Ok(value),
        }
    }

    /// What `INFO` says in one section.
    pub fn info(&mut self, section: &str) -> Result<Info, Trouble> {
        match self.ask(&["INFO", section])? {
            Value::Bulk(text) => Ok(Info(String::from_utf8_lossy(&text).into_owned())),
            other => Err(Trouble::new(format!("{} answered INFO with {other:?}", self.name))),
        }
    }

    fn read_value(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let (kind, text) = line.split_at_checked(1).ok_or_else(|| invalid(line))?;
        let number = || text.parse::<i64>().map_err(|_| invalid(line));
        Ok(match kind {
            "+" => Value::Simple(text.to_owned()),
            "-" => Value::Error(text.to_owned()),
            ":" => Value::Integer(number()?),
            "$" | "*" if number()? < 0 => Value::Null,
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.replies.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes)
            }
            "*" => Value::Array((0..number()?).map(|_| self.read_value()).collect::<io::Result<_>>()?),
            _ => return Err(invalid(line)),
        })
    }
}

impl Info {
    /// A field's text; `None` if it is not there.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
    }

    /// A field that is a number; 0 if it is not there.
    pub fn number(&self, field: &str) -> u64 {
        self.text(field).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The number `part` of a field of the form `part=number,…`; 0 if it is not there.
    pub fn part(&self, field: &str, part: &str) -> u64 {
        let text = self.text(field).unwrap_or_default();
        let found = text.split(',').find_map(|pair| pair.strip_prefix(part)?.strip_prefix('='));
        found.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Encodes a command at the end of `out`.
pub(super) fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, command: &[A]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{}\r\n", command.len());
    for arg in command {
        let arg = arg.as_ref();
        let _ = write!(out, "${}\r\n", arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn prepared(stream: TcpStream) -> io::Result<(BufReader<TcpStream>, TcpStream)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok((BufReader::with_capacity(64 << 10, stream.try_clone()?), stream))
}

fn silence(name: &str, error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Trouble::new(format!("{name} did not answer within {} s", PATIENCE.as_secs()))
        }
        io::ErrorKind::UnexpectedEof => Trouble::new(format!("{name} closed the connection")),
        _ => Trouble::new(format!("{name}: {error}")),
    }
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} begins no reply"))
}

/// How long a node may take for one reply.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn every_kind_of_reply_is_read() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap().port()).unwrap();
        let (mut node, _) = listener.accept().unwrap();
        node.write_all(b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$4\r\na\r\nb\r\n*2\r\n:1\r\n*0\r\n!\r\n").unwrap();
        assert_eq!(client.receive().unwrap(), Value::Simple("OK".into()));
        assert_eq!(client.receive().unwrap(), Value::Error("ERR no".into()));
        assert_eq!(client.receive().unwrap(), Value::Integer(-7));
        assert_eq!(client.receive().unwrap(), Value::Null);
        assert_eq!(client.receive().unwrap(), Value::Bulk(b"a\r\nb".to_vec()));
        assert_eq!(client.receive().unwrap(), Value::Array(vec![Value::Integer(1), Value::Array(vec![])]));
        assert!(client.receive().is_err());
        drop(node);
        assert!(client.receive().unwrap_err().to_string().contains("closed the connection"));
    }

    #[test]
    fn info_is_read_by_field_and_part() {
        let info = Info("# Replication\r\nrole:slave\r\nsync_full:3\r\nsync_full_reason_x:2\r\nstream1:cpu=none,oldest=12,next=40\r\n".into());
        assert_eq!(info.text("role"), Some("slave"));
        assert_eq!(info.number("sync_full"), 3);
        assert_eq!((info.part("stream1", "oldest"), info.part("stream0", "oldest")), (12, 0));
    }
}
