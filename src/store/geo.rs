//! Places on the earth as scores of a sorted set, with the arithmetic of Redis to the last bit: cells of a grid in an order in which
//! near ones are mostly near.
//!
//! ```text
//! longitude −180 … 180          x: 26 bits  ┐
//! latitude  −85.05 … 85.05      y: 26 bits  ┴─▶ x y x y … x y: a score of 52 bits
//!
//! a cell of 2^step × 2^step:   its first 2 · step bits        a search: the cell of its middle, and up to eight around it
//! ```
//!
//! It knows neither keys nor members.

use std::ops::Range;

const LONGITUDE: Span = Span { min: -180.0, max: 180.0 };
const LATITUDE: Span = Span { min: -85.051_128_78, max: 85.051_128_78 };
/// What a geohash means by latitudes.
const LATITUDE_WHOLE: Span = Span { min: -90.0, max: 90.0 };
const STEP_MAX: u32 = 26;

const EARTH_RADIUS_METERS: f64 = 6_372_797.560_856;
/// Half of what the Mercator projection makes of the equator.
const MERCATOR_MAX_METERS: f64 = 20_037_726.37;

/// What a coordinate can be.
#[derive(Clone, Copy)]
struct Span {
    min: f64,
    max: f64,
}

impl Span {
    fn contains(self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Which of 2^`step` parts of equal size has this value.
    fn part(self, value: f64, step: u32) -> u32 {
        ((value - self.min) / (self.max - self.min) * (1u64 << step) as f64) as u32
    }

    /// Where a part begins and ends.
    fn of_part(self, part: u32, step: u32) -> Span {
        let edge = |part: u32| self.min + f64::from(part) / (1u64 << step) as f64 * (self.max - self.min);
        Span { min: edge(part), max: edge(part.wrapping_add(1)) }
    }
}

/// A place.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// In degrees, positive to the east.
    pub longitude: f64,
    /// In degrees, positive to the north.
    pub latitude: f64,
}

impl Point {
    /// The place with these coordinates; `None` where no score says it.
    pub fn new(longitude: f64, latitude: f64) -> Option<Point> {
        (LONGITUDE.contains(longitude) && LATITUDE.contains(latitude)).then_some(Point { longitude, latitude })
    }

    /// The middle of the cell that a score says. Every number says some cell.
    pub fn of_score(score: f64) -> Point {
        // What a processor makes of a negative number, so that the places are those of Redis.
        let bits = if score < 0.0 { score as i64 as u64 } else { score as u64 };
        let (longitude, latitude) = Cell::of_bits(bits, STEP_MAX).area();
        let middle = |area: Span, whole: Span| ((area.min + area.max) / 2.0).clamp(whole.min, whole.max);
        Point { longitude: middle(longitude, LONGITUDE), latitude: middle(latitude, LATITUDE) }
    }

    /// The score that says it.
    pub fn score(self) -> f64 {
        Cell::around(self, STEP_MAX).bits() as f64
    }

    /// Its geohash: eleven letters, of which the last says nothing.
    pub fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let x = LONGITUDE.part(self.longitude, STEP_MAX);
        let bits = Cell { x, y: LATITUDE_WHOLE.part(self.latitude, STEP_MAX), step: STEP_MAX }.bits();
        let mut letters = [LETTERS[0]; 11];
        for (n, letter) in letters[..10].iter_mut().enumerate() {
            *letter = LETTERS[(bits >> (52 - (n + 1) * 5) & 0x1f) as usize];
        }
        letters
    }

    /// How far it is to another place, in meters, on a sphere.
    pub fn distance(self, other: Point) -> f64 {
        let half_longitude = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half_longitude == 0.0 {
            return meridian_distance(self.latitude, other.latitude);
        }
        let (from, to) = (radians(self.latitude), radians(other.latitude));
        let half_latitude = ((to - from) / 2.0).sin();
        let a = half_latitude * half_latitude + from.cos() * to.cos() * half_longitude * half_longitude;
        2.0 * EARTH_RADIUS_METERS * a.sqrt().asin()
    }
}

