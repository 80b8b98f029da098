//! Commands on places: sorted sets whose scores say where their members are.

use super::aggregate::read;
use super::number;
use super::recreate::replace;
use super::refusal::{NOT_A_FLOAT, Refusal, SYNTAX};
use super::string::integer;
use super::zset::{Adding, add_pairs};
use super::{Context, NOTHING, Outcome};
use crate::resp::{Protocol, Reply};
use crate::snapshot::Located;
use crate::store::Value;
use crate::store::geo::{Point, Shape};
use crate::store::value::Zset;
use crate::wire::Argv;

const NO_SUCH_MEMBER: Refusal = Refusal::Text("ERR could not decode requested zset member");

pub(super) fn geoadd(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut adding = Adding::default();
    let mut first = 2;
    while let Some(option) = argv.get(first) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let flag = match () {
            () if is(b"NX") => &mut adding.nx,
            () if is(b"XX") => &mut adding.xx,
            () if is(b"CH") => &mut adding.ch,
            () => break,
        };
        *flag = true;
        first += 1;
    }
    let args = argv.len() - first;
    if args == 0 || !args.is_multiple_of(3) || adding.nx && adding.xx {
        return Err(SYNTAX);
    }
    let pairs = (first..argv.len()).step_by(3);
    let pairs = pairs.map(|index| Ok((point(argv, index)?.score(), argv.arg(index + 2))));
    let pairs = pairs.collect::<Result<Vec<_>, Refusal>>()?;
    let added = add_pairs(context.store, at[0], argv.arg(1), adding, pairs)?;
    reply.integer(added.count(adding));
    Ok(added.effects(argv.arg(1)))
}

/// The place that this argument and the next one say.
fn point(argv: Argv<'_>, index: usize) -> Result<Point, Refusal> {
    let coordinate = |index| number::float(argv.arg(index)).ok_or(NOT_A_FLOAT);
    let (longitude, latitude) = (coordinate(index)?, coordinate(index + 1)?);
    Point::new(longitude, latitude).ok_or(Refusal::NoSuchPlace { longitude, latitude })
}

