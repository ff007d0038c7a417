//! JSON rows into Arrow columns by a known shape, in one pass over the bytes.
//!
//! What fits no column is kept in `_rescued`. Where a wider shape might hold it, the page is marked as drifted: the
//! caller widens the shape and, if that changed it, decodes the page again.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::column::{ColumnBuffer, RowBuffer, constant_text};
use super::{EXTRACTED_AT, Kind, RESCUED, RUN_ID, SOURCE, Shape, parse_date, parse_timestamp};
use crate::spec::SchemaPolicy;

/// Decodes pages of one resource.
#[derive(Clone, Debug)]
pub struct Decoder {
    shape: Arc<Shape>,
    policy: SchemaPolicy,
    exclude: Arc<[String]>,
    include: Arc<[String]>,
}

/// What every row of a page carries beside its own values.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// When the page was fetched, microseconds since 1970.
    pub extracted_at: i64,
    /// The run.
    pub run_id: String,
    /// The URL without its query.
    pub source: String,
    /// Values of the columns that come from the parent row or the partition, in the decoder's order.
    pub include: Vec<String>,
}

/// A page as Arrow columns.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The rows; the system columns are the last four.
    pub batch: RecordBatch,
    /// A wider shape would hold what was rescued here.
    pub drifted: bool,
    /// Rows with something in `_rescued`.
    pub rescued: u64,
    /// Values dropped by the policy `discard`.
    pub dropped: u64,
}

/// A value that fitted nothing.
struct Rescue {
    row: usize,
    /// Path from the inside out.
    path: Vec<String>,
    json: String,
}

struct Context<'a> {
    rescued: Vec<Rescue>,
    row: usize,
    drifted: bool,
    dropped: u64,
    policy: SchemaPolicy,
    exclude: &'a [String],
}

impl Context<'_> {
    fn rescue(&mut self, json: String) {
        self.rescued.push(Rescue { row: self.row, path: Vec::new(), json });
    }

    fn add_to_path(&mut self, since: usize, step: impl Fn() -> String) {
        for rescue in &mut self.rescued[since..] {
            rescue.path.push(step());
        }
    }
}

impl Decoder {
    /// A decoder for this shape. `include` names the columns that [`Meta::include`] fills.
    pub fn new(shape: Arc<Shape>, policy: SchemaPolicy, exclude: Arc<[String]>, include: Arc<[String]>) -> Self {
        Self { shape, policy, exclude, include }
    }

    /// The shape decoded by.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Decodes a JSON array of objects, or one object.
    ///
    /// # Errors
    /// What the parser says of the JSON, with its place.
    pub fn decode(&self, json: &[u8], meta: &Meta) -> Result<Decoded, String> {
        let mut rows = RowBuffer::of(&self.shape);
        let mut context = Context {
            rescued: Vec::new(),
            row: 0,
            drifted: false,
            dropped: 0,
            policy: self.policy,
            exclude: &self.exclude,
        };
        super::parse(json, Page { rows: &mut rows, context: &mut context })?;
        let Context { rescued, drifted, dropped, .. } = context;
        let count = rows.rows;
        let (fields, mut arrays) = rows.finish().map_err(|error| error.to_string())?;
        let mut fields: Vec<Arc<Field>> = fields.iter().cloned().collect();
        let mut add = |name: &str, data_type: DataType, array| {
            fields.push(Arc::new(Field::new(name, data_type, true)));
            arrays.push(array);
        };
        for (name, value) in self.include.iter().zip(&meta.include) {
            add(name, DataType::Utf8, constant_text(value, count));
        }
        let at = TimestampMicrosecondArray::from_value(meta.extracted_at, count).with_timezone("UTC");
        add(EXTRACTED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Arc::new(at));
        add(RUN_ID, DataType::Utf8, constant_text(&meta.run_id, count));
        add(SOURCE, DataType::Utf8, constant_text(&meta.source, count));
        let (rescued_column, rescued_rows) = rescued_column(rescued, count);
        add(RESCUED, DataType::Utf8, Arc::new(rescued_column));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|error| error.to_string())?;
        Ok(Decoded { batch, drifted, rescued: rescued_rows, dropped })
    }
}