fn meridian_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_METERS * (radians(b) - radians(a)).abs()
}

/// Not `to_radians`, which multiplies by another constant.
fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// A cell of the grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    x: u32,
    y: u32,
    /// Its bits in either direction.
    step: u32,
}

impl Cell {
    fn around(point: Point, step: u32) -> Cell {
        Cell { x: LONGITUDE.part(point.longitude, step), y: LATITUDE.part(point.latitude, step), step }
    }

    fn of_bits(bits: u64, step: u32) -> Cell {
        Cell { x: every_second(bits >> 1), y: every_second(bits), step }
    }

    fn bits(self) -> u64 {
        spread(self.x) << 1 | spread(self.y)
    }

    /// The longitudes and latitudes that it has.
    fn area(self) -> (Span, Span) {
        (LONGITUDE.of_part(self.x, self.step), LATITUDE.of_part(self.y, self.step))
    }

    /// The scores of all places in it.
    fn scores(self) -> Range<f64> {
        let (bits, shift) = (self.bits(), 52 - 2 * self.step);
        (bits << shift) as f64..((bits + 1) << shift) as f64
    }

    /// The cell so many steps to the east and to the north, around the edges of the map.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let moved = |at: u32, by: i32| match by {
            0 => at,
            _ => at.wrapping_add_signed(by) & ((1 << self.step) - 1),
        };
        Cell { x: moved(self.x, east), y: moved(self.y, north), ..self }
    }
}

/// Bit n goes to bit 2n.
fn spread(bits: u32) -> u64 {
    let mut spread = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        spread = (spread | spread << shift) & mask;
    }
    spread
}

/// Bit 2n goes to bit n.
fn every_second(bits: u64) -> u32 {
    let mut even = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        even = (even | even >> shift) & mask;
    }
    even as u32
}

/// What a search takes in around its middle, in meters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    /// All that is no farther.
    Circle {
        /// Meters from the middle.
        radius: f64,
    },
    /// All that is no farther than half of it in either direction.
    Box {
        /// Meters from west to east.
        width: f64,
        /// Meters from south to north.
        height: f64,
    },
}

impl Shape {
    /// How far `point` is from the middle, if the shape has it.
    pub fn distance(self, middle: Point, point: Point) -> Option<f64> {
        if let Shape::Box { width, height } = self {
            let aside = Point { longitude: middle.longitude, latitude: point.latitude };
            let is_outside = meridian_distance(point.latitude, middle.latitude) > height / 2.0
                || point.distance(aside) > width / 2.0;
            return (!is_outside).then(|| middle.distance(point));
        }
        let distance = middle.distance(point);
        matches!(self, Shape::Circle { radius } if distance <= radius).then_some(distance)
    }

    /// The scores of all that can be in it, in ranges that do not meet, the middle first.
    pub fn scores(self, middle: Point) -> Vec<Range<f64>> {
        let (west_east, south_north) = self.bounds(middle);
        let radius = match self {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => (width / 2.0 * (width / 2.0) + height / 2.0 * (height / 2.0)).sqrt(),
        };
        let mut step = step_for(radius, middle.latitude);
        let mut cell = Cell::around(middle, step);
        if step > 1 && !is_covered(cell, west_east, south_north) {
            step -= 1;
            cell = Cell::around(middle, step);
        }
        let (longitude, latitude) = cell.area();
        // Neighbours on a side that the cell itself covers are left out.
        let is_needed = |east: i32, north: i32| {
            step < 2
                || !(north < 0 && latitude.min < south_north.min
                    || north > 0 && latitude.max > south_north.max
                    || east < 0 && longitude.min < west_east.min
                    || east > 0 && longitude.max > west_east.max)
        };
        const AROUND: [(i32, i32); 9] = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::with_capacity(AROUND.len());
        for (east, north) in AROUND.into_iter().filter(|(east, north)| is_needed(*east, *north)) {
            let next = cell.neighbour(east, north);
            // On a small grid there is the same cell on both sides.
            if !cells.contains(&next) {
                cells.push(next);
            }
        }
        cells.into_iter().map(Cell::scores).collect()
    }

