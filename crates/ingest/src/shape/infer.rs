//! Finds the shape of JSON rows.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Column, Kind, MAX_DEPTH, MAX_FIELDS, Shape, parse_date, parse_timestamp};

/// What was found in a page.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    /// The shape that holds every row.
    pub shape: Shape,
    /// Number of rows.
    pub rows: usize,
}

/// Finds the shape of a JSON array of objects, or of one object.
///
/// # Errors
/// What the parser says of the JSON, or that a row is no object.
pub fn infer(json: &[u8]) -> Result<Inference, String> {
    struct Rows<'a>(&'a mut Inference);
    impl<'de> Visitor<'de> for Rows<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of objects or one object")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
            let mut kind = Kind::Unknown;
            while let Some(row) = rows.next_element_seed(Seen { depth: 0 })? {
                let row = match row {
                    row @ (Kind::Struct(_) | Kind::Unknown) => row,
                    other => Kind::Struct(vec![Column { name: "value".into(), kind: other }]),
                };
                kind = kind.merge(row);
                self.0.rows += 1;
            }
            if let Kind::Struct(columns) = kind {
                self.0.shape.columns = columns;
            }
            Ok(())
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
            if let Kind::Struct(columns) = (Seen { depth: 0 }).visit_map(map)? {
                self.0.shape.columns = columns;
            }
            self.0.rows = 1;
            Ok(())
        }
    }
    let mut inference = Inference::default();
    super::parse(json, Rows(&mut inference))?;
    Ok(inference)
}

/// Reads one value and tells its kind.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seen {
    type Value = Kind;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        if self.depth > MAX_DEPTH {
            sonic_rs::LazyValue::deserialize(deserializer)?;
            return Ok(Kind::Json);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seen {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Unknown)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Bool)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Int)
    }
    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(if i64::try_from(value).is_ok() { Kind::Int } else { Kind::Json })
    }
    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        // A whole number of 20 to 25 digits is an identifier or an amount, and would lose digits as a float.
        let long_integer = value.abs() >= 9.2e18 && value.abs() < 1e25;
        Ok(if long_integer { Kind::Json } else { Kind::Float })
    }
    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(match text.as_bytes() {
            [b'0'..=b'9', ..] if parse_timestamp(text).is_some() => Kind::Timestamp,
            [b'0'..=b'9', ..] if parse_date(text).is_some() => Kind::Date,
            _ => Kind::String,
        })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut kind = Kind::Unknown;
        while let Some(item) = items.next_element_seed(Seen { depth: self.depth + 1 })? {
            kind = kind.merge(item);
        }
        Ok(Kind::List(Box::new(kind)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Kind, A::Error> {
        let mut columns: Vec<Column> = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            let kind = fields.next_value_seed(Seen { depth: self.depth + 1 })?;
            match columns.iter_mut().find(|column| column.name == name) {
                Some(column) => column.kind = std::mem::take(&mut column.kind).merge(kind),
                None => columns.push(Column { name, kind }),
            }
        }
        Ok(if columns.len() > MAX_FIELDS && self.depth > 0 { Kind::Json } else { Kind::Struct(columns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_column_of_mixed_rows() {
        let rows = br#"[{"id":1,"at":"2024-01-31T00:00:00Z","d":"2024-01-31","w":1,"n":null,"t":[],"s":{"a":1}},
                        {"id":2,"at":"2024-02-01T00:00:00+01:00","d":"2024-02-01","w":1.5,"x":true,"t":["a"],"s":{"b":"c"}}]"#;
        let found = infer(rows).unwrap();
        assert_eq!(found.rows, 2);
        let words: Vec<String> = found.shape.columns.iter().map(|c| format!("{}:{}", c.name, c.kind)).collect();
        let expected = [
            "id:int",
            "at:timestamp",
            "d:date",
            "w:float",
            "n:unknown",
            "t:list<string>",
            "s:struct<a: int, b: string>",
            "x:bool",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn numbers_too_long_for_64_bits_stay_text() {
        let found = infer(br#"[{"id":123456789012345678901234,"f":1e300}]"#).unwrap();
        assert_eq!(found.shape.column("id").unwrap().kind, Kind::Json);
        assert_eq!(found.shape.column("f").unwrap().kind, Kind::Float);
    }

    #[test]
    fn a_single_object_is_one_row_and_plain_values_are_rows_too() {
        assert_eq!(infer(br#"{"a":1}"#).unwrap().rows, 1);
        assert_eq!(infer(br#"[1,2]"#).unwrap().shape.columns[0].name, "value");
        assert_eq!(infer(b"[]").unwrap().rows, 0);
        assert!(infer(b"[{").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("[{}1{}]", "{\"a\":".repeat(60), "}".repeat(60));
        let found = infer(deep.as_bytes()).unwrap();
        assert!(found.shape.columns[0].kind.to_string().contains("json"));
    }
}