/// Rows written by us earlier, read back by their shape, without adding system columns: they are among the shape's own.
///
/// # Errors
/// What the parser says of the JSON, or a value that does not fit what was written.
pub fn decode_stored(shape: &Arc<Shape>, json: &[u8]) -> Result<RecordBatch, String> {
    let mut rows = RowBuffer::of(shape);
    let mut context = Context {
        rescued: Vec::new(),
        row: 0,
        drifted: false,
        dropped: 0,
        policy: SchemaPolicy::Discard,
        exclude: &[],
    };
    super::parse(json, Page { rows: &mut rows, context: &mut context })?;
    if let Some(rescue) = context.rescued.first() {
        return Err(format!("a value of `{}` is not of its type: {}", rescue.path.join("."), rescue.json));
    }
    let count = rows.rows;
    let (fields, arrays) = rows.finish().map_err(|error| error.to_string())?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| error.to_string())
}

/// One JSON object a row of what was rescued from it.
fn rescued_column(rescued: Vec<Rescue>, rows: usize) -> (StringArray, u64) {
    let mut texts: Vec<Option<String>> = vec![None; if rescued.is_empty() { 0 } else { rows }];
    for rescue in rescued {
        let path: Vec<&str> = rescue.path.iter().rev().map(String::as_str).collect();
        let name = Value::String(path.join(".").replace(".[", "[")).to_string();
        match &mut texts[rescue.row] {
            Some(text) => {
                text.pop();
                text.push_str(&format!(",{name}:{}}}", rescue.json));
            }
            empty => *empty = Some(format!("{{{name}:{}}}", rescue.json)),
        }
    }
    if texts.is_empty() {
        return (StringArray::new_null(rows), 0);
    }
    let count = texts.iter().flatten().count() as u64;
    (StringArray::from(texts), count)
}

struct Page<'a, 'c> {
    rows: &'a mut RowBuffer,
    context: &'a mut Context<'c>,
}

impl<'de> Visitor<'de> for Page<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects or one object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut page: A) -> Result<(), A::Error> {
        while page.next_element_seed(Row { rows: self.rows, context: self.context })?.is_some() {
            self.context.row += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Row { rows: self.rows, context: self.context }.visit_map(map)
    }
}

/// One row, or one nested object.
struct Row<'a, 'c> {
    rows: &'a mut RowBuffer,
    context: &'a mut Context<'c>,
}

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Row<'_, '_> {
    /// A row that is no object has its value in the column `value`.
    fn plain(self, value: &Value) {
        match self.rows.items.iter_mut().find(|field| field.name == "value") {
            Some(field) => {
                let json = value.to_string();
                let seed = Cell { column: &mut field.values, context: self.context };
                let mut deserializer = sonic_rs::Deserializer::from_str(&json);
                if seed.deserialize(&mut deserializer).is_err() {
                    self.context.rescue(json);
                }
            }
            None => {
                self.context.drifted |= self.context.policy == SchemaPolicy::Evolve;
                self.context.rescue(value.to_string());
                let since = self.context.rescued.len() - 1;
                self.context.add_to_path(since, || "value".into());
            }
        }
        self.rows.end_row();
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.rows.end_row();
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.plain(&value.into());
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.plain(&value.into());
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.plain(&value.into());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.plain(&value.into());
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.plain(&value.into());
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        let value = Value::deserialize(SeqAccessDeserializer::new(items))?;
        self.plain(&value);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Row { rows, context } = self;
        // Rows of an API name their fields in the same order nearly always: the next field is tried first.
        let mut expected = 0;
        while let Some(key) = map.next_key_seed(Key { rows, expected })? {
            match key {
                Found::Column(at) => {
                    expected = at + 1;
                    let field = &mut rows.items[at];
                    let since = context.rescued.len();
                    if field.values.len() > rows.rows {
                        // The same key twice in one object: the first stays in the column.
                        let json = Value::deserialize(map.next_value_seed(Lazy)?).unwrap_or_default().to_string();
                        context.rescue(json);
                    } else {
                        map.next_value_seed(Cell { column: &mut field.values, context })?;
                    }
                    if context.rescued.len() > since {
                        context.add_to_path(since, || field.name.clone());
                    }
                }
                Found::New(name) => unknown_field(&mut map, name, context)?,
            }
        }
        rows.end_row();
        Ok(())
    }
}