    /// From west to east and from south to north.
    fn bounds(self, middle: Point) -> (Span, Span) {
        let (across, along) = match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let Point { longitude, latitude } = middle;
        let up = degrees(along / EARTH_RADIUS_METERS);
        // Where meridians are nearer to each other, a distance has more degrees.
        let narrow = if latitude < 0.0 { latitude - up } else { latitude + up };
        let aside = degrees(across / EARTH_RADIUS_METERS / radians(narrow).cos());
        (Span { min: longitude - aside, max: longitude + aside }, Span { min: latitude - up, max: latitude + up })
    }
}

/// Whether a cell and those around it reach as far as the bounds of a search.
fn is_covered(cell: Cell, west_east: Span, south_north: Span) -> bool {
    cell.neighbour(0, 1).area().1.max >= south_north.max
        && cell.neighbour(0, -1).area().1.min <= south_north.min
        && cell.neighbour(1, 0).area().0.max >= west_east.max
        && cell.neighbour(-1, 0).area().0.min <= west_east.min
}

/// How fine the grid may be where nine cells are to hold a circle.
fn step_for(mut radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEP_MAX;
    }
    let mut step = 1i32;
    while radius < MERCATOR_MAX_METERS {
        radius *= 2.0;
        step += 1;
    }
    // So that it is enough in most cases.
    step -= 2;
    // Near the poles a cell is narrow.
    step -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_geohashes_and_distances_are_those_of_redis() {
        let palermo = Point::new(13.361389, 38.115556).unwrap();
        let catania = Point::new(15.087269, 37.502669).unwrap();
        assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
        assert_eq!(catania.score(), 3_479_447_370_796_909.0);
        let (palermo, catania) = (Point::of_score(palermo.score()), Point::of_score(catania.score()));
        assert_eq!(palermo, Point { longitude: 13.361_389_338_970_184, latitude: 38.115_556_395_496_3 });
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
    }

    #[test]
    fn every_score_says_some_place() {
        for score in [-1.0, 0.0, 1.5, 1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY] {
            let Point { longitude, latitude } = Point::of_score(score);
            assert!(Point::new(longitude, latitude).is_some(), "{score}");
        }
        assert!(Point::new(181.0, 0.0).is_none() && Point::new(0.0, -85.06).is_none());
    }

    fn point() -> impl Strategy<Value = Point> {
        (-180.0..180.0f64, -85.0..85.0f64).prop_map(|(longitude, latitude)| Point { longitude, latitude })
    }

    proptest! {
        #[test]
        fn a_score_is_a_place_within_a_meter(point in point()) {
            prop_assert!(point.distance(Point::of_score(point.score())) < 1.0);
        }

        #[test]
        fn no_place_in_a_circle_has_a_score_outside_of_its_ranges(
            middle in (-170.0..170.0f64, -60.0..60.0f64),
            east in -3.0..3.0f64,
            north in -3.0..3.0f64,
            more in 1.0..2.0f64,
        ) {
            let middle = Point { longitude: middle.0, latitude: middle.1 };
            let point = Point { longitude: middle.longitude + east, latitude: middle.latitude + north };
            let place = Point::of_score(point.score());
            let shape = Shape::Circle { radius: middle.distance(place) * more };
            prop_assert!(shape.distance(middle, place).is_some());
            let scores = shape.scores(middle);
            prop_assert!(scores.iter().any(|scores| scores.contains(&point.score())), "{scores:?}");
        }
    }
}
