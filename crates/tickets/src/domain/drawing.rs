//! What a seat plan draws beside its seats: a stage, a pitch, a bar. Nothing is sold there.
//!
//! In files these are the `areas` of a zone, in either form of pretix's schema: with `shape` and an object of its name, or
//! with a bare width and height.

use serde::{Deserialize, Serialize};

use super::plan::{Point, Size};

/// A shape with words in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Area", into = "Area")]
pub struct Drawing {
    /// Its origin within the zone.
    pub position: Point,
    /// What is drawn there.
    pub outline: Outline,
    /// For people.
    pub text: Option<String>,
}

/// The line around a drawing, from its origin.
#[derive(Clone, Debug, PartialEq)]
pub enum Outline {
    /// To the right and downwards.
    Rectangle(Size),
    /// Half its width and height, around the origin.
    Ellipse(Point),
    /// Corners.
    Polygon(Vec<Point>),
    /// Words alone, or a shape that is not known here.
    None,
}

impl Drawing {
    /// A rectangle.
    pub fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Self {
        let outline = Outline::Rectangle(Size { width, height });
        Self { position: Point { x, y }, outline, text: None }
    }

    /// An ellipse around a point.
    pub fn ellipse(x: f64, y: f64, across: f64, down: f64) -> Self {
        Self { position: Point { x, y }, outline: Outline::Ellipse(Point { x: across, y: down }), text: None }
    }

    /// The same with words.
    #[must_use]
    pub fn saying(self, text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..self }
    }

    /// Its left, top, right and bottom within the zone.
    pub fn bounds(&self) -> (f64, f64, f64, f64) {
        let Point { x, y } = self.position;
        let (left, top, right, bottom) = match &self.outline {
            Outline::Rectangle(size) => (0.0, 0.0, size.width, size.height),
            Outline::Ellipse(radius) => (-radius.x, -radius.y, radius.x, radius.y),
            Outline::Polygon(points) => {
                let first = points.first().copied().unwrap_or_default();
                points.iter().fold((first.x, first.y, first.x, first.y), |(left, top, right, bottom), at| {
                    (left.min(at.x), top.min(at.y), right.max(at.x), bottom.max(at.y))
                })
            }
            Outline::None => (0.0, 0.0, 0.0, 0.0),
        };
        (x + left, y + top, x + right, y + bottom)
    }

    /// How many numbers it takes to describe, where all of them are numbers.
    pub fn points(&self) -> Option<usize> {
        let (left, top, right, bottom) = self.bounds();
        let finite = [left, top, right, bottom].iter().all(|value| value.is_finite());
        finite.then_some(if let Outline::Polygon(points) = &self.outline { points.len() } else { 2 })
    }
}

/// As in files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Area {
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<String>,
    position: Point,
    #[serde(skip_serializing_if = "Option::is_none")]
    rectangle: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    circle: Option<Circle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ellipse: Option<Ellipse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    polygon: Option<Polygon>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Words>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Circle {
    radius: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ellipse {
    radius: Point,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Polygon {
    points: Vec<Point>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Words {
    Bare(String),
    Set {
        #[serde(default)]
        text: Option<String>,
    },
}

impl From<Area> for Drawing {
    fn from(area: Area) -> Self {
        let text = match area.text {
            Some(Words::Bare(text)) => Some(text),
            Some(Words::Set { text }) => text,
            None => None,
        };
        let bare = area.width.zip(area.height).map(|(width, height)| Size { width, height });
        let outline = match area.shape.as_deref() {
            Some("circle") => area.circle.map(|Circle { radius }| Outline::Ellipse(Point { x: radius, y: radius })),
            Some("ellipse") => area.ellipse.map(|Ellipse { radius }| Outline::Ellipse(radius)),
            Some("polygon") => area.polygon.map(|Polygon { points }| Outline::Polygon(points)),
            Some("rectangle") | None => area.rectangle.or(bare).map(Outline::Rectangle),
            Some(_) => None,
        };
        Self {
            position: area.position,
            outline: outline.unwrap_or(Outline::None),
            text: text.filter(|text| !text.trim().is_empty()),
        }
    }
}

impl From<Drawing> for Area {
    fn from(drawing: Drawing) -> Self {
        let mut area = Self { position: drawing.position, ..Self::default() };
        area.text = drawing.text.map(|text| Words::Set { text: Some(text) });
        let shape = match drawing.outline {
            Outline::Rectangle(size) => {
                area.rectangle = Some(size);
                "rectangle"
            }
            Outline::Ellipse(radius) => {
                area.ellipse = Some(Ellipse { radius });
                "ellipse"
            }
            Outline::Polygon(points) => {
                area.polygon = Some(Polygon { points });
                "polygon"
            }
            Outline::None => "text",
        };
        area.shape = Some(shape.to_owned());
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Drawing {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn both_forms_of_the_schema_are_read() {
        let new = read(
            r##"{"shape":"rectangle","color":"#ccc","rotation":0,"position":{"x":5,"y":6},
                 "rectangle":{"width":30,"height":20},"text":{"text":"Stage","size":16,"position":{"x":0,"y":0}}}"##,
        );
        assert_eq!(new, Drawing::rectangle(5.0, 6.0, 30.0, 20.0).saying("Stage"));
        assert_eq!(read(r#"{"position":{"x":5,"y":6},"width":30,"height":20,"text":"Stage"}"#), new);
        assert_eq!(new.bounds(), (5.0, 6.0, 35.0, 26.0));
        let circle = read(r#"{"shape":"circle","position":{"x":10,"y":10},"circle":{"radius":4},"text":{"text":""}}"#);
        assert_eq!(circle, Drawing::ellipse(10.0, 10.0, 4.0, 4.0));
        assert_eq!(circle.bounds(), (6.0, 6.0, 14.0, 14.0));
        let polygon = read(r#"{"shape":"polygon","polygon":{"points":[{"x":1,"y":2},{"x":9,"y":2},{"x":5,"y":8}]}}"#);
        assert_eq!((polygon.bounds(), polygon.points()), ((1.0, 2.0, 9.0, 8.0), Some(3)));
        assert_eq!(read(r#"{"shape":"spiral","position":{"x":1,"y":1}}"#).outline, Outline::None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for drawing in [
            Drawing::rectangle(1.0, 2.0, 3.0, 4.0).saying("Pitch"),
            Drawing::ellipse(1.0, 2.0, 3.0, 4.0),
            Drawing { outline: Outline::None, ..Drawing::ellipse(1.0, 2.0, 0.0, 0.0).saying("Bar") },
        ] {
            assert_eq!(read(&serde_json::to_string(&drawing).unwrap()), drawing);
        }
    }
}