/// How many meters a unit has.
fn unit(word: &[u8]) -> Result<f64, Refusal> {
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    match () {
        () if is(b"m") => Ok(1.0),
        () if is(b"km") => Ok(1000.0),
        () if is(b"ft") => Ok(0.3048),
        () if is(b"mi") => Ok(1609.34),
        () => Err(Refusal::Text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

pub(super) fn geodist(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let unit = match argv.get(4) {
        None => 1.0,
        Some(word) if argv.len() == 5 => unit(word)?,
        Some(_) => return Err(SYNTAX),
    };
    let zset = read::<Zset>(context, at[0], argv.arg(1))?;
    let place = |index| zset.and_then(|zset| zset.score(argv.arg(index))).map(Point::of_score);
    match (place(2), place(3)) {
        (Some(from), Some(to)) => distance(from.distance(to) / unit, reply),
        _ => reply.null(),
    }
    NOTHING
}

fn distance(distance: f64, reply: &mut Reply<'_>) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

pub(super) fn geohash(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let zset = read::<Zset>(context, at[0], argv.arg(1))?;
    reply.array(argv.len() - 2);
    for member in argv.skip(2).iter() {
        let score = zset.and_then(|zset| zset.score(member));
        let hash = score.map(|score| Point::of_score(score).geohash());
        reply.bulk_or_null(hash.as_ref().map(|hash| &hash[..]));
    }
    NOTHING
}

pub(super) fn geopos(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let zset = read::<Zset>(context, at[0], argv.arg(1))?;
    reply.array(argv.len() - 2);
    for member in argv.skip(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => coordinates(Point::of_score(score), reply),
            None => reply.null_array(),
        }
    }
    NOTHING
}

/// Both coordinates, with as many digits as Redis shows.
fn coordinates(point: Point, reply: &mut Reply<'_>) {
    reply.array(2);
    for coordinate in [point.longitude, point.latitude] {
        let text = format!("{coordinate:.17}");
        let text = match text.trim_end_matches('0').trim_end_matches('.') {
            "-0" => "0",
            text => text,
        };
        match reply.protocol() {
            Protocol::Resp2 => reply.bulk(text.as_bytes()),
            Protocol::Resp3 => reply.raw(format!(",{text}\r\n").as_bytes()),
        }
    }
}

// ── searching ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// One of the commands that search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// `GEORADIUS key longitude latitude radius unit …`
    Radius,
    /// `GEORADIUSBYMEMBER key member radius unit …`
    RadiusByMember,
    /// `GEOSEARCH key …`
    Anywhere,
    /// `GEOSEARCHSTORE destination key …`
    AnywhereStored,
}

/// What a search answers with.
#[derive(Clone, Copy, Default)]
struct With {
    distance: bool,
    hash: bool,
    coordinates: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Near,
    Far,
}

/// Where a search leaves what it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stores {
    Nothing,
    Places,
    Distances,
}

/// A search, read.
struct Query {
    /// `None`: of a member of a key that is missing.
    middle: Option<Point>,
    shape: Shape,
    /// Meters of the unit that is asked for and answered in.
    unit: f64,
    with: With,
    order: Option<Order>,
    /// As many are wanted; 0: all.
    count: usize,
    /// The first ones found will do.
    any: bool,
    stores: Stores,
}

impl Query {
    fn parse(how: Search, may_store: bool, zset: Option<&Zset>, argv: Argv<'_>) -> Result<Query, Refusal> {
        let of_member = |member: &[u8]| -> Result<Option<Point>, Refusal> {
            match zset {
                Some(zset) => Ok(Some(Point::of_score(zset.score(member).ok_or(NO_SUCH_MEMBER)?))),
                // The arguments behind it are looked at all the same.
                None => Ok(None),
            }
        };
        let is_anywhere = matches!(how, Search::Anywhere | Search::AnywhereStored);
        // Outer: whether it is said; inner: whether it is known.
        let (mut middle, mut shape) = (None, None);
        let mut index = match how {
            Search::Radius => {
                middle = Some(Some(point(argv, 2)?));
                shape = Some(circle(argv, 4)?);
                6
            }
            Search::RadiusByMember => {
                middle = Some(of_member(argv.arg(2))?);
                // As Redis has it, nobody looks at the radius around a member of a missing key.
                shape = Some(match zset {
                    Some(_) => circle(argv, 3)?,
                    None => (Shape::Circle { radius: 0.0 }, 1.0),
                });
                5
            }
            Search::Anywhere => 2,
            Search::AnywhereStored => 3,
        };
        let (mut is_from_member, mut is_box) = (false, false);
        let (mut with, mut order, mut count, mut any) = (With::default(), None, 0, false);
        let mut stores = if how == Search::AnywhereStored { Stores::Places } else { Stores::Nothing };
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let behind = argv.len() - index - 1;
            match () {
                () if is(b"WITHDIST") => with.distance = true,
                () if is(b"WITHHASH") => with.hash = true,
                () if is(b"WITHCOORD") => with.coordinates = true,
                () if is(b"ANY") => any = true,
                () if is(b"ASC") => order = Some(Order::Near),
                () if is(b"DESC") => order = Some(Order::Far),
                () if is(b"COUNT") && behind >= 1 => {
                    let wanted = usize::try_from(integer(argv.arg(index + 1))?).ok().filter(|count| *count > 0);
                    count = wanted.ok_or(Refusal::Text("ERR COUNT must be > 0"))?;
                    index += 1;
                }
                () if is(b"STORE") && behind >= 1 && may_store && !is_anywhere => {
                    stores = Stores::Places;
                    index += 1;
                }
                () if is(b"STOREDIST") && behind >= 1 && may_store && !is_anywhere => {
                    stores = Stores::Distances;
                    index += 1;
                }
                () if is(b"STOREDIST") && how == Search::AnywhereStored => stores = Stores::Distances,
                () if is(b"FROMMEMBER") && behind >= 1 && is_anywhere && (middle.is_none() || is_from_member) => {
                    middle = Some(of_member(argv.arg(index + 1))?);
                    is_from_member = true;
                    index += 1;
                }
                () if is(b"FROMLONLAT") && behind >= 2 && is_anywhere && !is_from_member => {
                    middle = Some(Some(point(argv, index + 1)?));
                    index += 2;
                }
                () if is(b"BYRADIUS") && behind >= 2 && is_anywhere && !is_box => {
                    shape = Some(circle(argv, index + 1)?);
                    index += 2;
                }
                () if is(b"BYBOX") && behind >= 3 && is_anywhere && (shape.is_none() || is_box) => {
                    shape = Some(rectangle(argv, index + 1)?);
                    is_box = true;
                    index += 3;
                }
                () => return Err(SYNTAX),
            }
            index += 1;
        }
        if stores != Stores::Nothing && (with.distance || with.hash || with.coordinates) {
            return Err(Refusal::Text(match how {
                Search::AnywhereStored => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
                _ => "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            }));
        }
        let not_one_of = |options| Refusal::NotOneOf { options, command: argv.arg(0).escape_ascii().to_string() };
        let middle = middle.ok_or_else(|| not_one_of("FROMMEMBER or FROMLONLAT"))?;
        let (shape, unit) = shape.ok_or_else(|| not_one_of("BYRADIUS and BYBOX"))?;
        if any && count == 0 {
            return Err(Refusal::Text("ERR the ANY argument requires COUNT argument"));
        }
        // The nearest ones are meant, unless any will do.
        if count > 0 && !any && order.is_none() {
            order = Some(Order::Near);
        }
        Ok(Query { middle, shape, unit, with, order, count, any, stores })
    }

    fn find<'z>(&self, zset: &'z Zset) -> Vec<Found<'z>> {
        let Some(middle) = self.middle else { return Vec::new() };
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        'all: for scores in self.shape.scores(middle) {
            let first = zset.partition_point_by_score(|score| score < scores.start);
            let end = zset.partition_point_by_score(|score| score < scores.end);
            for (member, score) in zset.range(first, end.max(first)) {
                let point = Point::of_score(score);
                let Some(distance) = self.shape.distance(middle, point) else { continue };
                found.push(Found { member, score, point, distance });
                if found.len() >= enough {
                    break 'all;
                }
            }
        }
        match self.order {
            None => {}
            Some(Order::Near) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Some(Order::Far) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found.iter_mut().for_each(|found| found.distance /= self.unit);
        found
    }

    fn show(&self, found: &[Found<'_>], reply: &mut Reply<'_>) {
        let With { distance: with_distance, hash, coordinates: with_coordinates } = self.with;
        let extras = usize::from(with_distance) + usize::from(hash) + usize::from(with_coordinates);
        reply.array(found.len());
        for Found { member, score, point, distance: away } in found {
            if extras > 0 {
                reply.array(1 + extras);
            }
            reply.bulk(member);
            if with_distance {
                distance(*away, reply);
            }
            if hash {
                reply.integer(*score as i64);
            }
            if with_coordinates {
                coordinates(*point, reply);
            }
        }
    }
}

/// A member that a search found.
struct Found<'z> {
    member: &'z [u8],
    score: f64,
    point: Point,
    /// From the middle.
    distance: f64,
}

/// `radius unit`.
fn circle(argv: Argv<'_>, index: usize) -> Result<(Shape, f64), Refusal> {
    let radius = number::float(argv.arg(index)).ok_or(Refusal::Text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(Refusal::Text("ERR radius cannot be negative"));
    }
    let unit = unit(argv.arg(index + 1))?;
    Ok((Shape::Circle { radius: radius * unit }, unit))
}

/// `width height unit`.
fn rectangle(argv: Argv<'_>, index: usize) -> Result<(Shape, f64), Refusal> {
    let width = number::float(argv.arg(index)).ok_or(Refusal::Text("ERR need numeric width"))?;
    let height = number::float(argv.arg(index + 1)).ok_or(Refusal::Text("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(Refusal::Text("ERR height or width cannot be negative"));
    }
    let unit = unit(argv.arg(index + 2))?;
    Ok((Shape::Box { width: width * unit, height: height * unit }, unit))
}

/// Which argument is the key that `GEORADIUS` and `GEORADIUSBYMEMBER` store into, if they do.
pub(super) fn destination(argv: Argv<'_>) -> Option<usize> {
    let (mut index, mut found) = (5, None);
    while index + 1 < argv.len() {
        let option = argv.arg(index);
        if option.eq_ignore_ascii_case(b"STORE") || option.eq_ignore_ascii_case(b"STOREDIST") {
            index += 1;
            found = Some(index);
        }
        index += 1;
    }
    found
}

/// A search in the key number `source`, which is stored, if at all, in `destination`: a place and an argument.
fn search(
    context: &mut Context<'_>,
    source: (Located, usize),
    destination: Option<(Located, usize)>,
    how: Search,
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let may_store = destination.is_some();
    let zset = read::<Zset>(context, source.0, argv.arg(source.1))?;
    let query = Query::parse(how, may_store, zset, argv)?;
    let found = zset.map(|zset| query.find(zset)).unwrap_or_default();
    let Some((at, index)) = destination.filter(|_| query.stores != Stores::Nothing) else {
        query.show(&found, reply);
        return NOTHING;
    };
    let mut result = Zset::new();
    for Found { member, score, distance, .. } in found {
        result.insert(member, if query.stores == Stores::Distances { distance } else { score });
    }
    let count = result.len();
    let effects = replace(context.store, context.room, at, argv.arg(index), Value::Zset(result), None)?;
    reply.count(count);
    Ok(effects)
}

/// Where the key is that a search in the first one stores into, if it does.
fn stored_in(at: &[Located], argv: Argv<'_>) -> Option<(Located, usize)> {
    Some((*at.get(1)?, destination(argv)?))
}

pub(super) fn georadius(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    search(context, (at[0], 1), stored_in(at, argv), Search::Radius, argv, reply)
}

pub(super) fn georadius_ro(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    search(context, (at[0], 1), None, Search::Radius, argv, reply)
}

pub(super) fn georadiusbymember(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    search(context, (at[0], 1), stored_in(at, argv), Search::RadiusByMember, argv, reply)
}

pub(super) fn georadiusbymember_ro(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    search(context, (at[0], 1), None, Search::RadiusByMember, argv, reply)
}

pub(super) fn geosearch(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    search(context, (at[0], 1), None, Search::Anywhere, argv, reply)
}

pub(super) fn geosearchstore(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    search(context, (at[1], 2), Some((at[0], 1)), Search::AnywhereStored, argv, reply)
}