fn unknown_field<'de, A: MapAccess<'de>>(map: &mut A, name: String, context: &mut Context<'_>) -> Result<(), A::Error> {
    if context.exclude.contains(&name) {
        map.next_value::<IgnoredAny>()?;
        return Ok(());
    }
    let value = map.next_value_seed(Lazy)?;
    match (&value, context.policy) {
        (Value::Null, _) => {}
        (_, SchemaPolicy::Discard) => context.dropped += 1,
        (_, policy) => {
            context.drifted |= policy == SchemaPolicy::Evolve;
            let since = context.rescued.len();
            context.rescue(value.to_string());
            context.add_to_path(since, || name.clone());
        }
    }
    Ok(())
}

/// Any value, as a tree.
struct Lazy;

impl<'de> DeserializeSeed<'de> for Lazy {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let raw = sonic_rs::LazyValue::deserialize(deserializer)?;
        serde_json::from_str(raw.as_raw_str()).map_err(D::Error::custom)
    }
}

enum Found {
    Column(usize),
    New(String),
}

struct Key<'a> {
    rows: &'a RowBuffer,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Found, E> {
        let items = &self.rows.items;
        if items.get(self.expected).is_some_and(|field| field.name == key) {
            return Ok(Found::Column(self.expected));
        }
        let at = items.iter().position(|field| field.name == key);
        Ok(at.map_or_else(|| Found::New(key.to_owned()), Found::Column))
    }
}

/// One value into its column.
struct Cell<'a, 'c> {
    column: &'a mut ColumnBuffer,
    context: &'a mut Context<'c>,
}

