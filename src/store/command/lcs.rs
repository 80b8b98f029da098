//! `LCS`: the longest common subsequence of two strings, by the textbook table.

use super::refusal::{Refusal, SYNTAX};
use super::string::{integer, read};
use super::{Context, NOTHING, Outcome};
use crate::limits::BULK_BYTES_MAX;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::wire::Argv;

/// A piece that both strings have: where it begins in each, and its length.
#[derive(Clone, Copy)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

pub(super) fn lcs(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let not_strings = Refusal::Text("ERR The specified keys must contain string values");
    let string = |index: usize| read(context, at[index], argv.arg(1 + index)).map_err(|_| not_strings.clone());
    let (a, b) = (string(0)?.unwrap_or_default(), string(1)?.unwrap_or_default());
    let (mut only_len, mut indexes, mut with_len, mut least) = (false, false, false, 0);
    let mut index = 3;
    while let Some(option) = argv.get(index) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"LEN") {
            only_len = true;
        } else if is(b"IDX") {
            indexes = true;
        } else if is(b"WITHMATCHLEN") {
            with_len = true;
        } else if let (true, Some(number)) = (is(b"MINMATCHLEN"), argv.get(index + 1)) {
            least = usize::try_from(integer(number)?).unwrap_or(0);
            index += 1;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    if only_len && indexes {
        return Err(Refusal::Text("ERR If you want both the length and indexes, please just use IDX."));
    }
    if (a.len() + 1).saturating_mul(b.len() + 1).saturating_mul(size_of::<u32>()) > BULK_BYTES_MAX {
        return Err(Refusal::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let table = Table::new(a, b);
    if only_len {
        reply.count(table.at(a.len(), b.len()));
        return NOTHING;
    }
    let matches = table.matches();
    if !indexes {
        let mut common = Vec::new();
        matches.iter().rev().for_each(|m| common.extend_from_slice(&a[m.a..m.a + m.len]));
        reply.bulk(&common);
        return NOTHING;
    }
    // The last match first.
    let shown: Vec<&Match> = matches.iter().filter(|m| m.len >= least).collect();
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown.len());
    for Match { a, b, len } in shown {
        reply.array(if with_len { 3 } else { 2 });
        for start in [a, b] {
            reply.array(2);
            reply.count(*start);
            reply.count(start + len - 1);
        }
        if with_len {
            reply.count(*len);
        }
    }
    reply.bulk(b"len");
    reply.count(table.at(a.len(), b.len()));
    NOTHING
}

/// The length of the longest common subsequence of each two beginnings.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    lengths: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Table<'a> {
        let width = b.len() + 1;
        let mut lengths = vec![0u32; (a.len() + 1) * width];
        for (row, byte) in a.iter().enumerate() {
            let (above, below) = lengths.split_at_mut((row + 1) * width);
            let above = &above[row * width..];
            for (column, other) in b.iter().enumerate() {
                below[column + 1] =
                    if byte == other { above[column] + 1 } else { above[column + 1].max(below[column]) };
            }
        }
        Table { a, b, lengths }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        self.lengths[row * (self.b.len() + 1) + column] as usize
    }

    /// The pieces of the subsequence, the last one first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut row, mut column) = (self.a.len(), self.b.len());
        while row > 0 && column > 0 {
            if self.a[row - 1] == self.b[column - 1] {
                row -= 1;
                column -= 1;
                match matches.last_mut() {
                    Some(last) if last.a == row + 1 && last.b == column + 1 => {
                        *last = Match { a: row, b: column, len: last.len + 1 };
                    }
                    _ => matches.push(Match { a: row, b: column, len: 1 }),
                }
            } else if self.at(row - 1, column) > self.at(row, column - 1) {
                row -= 1;
            } else {
                column -= 1;
            }
        }
        matches
    }
}
