//! A seat plan: sections (zones), rows and seats, in the JSON form of pretix's public seating-plan schema.
//!
//! Categories name what seats cost, in an event's price levels. Positions are in the plan's own units; a zone's, a row's
//! and a seat's add up.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::drawing::Drawing;
use super::event::MAX_TICKETS;
use crate::Error;

/// Shapes that a plan draws at most, and corners of all of them together.
const MAX_DRAWINGS: usize = 2_000;
const MAX_CORNERS: usize = 20_000;

/// A plan. Unknown keys are kept out, not refused: the schema has drawing hints that we do not need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SeatPlan {
    /// For people.
    pub name: String,
    /// What seats cost, by name.
    pub categories: Vec<Category>,
    /// Sections.
    pub zones: Vec<Zone>,
    /// Width and height of the drawing.
    pub size: Size,
}

/// A named sort of seats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Category {
    /// Its name, unique within the plan.
    pub name: String,
    /// `#rrggbb`.
    #[serde(default = "grey")]
    pub color: String,
}

fn grey() -> String {
    "#7f7f7f".into()
}

/// A section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Zone {
    /// For people.
    pub name: String,
    /// Its origin.
    #[serde(default)]
    pub position: Point,
    /// From the stage outward.
    pub rows: Vec<Row>,
    /// What is drawn beside them: `shape`, `position` and the shape's own object, or a bare `width` and `height`; `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub areas: Vec<Drawing>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Row {
    /// As on the seats: `A`, `12`.
    pub row_number: String,
    /// Its origin within the zone.
    #[serde(default)]
    pub position: Point,
    /// In the order they stand in.
    pub seats: Vec<Seat>,
}

/// A seat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Seat {
    /// As on the seat.
    pub seat_number: String,
    /// Unique within the plan, where the file gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat_guid: Option<String>,
    /// Its place within the row.
    #[serde(default)]
    pub position: Point,
    /// The name of its category.
    pub category: String,
}

/// A point or an offset.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Downwards.
    pub y: f64,
}

/// A width and a height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Size {
    /// Units to the right.
    pub width: f64,
    /// Units downwards.
    pub height: f64,
}

impl SeatPlan {
    /// Reads a plan from its file.
    ///
    /// # Errors
    /// [`Error::BadPlan`], which names the line of a text that is not JSON, or the zone, row and seat that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |error: serde_json::Error| Error::BadPlan {
            place: format!("line {}, column {}", error.line(), error.column()),
            reason: error.to_string(),
        };
        let plan: Self = serde_json::from_str(text).map_err(refused)?;
        plan.check()?;
        Ok(plan)
    }

    /// How many seats there are.
    pub fn seats(&self) -> usize {
        self.zones.iter().flat_map(|zone| &zone.rows).map(|row| row.seats.len()).sum()
    }

    /// Refuses what cannot be sold from: no seats, too many, unknown categories, the same seat twice.
    ///
    /// # Errors
    /// [`Error::BadPlan`], which names the place.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |place: String, reason: String| Err(Error::BadPlan { place, reason });
        let mut categories = HashSet::new();
        for category in &self.categories {
            if !categories.insert(category.name.as_str()) {
                return bad(format!("category `{}`", category.name), "it is there twice; name each once".into());
            }
        }
        let count = self.seats();
        if count == 0 || count > MAX_TICKETS as usize {
            return bad("the plan".into(), format!("it has {count} seats; give 1 to {MAX_TICKETS}"));
        }
        let mut zones = HashSet::new();
        let mut guids = HashSet::new();
        for zone in &self.zones {
            let here = format!("zone `{}`", zone.name);
            if !zones.insert(zone.name.as_str()) {
                return bad(here, "there are two of this name; name each differently".into());
            }
            let mut seats = HashSet::new();
            for row in &zone.rows {
                for seat in &row.seats {
                    let here = || format!("{here}, row `{}`, seat `{}`", row.row_number, seat.seat_number);
                    if !categories.contains(seat.category.as_str()) {
                        let reason = format!("category `{}` is not in the plan's `categories`", seat.category);
                        return bad(here(), reason);
                    }
                    if !seats.insert((row.row_number.as_str(), seat.seat_number.as_str())) {
                        return bad(here(), "this seat is there twice".into());
                    }
                    if seat.seat_guid.as_deref().is_some_and(|guid| !guids.insert(guid)) {
                        return bad(here(), "its `seat_guid` is another seat's too".into());
                    }
                    let x = zone.position.x + row.position.x + seat.position.x;
                    let y = zone.position.y + row.position.y + seat.position.y;
                    if !x.is_finite() || !y.is_finite() {
                        return bad(here(), "its position is not a number".into());
                    }
                }
            }
        }
        let drawings = || self.zones.iter().flat_map(|zone| &zone.areas);
        let Some(corners) = drawings().map(Drawing::points).sum::<Option<usize>>() else {
            return bad("areas".into(), "a position or a size in them is not a number".into());
        };
        if drawings().count() > MAX_DRAWINGS || corners > MAX_CORNERS {
            let reason = format!("they are more than {MAX_DRAWINGS} shapes or {MAX_CORNERS} corners; draw less");
            return bad("areas".into(), reason);
        }
        let sizes = [self.size.width, self.size.height];
        if !sizes.iter().all(|size| size.is_finite() && *size > 0.0) {
            return bad("size".into(), "width and height must be above zero".into());
        }
        Ok(())
    }
}