impl Cell<'_, '_> {
    /// The value does not fit: null in the column, the value in `_rescued`.
    fn rescue(self, json: Cow<'_, str>, seen: &Kind) {
        let wider =
            matches!((&*self.column, seen), (ColumnBuffer::Unknown(_), _) | (ColumnBuffer::Int(..), Kind::Float));
        self.context.drifted |= wider && self.context.policy == SchemaPolicy::Evolve;
        self.column.push_null();
        self.context.rescue(json.into_owned());
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if let ColumnBuffer::Json(text) = self.column {
            let raw = sonic_rs::LazyValue::deserialize(deserializer)?;
            match raw.as_raw_str() {
                "null" => text.push_null(),
                json => text.push(json),
            }
            return Ok(());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.column.push_null();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        match self.column {
            ColumnBuffer::Bool(values, valid) => {
                values.append(value);
                valid.append_non_null();
            }
            ColumnBuffer::String(text) => text.push(if value { "true" } else { "false" }),
            _ => self.rescue(value.to_string().into(), &Kind::Bool),
        }
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        match self.column {
            ColumnBuffer::Int(values, valid) => {
                values.push(value);
                valid.append_non_null();
            }
            ColumnBuffer::Float(values, valid) if (value as f64) as i128 == i128::from(value) => {
                values.push(value as f64);
                valid.append_non_null();
            }
            ColumnBuffer::String(text) => text.push(&value.to_string()),
            _ => self.rescue(value.to_string().into(), &Kind::Int),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => match self.column {
                ColumnBuffer::String(text) => {
                    text.push(&value.to_string());
                    Ok(())
                }
                _ => {
                    self.rescue(value.to_string().into(), &Kind::Json);
                    Ok(())
                }
            },
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        match self.column {
            ColumnBuffer::Float(values, valid) => {
                values.push(value);
                valid.append_non_null();
            }
            ColumnBuffer::String(text) => text.push(&Value::from(value).to_string()),
            _ => self.rescue(Value::from(value).to_string().into(), &Kind::Float),
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let quoted = || Cow::Owned(Value::from(value).to_string());
        match self.column {
            ColumnBuffer::String(text) => text.push(value),
            ColumnBuffer::Timestamp(values, valid) => match parse_timestamp(value) {
                Some(micros) => {
                    values.push(micros);
                    valid.append_non_null();
                }
                None => self.rescue(quoted(), &Kind::String),
            },
            ColumnBuffer::Date(values, valid) => match parse_date(value) {
                Some(days) => {
                    values.push(days);
                    valid.append_non_null();
                }
                None => self.rescue(quoted(), &Kind::String),
            },
            _ => self.rescue(quoted(), &Kind::String),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Cell { column, context } = self;
        if let ColumnBuffer::List { offsets, valid, items } = column {
            let mut at = 0;
            loop {
                let since = context.rescued.len();
                if list.next_element_seed(Cell { column: items, context })?.is_none() {
                    break;
                }
                if context.rescued.len() > since {
                    context.add_to_path(since, || format!("[{at}]"));
                }
                at += 1;
            }
            offsets.push(items.len() as i32);
            valid.append_non_null();
            return Ok(());
        }
        let value = Value::deserialize(SeqAccessDeserializer::new(list))?;
        let empty = value.as_array().is_some_and(Vec::is_empty);
        Cell { column, context }.tree(&value, empty);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Cell { column, context } = self;
        if let ColumnBuffer::Struct { fields, valid } = column {
            Row { rows: fields, context }.visit_map(map)?;
            valid.append_non_null();
            return Ok(());
        }
        let value = Value::deserialize(MapAccessDeserializer::new(map))?;
        let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
        Cell { column, context }.tree(&value, empty);
        Ok(())
    }
}

impl Cell<'_, '_> {
    fn tree(self, value: &Value, empty: bool) {
        match self.column {
            ColumnBuffer::String(text) => text.push(&value.to_string()),
            ColumnBuffer::Unknown(_) if empty => self.column.push_null(),
            _ => self.rescue(value.to_string().into(), &Kind::Json),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::shape::infer;

    fn decoder(shape: Shape, policy: SchemaPolicy) -> Decoder {
        Decoder::new(Arc::new(shape), policy, Arc::new([]), Arc::new([]))
    }

    fn rescued(batch: &RecordBatch, row: usize) -> String {
        batch.column_by_name(RESCUED).unwrap().as_string::<i32>().value(row).to_owned()
    }

    #[test]
    fn rows_become_columns() {
        let json = br#"[{"id":1,"s":{"a":"x"},"t":["p","q"],"w":1.5},{"w":2,"id":2,"s":null,"t":[]}]"#;
        let shape = infer(json).unwrap().shape;
        let decoded = decoder(shape, SchemaPolicy::Evolve).decode(json, &Meta::default()).unwrap();
        assert!(!decoded.drifted);
        assert_eq!(decoded.batch.num_rows(), 2);
        assert_eq!(decoded.batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(decoded.batch.column_by_name("w").unwrap().as_primitive::<Float64Type>().values(), &[1.5, 2.0]);
        assert_eq!(decoded.batch.column_by_name("t").unwrap().as_list::<i32>().value(0).len(), 2);
        assert_eq!(decoded.rescued, 0);
    }

    #[test]
    fn what_fits_nothing_is_rescued_with_its_path() {
        let shape = infer(br#"[{"id":1,"s":{"a":1},"t":[1]}]"#).unwrap().shape;
        let json = br#"[{"id":"one","s":{"a":"x","b":2},"t":[1,"two"]},{"id":2},{"id":3,"id":4}]"#;
        let decoded = decoder(shape, SchemaPolicy::Freeze).decode(json, &Meta::default()).unwrap();
        assert_eq!(decoded.rescued, 2);
        assert_eq!(rescued(&decoded.batch, 0), r#"{"id":"one","s.a":"x","s.b":2,"t[1]":"two"}"#);
        assert_eq!(rescued(&decoded.batch, 2), r#"{"id":4}"#);
    }

    #[test]
    fn drift_is_only_what_a_wider_shape_would_hold() {
        let shape = infer(br#"[{"id":1,"e":[],"n":null}]"#).unwrap().shape;
        let evolve = decoder(shape, SchemaPolicy::Evolve);
        let drifted = |json: &str| evolve.decode(json.as_bytes(), &Meta::default()).unwrap().drifted;
        assert!(drifted(r#"[{"id":1.5}]"#));
        assert!(drifted(r#"[{"new":1}]"#));
        assert!(drifted(r#"[{"e":[1]}]"#));
        assert!(drifted(r#"[{"n":{"a":1}}]"#));
        assert!(!drifted(r#"[{"id":"x"}]"#));
        assert!(!drifted(r#"[{"new":null,"n":[],"e":null}]"#));
    }

    #[test]
    fn discard_counts_what_it_drops() {
        let shape = infer(br#"[{"id":1}]"#).unwrap().shape;
        let decoded = decoder(shape, SchemaPolicy::Discard).decode(br#"[{"id":1,"x":2}]"#, &Meta::default()).unwrap();
        assert_eq!((decoded.dropped, decoded.rescued), (1, 0));
    }

    #[test]
    fn json_columns_keep_the_text_as_it_came() {
        let shape = Shape { columns: vec![super::super::Column { name: "j".into(), kind: Kind::Json }] };
        let json = br#"[{"j":{"a": 1.000, "n":123456789012345678901234567890}}]"#;
        let decoded = decoder(shape, SchemaPolicy::Evolve).decode(json, &Meta::default()).unwrap();
        let text = decoded.batch.column(0).as_string::<i32>().value(0).to_owned();
        assert_eq!(text, r#"{"a": 1.000, "n":123456789012345678901234567890}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            Just(Value::from("2024-01-31T00:00:00Z")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever the rows, each is decoded, and a page never drifts from the shape inferred from itself.
        #[test]
        fn a_page_always_fits_its_own_shape(rows in prop::collection::vec(prop::collection::btree_map("[a-e]", any_json(), 0..5), 0..6)) {
            let json = serde_json::to_vec(&rows).unwrap();
            let found = infer(&json).unwrap();
            let decoded = decoder(found.shape, SchemaPolicy::Evolve).decode(&json, &Meta::default()).unwrap();
            prop_assert_eq!(decoded.batch.num_rows(), rows.len());
            prop_assert!(!decoded.drifted);
        }

        /// Widening by the same page again changes nothing: the loop that widens ends.
        #[test]
        fn widening_once_is_enough(
            first in prop::collection::btree_map("[a-e]", any_json(), 0..5),
            second in prop::collection::btree_map("[a-e]", any_json(), 0..5),
        ) {
            let (first, second) = (serde_json::to_vec(&[first]).unwrap(), serde_json::to_vec(&[second]).unwrap());
            let seen = infer(&second).unwrap().shape;
            let wider = infer(&first).unwrap().shape.widen(seen.clone());
            prop_assert_eq!(wider.clone().widen(seen), wider.clone());
            prop_assert_eq!(decoder(wider, SchemaPolicy::Evolve).decode(&second, &Meta::default()).unwrap().batch.num_rows(), 1);
        }
    }
}
