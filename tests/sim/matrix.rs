//! Commands on several keys against a sync: how often each met its slots in which state. An empty cell is a case that nobody has
//! seen, so the run fails on one.

use std::fmt;

use kevy_replicate::store::command;

use crate::workload::{Request, args};

/// Where a slot stands at a point of a stream that is being synced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// Nothing of it has come in this sync.
    NotBegun,
    /// Between its begin and its end.
    InDump,
    /// It is whole.
    Done,
    /// It was begun, and a cut, a full queue or a bad digest took it away: it will come again.
    Missed,
}

impl Place {
    pub const ALL: [Place; 4] = [Place::NotBegun, Place::InDump, Place::Done, Place::Missed];

    fn name(self) -> &'static str {
        match self {
            Place::NotBegun => "not begun",
            Place::InDump => "in dump",
            Place::Done => "done",
            Place::Missed => "missed",
        }
    }
}

/// A command that concerns several keys, or all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Rename,
    Copy,
    Mset,
    Del,
    FlushAll,
    Lmove,
    Smove,
    SunionStore,
    /// A transaction on several keys.
    Exec,
}

impl Kind {
    const EVERY: [Kind; 9] = [
        Kind::Rename,
        Kind::Copy,
        Kind::Mset,
        Kind::Del,
        Kind::FlushAll,
        Kind::Lmove,
        Kind::Smove,
        Kind::SunionStore,
        Kind::Exec,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Rename => "RENAME",
            Kind::Copy => "COPY",
            Kind::Mset => "MSET",
            Kind::Del => "DEL",
            Kind::FlushAll => "FLUSHALL",
            Kind::Lmove => "LMOVE",
            Kind::Smove => "SMOVE",
            Kind::SunionStore => "SUNIONSTORE",
            Kind::Exec => "EXEC",
        }
    }

    /// Those that the server has.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::EVERY.into_iter().filter(|kind| command::find(kind.name().as_bytes()).is_some())
    }

    /// The kind of what a client asked for, with its source and its target: none where it is about all keys.
    pub fn of(request: &Request) -> Option<(Kind, Option<[&[u8]; 2]>)> {
        let args = match request {
            Request::Command(args) => args,
            Request::Transaction(commands) => {
                let (first, last) = (commands.first()?, commands.last()?);
                return Some((Kind::Exec, Some([&first[1], &last[1]])));
            }
        };
        let kind = Kind::EVERY.into_iter().find(|kind| args[0].eq_ignore_ascii_case(kind.name().as_bytes()))?;
        let (source, target) = match kind {
            Kind::FlushAll => return Some((kind, None)),
            Kind::SunionStore => (2, 1),
            Kind::Mset => (1, 3),
            Kind::Rename | Kind::Copy | Kind::Del | Kind::Lmove | Kind::Smove => (1, 2),
            Kind::Exec => unreachable!("EXEC ends a transaction"),
        };
        Some((kind, Some([args.get(source)?, args.get(target)?])))
    }

    /// What prepares and then does it, from a key that is there to one that may be.
    pub fn requests(self, source: &str, target: &str, value: &str) -> Vec<Request> {
        let commands = match self {
            Kind::Rename => vec![args(&["RENAME", source, target])],
            Kind::Copy => vec![args(&["COPY", source, target, "REPLACE"])],
            Kind::Mset => vec![args(&["MSET", source, value, target, value])],
            Kind::Del => vec![args(&["DEL", source, target])],
            Kind::FlushAll => vec![args(&["FLUSHALL"])],
            Kind::Lmove => vec![args(&["RPUSH", source, value]), args(&["LMOVE", source, target, "LEFT", "RIGHT"])],
            Kind::Smove => vec![args(&["SADD", source, value]), args(&["SMOVE", source, target, value])],
            Kind::SunionStore => vec![args(&["SADD", source, value]), args(&["SUNIONSTORE", target, source])],
            Kind::Exec => {
                let commands = [
                    &["LPUSH", source, value][..],
                    &["LMOVE", source, target, "RIGHT", "LEFT"],
                    &["RPUSH", target, value],
                ];
                return vec![Request::Transaction(commands.map(args).into())];
            }
        };
        commands.into_iter().map(Request::from).collect()
    }

    /// The type that both keys must be of, as the workload names it; `None`: any.
    pub fn type_wanted(self) -> Option<&'static str> {
        match self {
            Kind::Rename | Kind::Copy | Kind::Mset | Kind::Del | Kind::FlushAll => None,
            Kind::Lmove | Kind::Exec => Some("l"),
            Kind::Smove | Kind::SunionStore => Some("m"),
        }
    }
}

/// The states of source and target, and whether they are one slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cell {
    One(Place),
    Two(Place, Place),
}

impl Cell {
    fn index(self) -> usize {
        match self {
            Cell::One(place) => place as usize,
            Cell::Two(source, target) => 4 + 4 * source as usize + target as usize,
        }
    }

    /// More where a state does not last.
    pub fn rarity(self) -> u8 {
        let of = |place| match place {
            Place::NotBegun => 0,
            Place::Done => 1,
            Place::InDump | Place::Missed => 3,
        };
        match self {
            Cell::One(place) => of(place),
            Cell::Two(source, target) => of(source) + of(target),
        }
    }

    /// A link loads one slot at a time.
    fn can_be(self) -> bool {
        self != Cell::Two(Place::InDump, Place::InDump)
    }

    fn all() -> impl Iterator<Item = Cell> {
        let two = |source| Place::ALL.map(|target| Cell::Two(source, target));
        Place::ALL.into_iter().map(Cell::One).chain(Place::ALL.into_iter().flat_map(two)).filter(|cell| cell.can_be())
    }
}

const CELLS: usize = 4 + 16;

/// How often each command met each pair of states.
#[derive(Clone)]
pub struct Matrix([[u64; CELLS]; Kind::EVERY.len()]);

impl Matrix {
    pub fn new() -> Matrix {
        Matrix([[0; CELLS]; Kind::EVERY.len()])
    }

    pub fn count(&mut self, kind: Kind, cell: Cell) {
        self.0[kind as usize][cell.index()] += 1;
    }

    pub fn get(&self, kind: Kind, cell: Cell) -> u64 {
        self.0[kind as usize][cell.index()]
    }

    pub fn merge(&mut self, other: &Matrix) {
        for (row, more) in self.0.iter_mut().zip(&other.0) {
            row.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }

    /// The cells that nothing met.
    pub fn empty(&self) -> Vec<(Kind, Cell)> {
        let pairs = Kind::all().flat_map(|kind| Cell::all().map(move |cell| (kind, cell)));
        pairs.filter(|(kind, cell)| self.get(*kind, *cell) == 0).collect()
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::all() {
            writeln!(
                f,
                "{:<22} target:  {}",
                kind.name(),
                Place::ALL.map(|place| format!("{:>10}", place.name())).concat()
            )?;
            for source in Place::ALL {
                write!(f, "  source {:<22}", source.name())?;
                for target in Place::ALL {
                    match Cell::Two(source, target) {
                        cell if cell.can_be() => write!(f, "{:>10}", self.get(kind, cell))?,
                        _ => write!(f, "{:>10}", "—")?,
                    }
                }
                writeln!(f)?;
            }
            let one = Place::ALL.map(|place| format!("{:>10}", self.get(kind, Cell::One(place))));
            writeln!(f, "  both in one slot {:>14}{}", "", one.concat())?;
        }
        Ok(())
    }
}
