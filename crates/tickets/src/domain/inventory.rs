//! What there is to sell at an event: every seat and place by number, with its section, row, label and price level.
//!
//! Seats are numbered in the order of the plan: zone, row, seat. Places of general admission follow, in the blocks that
//! their areas were given. A number is never given to another seat once the event is published.

use std::collections::BTreeSet;

use super::event::{Area, Details, MAX_TICKETS};
use super::ids::SeatNumber;
use super::plan::{Point, SeatPlan};
use crate::Error;

/// The price level of a number that is not sold.
const NOT_SOLD: u8 = u8::MAX;

/// The numbered seats and places of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    rows: Vec<Row>,
    sections: Vec<Section>,
    areas: Vec<AreaPlaces>,
    /// For each number the index of its price level, or [`NOT_SOLD`].
    levels: Vec<u8>,
    labels: Vec<String>,
    positions: Vec<Point>,
}

/// A section of numbered seats.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// For people.
    pub name: String,
    /// Its rows, as a range of [`Inventory::rows`].
    pub rows: std::ops::Range<usize>,
}

/// A row: neighbours have neighbouring numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Index of its section.
    pub section: usize,
    /// As on the seats.
    pub label: String,
    /// Its first seat.
    pub first: u32,
    /// How many seats.
    pub count: u32,
}

/// The places of a general-admission area.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaPlaces {
    /// Its key.
    pub key: String,
    /// For people.
    pub name: String,
    /// Its places, as first and count.
    pub blocks: Vec<(u32, u32)>,
    /// Index of its price level.
    pub level: u8,
}

/// What stands on a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatLabel<'a> {
    /// A numbered seat.
    Seat {
        /// The section's name.
        section: &'a str,
        /// The row's label.
        row: &'a str,
        /// The seat's label.
        seat: &'a str,
    },
    /// A place in general admission.
    Place {
        /// The area's name.
        area: &'a str,
    },
}

impl Inventory {
    /// Numbers the seats of a plan and the places of the areas, which must have their blocks (see [`assign_blocks`]).
    ///
    /// # Errors
    /// [`Error::BadEvent`]: a category without a price level, an area whose level is unknown, blocks that overlap, or
    /// more than [`MAX_TICKETS`].
    pub fn new(plan: Option<&SeatPlan>, details: &Details) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadEvent { reason };
        let level_of = |category: &str| {
            let levels = &details.price_levels;
            let found = levels.iter().position(|level| level.categories.iter().any(|name| name == category));
            found.and_then(|index| u8::try_from(index).ok()).ok_or_else(|| {
                bad(format!("seats of category `{category}` have no price; name it in `categories` of a price level"))
            })
        };
        let mut this = Self {
            rows: Vec::new(),
            sections: Vec::new(),
            areas: Vec::new(),
            levels: Vec::new(),
            labels: Vec::new(),
            positions: Vec::new(),
        };
        for (section, zone) in plan.iter().flat_map(|plan| &plan.zones).enumerate() {
            let first_row = this.rows.len();
            for row in &zone.rows {
                let first = this.levels.len() as u32;
                for seat in &row.seats {
                    this.levels.push(level_of(&seat.category)?);
                    this.labels.push(seat.seat_number.clone());
                    this.positions.push(Point {
                        x: zone.position.x + row.position.x + seat.position.x,
                        y: zone.position.y + row.position.y + seat.position.y,
                    });
                }
                let count = row.seats.len() as u32;
                this.rows.push(Row { section, label: row.row_number.clone(), first, count });
            }
            this.sections.push(Section { name: zone.name.clone(), rows: first_row..this.rows.len() });
        }
        for area in &details.areas {
            let level = details.price_levels.iter().position(|level| level.key == area.price_level);
            let level = level.and_then(|index| u8::try_from(index).ok()).ok_or_else(|| {
                bad(format!("area `{}` has the price level `{}`, which is not there", area.key, area.price_level))
            })?;
            for (first, count) in &area.blocks {
                this.place(area, *first, *count, level)?;
            }
            let (key, name, blocks) = (area.key.clone(), area.name.clone(), area.blocks.clone());
            this.areas.push(AreaPlaces { key, name, blocks, level });
        }
        for place in details.areas.iter().flat_map(|area| numbers(&area.closed)) {
            if let Some(level) = this.levels.get_mut(place as usize) {
                *level = NOT_SOLD;
            }
        }
        for (first, count) in &details.blocked {
            let range = *first as usize..(*first as usize).saturating_add(*count as usize);
            let Some(levels) = this.levels.get_mut(range) else {
                return Err(bad(format!("blocked seats {first} to {} are not there", first.saturating_add(*count))));
            };
            levels.fill(NOT_SOLD);
        }
        Ok(this)
    }

    fn place(&mut self, area: &Area, first: u32, count: u32, level: u8) -> Result<(), Error> {
        let seats = self.labels.len();
        let end = first.saturating_add(count);
        if end > MAX_TICKETS || (first as usize) < seats {
            let reason = format!("area `{}` has places {first} to {end}, which are seats or too many", area.key);
            return Err(Error::BadEvent { reason });
        }
        if self.levels.len() < end as usize {
            self.levels.resize(end as usize, NOT_SOLD);
        }
        let places = &mut self.levels[first as usize..end as usize];
        if places.iter().any(|present| *present != NOT_SOLD) {
            return Err(Error::BadEvent { reason: format!("places of area `{}` are another area's too", area.key) });
        }
        places.fill(level);
        Ok(())
    }

    /// How many numbers there are, those that are not sold included.
    pub fn len(&self) -> u32 {
        self.levels.len() as u32
    }

    /// Whether there is nothing to sell.
    pub fn is_empty(&self) -> bool {
        self.sold() == 0
    }

    /// How many seats and places are sold.
    pub fn sold(&self) -> u32 {
        self.levels.iter().filter(|level| **level != NOT_SOLD).count() as u32
    }

    /// The index of a seat's price level; `None` where it is not there or not sold.
    pub fn level(&self, seat: SeatNumber) -> Option<usize> {
        self.levels.get(seat.0 as usize).filter(|level| **level != NOT_SOLD).map(|level| usize::from(*level))
    }

    /// The sections, in the order of the plan.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The rows, in the order of the plan: their first numbers ascend.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The general-admission areas.
    pub fn areas(&self) -> &[AreaPlaces] {
        &self.areas
    }

    /// The row of a numbered seat, as an index of [`Inventory::rows`].
    pub fn row_index(&self, seat: SeatNumber) -> Option<usize> {
        // A row without seats has the first number of the next one, and lies before it.
        let index = self.rows.partition_point(|row| row.first <= seat.0).checked_sub(1)?;
        self.rows.get(index).filter(|row| seat.0 - row.first < row.count).map(|_| index)
    }

    /// The row of a numbered seat.
    pub fn row_of(&self, seat: SeatNumber) -> Option<&Row> {
        self.rows.get(self.row_index(seat)?)
    }

    /// Where a numbered seat is drawn.
    pub fn position(&self, seat: SeatNumber) -> Option<Point> {
        self.positions.get(seat.0 as usize).copied()
    }

    /// A seat's own label, such as `12`.
    pub fn seat_label(&self, seat: SeatNumber) -> Option<&str> {
        self.labels.get(seat.0 as usize).map(String::as_str)
    }

    /// What stands on the ticket.
    pub fn label(&self, seat: SeatNumber) -> Option<SeatLabel<'_>> {
        if let Some(row) = self.row_of(seat) {
            let section = &self.sections.get(row.section)?.name;
            return Some(SeatLabel::Seat { section, row: &row.label, seat: self.seat_label(seat)? });
        }
        let inside = |(first, count): &(u32, u32)| seat.0 >= *first && seat.0 - first < *count;
        let area = self.areas.iter().find(|area| area.blocks.iter().any(inside))?;
        Some(SeatLabel::Place { area: &area.name })
    }
}

