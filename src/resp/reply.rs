//! The replies to one client: an append-only writer over the connection's buffer that knows which protocol the client
//! speaks. What RESP2 has no form for is written in the form that Redis gives to RESP2 clients.

use std::fmt;

use super::double;

/// Which protocol a client speaks; `HELLO` changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// RESP2, what every connection begins with.
    #[default]
    Resp2,
    /// RESP3: maps, sets, doubles, booleans, pushes and one null.
    Resp3,
}

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Reply<'a> {
        Reply { out, protocol }
    }

    /// The protocol it writes.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Bytes of the buffer so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written since the buffer had `from` bytes.
    ///
    /// # Panics
    /// If it never had so many.
    #[inline]
    pub fn since(&self, from: usize) -> &[u8] {
        &self.out[from..]
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status without line ends in it.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An array of statuses: what `HELP` answers.
    pub fn lines(&mut self, lines: &[&str]) {
        self.array(lines.len());
        lines.iter().for_each(|line| self.simple(line));
    }

    /// An error, its code first: `ERR no such key`. Line ends become blanks.
    pub fn error(&mut self, text: impl fmt::Display) {
        use std::io::Write;
        self.out.push(b'-');
        let from = self.out.len();
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "{text}");
        for byte in &mut self.out[from..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A number of things.
    #[inline]
    pub fn count(&mut self, count: usize) {
        self.header(b':', count as i64);
    }

    /// A binary string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 32);
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A binary string, or null.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer as a binary string.
    pub fn bulk_integer(&mut self, number: i64) {
        self.bulk(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Null where a string could stand.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Whether a whole reply is null, in whatever form.
    pub fn is_null(reply: &[u8]) -> bool {
        matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
    }

    /// Null where an array could stand.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n".as_slice(),
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array of `len` replies, which follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// The head of a map of `len` pairs: twice as many replies follow.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64 * 2),
            Protocol::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// The head of a set of `len` replies, which follow.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'~', len as i64),
        }
    }

    /// The head of a message that answers nothing: `len` replies follow.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len as i64),
            Protocol::Resp3 => self.header(b'>', len as i64),
        }
    }

    /// A floating-point number.
    pub fn double(&mut self, number: f64) {
        match self.protocol {
            Protocol::Resp2 => self.bulk_double(number),
            Protocol::Resp3 => {
                self.out.push(b',');
                double::write(number, self.out);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A floating-point number as a binary string, in both protocols.
    pub fn bulk_double(&mut self, number: f64) {
        let mut text = Vec::with_capacity(32);
        double::write(number, &mut text);
        self.bulk(&text);
    }

    /// A truth; RESP2 clients see 1 or 0.
    pub fn boolean(&mut self, truth: bool) {
        self.out.extend_from_slice(match (self.protocol, truth) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// Text for people; `format` has three letters (`txt`). RESP2 clients see a binary string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(format.as_bytes());
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A reply that another writer of the same protocol made.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    #[inline]
    fn header(&mut self, kind: u8, number: i64) {
        // One digit is what most heads have.
        if (0..10).contains(&number) {
            self.out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
        } else {
            let mut digits = itoa::Buffer::new();
            self.line(kind, digits.format(number).as_bytes());
        }
    }

    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    /// A name, what writes the reply, and its bytes in RESP2 and RESP3.
    type Case = (&'static str, fn(&mut Reply<'_>), &'static str, &'static str);

    #[test]
    fn every_form_in_both_protocols() {
        let cases: &[Case] = &[
            ("ok", |r| r.ok(), "+OK\r\n", "+OK\r\n"),
            ("simple", |r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            ("error", |r| r.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            ("integer", |r| r.integer(-12), ":-12\r\n", ":-12\r\n"),
            ("bulk", |r| r.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
            ("null", |r| r.null(), "$-1\r\n", "_\r\n"),
            ("null array", |r| r.null_array(), "*-1\r\n", "_\r\n"),
            ("array", |r| r.array(2), "*2\r\n", "*2\r\n"),
            ("map", |r| r.map(2), "*4\r\n", "%2\r\n"),
            ("set", |r| r.set(2), "*2\r\n", "~2\r\n"),
            ("push", |r| r.push(2), "*2\r\n", ">2\r\n"),
            ("double", |r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            ("boolean", |r| r.boolean(true), ":1\r\n", "#t\r\n"),
            ("verbatim", |r| r.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (name, write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), *resp2, "{name} in RESP2");
            assert_eq!(written(Protocol::Resp3, write), *resp3, "{name} in RESP3");
        }
    }
}