/// Gives areas the places that their capacity asks for, behind the seats and all places there are. Numbers that were
/// given out stay their area's: less capacity closes its last places, but for those that are `taken`; more opens closed
/// ones again, then adds places behind all others.
///
/// # Errors
/// [`Error::NotNow`] where an area has more places taken than it shall hold; [`Error::BadEvent`] where numbers run out.
pub fn assign_blocks(areas: &mut [Area], seats: u32, taken: impl Fn(SeatNumber) -> bool) -> Result<(), Error> {
    let ends = areas.iter().flat_map(|area| &area.blocks).map(|(first, count)| first.saturating_add(*count));
    let mut next = ends.max().unwrap_or(0).max(seats);
    for area in areas {
        let mut closed: BTreeSet<u32> = numbers(&area.closed).collect();
        let open = area.blocks.iter().map(|(_, count)| count).sum::<u32>().saturating_sub(closed.len() as u32);
        let less = open.saturating_sub(area.capacity) as usize;
        let last = numbers(&area.blocks).rev().filter(|place| !closed.contains(place) && !taken(SeatNumber(*place)));
        let last: Vec<u32> = last.take(less).collect();
        if last.len() < less {
            let (key, capacity) = (&area.key, area.capacity);
            let least = open - last.len() as u32;
            let reason = format!("area `{key}` cannot hold {capacity}: {least} places are taken; give {least} or more");
            return Err(Error::NotNow { reason });
        }
        closed.extend(last);
        let mut more = area.capacity.saturating_sub(open);
        while more > 0 && closed.pop_first().is_some() {
            more -= 1;
        }
        if more > 0 {
            if next.saturating_add(more) > MAX_TICKETS {
                let reason = format!("area `{}` takes the event beyond {MAX_TICKETS} numbers; give it less", area.key);
                return Err(Error::BadEvent { reason });
            }
            match area.blocks.last_mut().filter(|(first, count)| first.saturating_add(*count) == next) {
                Some((_, count)) => *count += more,
                None => area.blocks.push((next, more)),
            }
            next += more;
        }
        area.closed = ranges(closed);
    }
    Ok(())
}

/// The numbers in ranges of first and count.
pub fn numbers(ranges: &[(u32, u32)]) -> impl DoubleEndedIterator<Item = u32> {
    ranges.iter().flat_map(|(first, count)| *first..first.saturating_add(*count))
}

/// Numbers as ranges of first and count.
pub fn ranges(numbers: BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => ranges.push((number, 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
