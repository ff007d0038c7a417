//! Steps that change a value, one after the other.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::path::{read, take, visit, write};
use super::{FieldPath, Part};

/// A change of a JSON value. Places are written `customer.name`, `items[].price`, `items[0]`, and `.` for the value itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// A field gets another name or place.
    Move {
        /// Where it is.
        from: FieldPath,
        /// Where it goes.
        to: FieldPath,
    },
    /// A field is there a second time.
    Copy {
        /// Where it is.
        from: FieldPath,
        /// Where it is as well.
        to: FieldPath,
    },
    /// A field is taken away.
    Drop(FieldPath),
    /// Only these fields stay.
    Keep(Vec<FieldPath>),
    /// A field that is missing gets a value.
    Default {
        /// The field.
        at: FieldPath,
        /// The value.
        value: Value,
    },
    /// A field gets a value, whatever it had.
    Set {
        /// The field.
        at: FieldPath,
        /// The value.
        value: Value,
    },
    /// Words of a field are replaced by others; unknown ones stay.
    Translate {
        /// The field.
        at: FieldPath,
        /// What becomes of which word.
        words: BTreeMap<String, Value>,
    },
    /// The fields of an object go into another one, which loses its own of the same names.
    Merge {
        /// The object, which is taken away.
        from: FieldPath,
        /// The object that gets its fields.
        into: FieldPath,
    },
    /// Each item of a list gets the item of another list that has the same key.
    Join {
        /// The list.
        list: FieldPath,
        /// The other list.
        with: FieldPath,
        /// The key's field in an item of `list`.
        by: FieldPath,
        /// The key's field in an item of `with`; as in `by` where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<FieldPath>,
        /// Where in an item the found one goes.
        into: FieldPath,
    },
}

/// Changes a value by all steps in their order.
pub fn apply(steps: &[Step], value: &mut Value) {
    steps.iter().for_each(|step| step.apply(value));
}

impl Step {
    fn apply(&self, value: &mut Value) {
        match self {
            Self::Move { from, to } => carry(from.parts(), to.parts(), value, true),
            Self::Copy { from, to } => carry(from.parts(), to.parts(), value, false),
            Self::Drop(at) => drop(at.take(value)),
            Self::Keep(fields) => keep(&fields.iter().map(FieldPath::parts).collect::<Vec<_>>(), value),
            Self::Default { at, value: default } => at.write_missing(value, default),
            Self::Set { at, value: new } => at.write(value, new),
            Self::Translate { at, words } => visit(at.parts(), value, &mut |found| {
                let word = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                if let Some(new) = words.get(&word) {
                    *found = new.clone();
                }
            }),
            Self::Merge { from, into } => {
                let Some(Value::Object(fields)) = from.take(value) else { return };
                into.write_missing(value, &Value::Object(Map::new()));
                visit(into.parts(), value, &mut |target| {
                    if let Value::Object(target) = target {
                        target.extend(fields.clone());
                    }
                });
            }
            Self::Join { list, with, by, key, into } => {
                join(value, (list, with), (by, key.as_ref().unwrap_or(by)), into)
            }
        }
    }

    /// The places that it looks at.
    pub fn places(&self) -> Vec<&FieldPath> {
        match self {
            Self::Move { from, to } | Self::Copy { from, to } => vec![from, to],
            Self::Drop(at) | Self::Default { at, .. } | Self::Set { at, .. } | Self::Translate { at, .. } => vec![at],
            Self::Keep(fields) => fields.iter().collect(),
            Self::Merge { from, into } => vec![from, into],
            Self::Join { list, with, .. } => vec![list, with],
        }
    }
}

/// Moves or copies. Where both places go through the same `[]` each item is changed by itself.
fn carry(from: &[Part], to: &[Part], value: &mut Value, takes: bool) {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    if let Some(each) = from[..common].iter().rposition(|part| *part == Part::Each) {
        let (way, from) = from.split_at(each + 1);
        visit(way, value, &mut |item| carry(from, &to[each + 1..], item, takes));
        return;
    }
    let found = if takes { take(from, value) } else { read(from, value).map(Cow::into_owned) };
    if let Some(found) = found {
        write(to, value, &found, true);
    }
}

/// Leaves only what these places lead to.
fn keep(places: &[&[Part]], value: &mut Value) {
    if places.iter().any(|place| place.is_empty()) {
        return;
    }
    match value {
        Value::Object(fields) => {
            let below = |key: &str| -> Vec<&[Part]> {
                let fits = |place: &&&[Part]| matches!(place.first(), Some(Part::Key(name)) if name == key);
                places.iter().filter(fits).map(|place| &place[1..]).collect()
            };
            fields.retain(|key, _| !below(key).is_empty());
            fields.iter_mut().for_each(|(key, field)| keep(&below(key), field));
        }
        Value::Array(items) => {
            let below: Vec<&[Part]> =
                places.iter().filter(|place| place.first() == Some(&Part::Each)).map(|place| &place[1..]).collect();
            items.iter_mut().for_each(|item| keep(&below, item));
        }
        _ => {}
    }
}

/// Joins two lists by a key: each item of the one gets the item of the other, where there is one.
fn join(value: &mut Value, lists: (&FieldPath, &FieldPath), keys: (&FieldPath, &FieldPath), into: &FieldPath) {
    let Some(others) = lists.1.read(value).map(Cow::into_owned) else { return };
    let Some(others) = others.as_array() else { return };
    // Numbers and words are different keys: a key is its JSON.
    let by_key: HashMap<String, &Value> =
        others.iter().filter_map(|other| Some((keys.1.read(other)?.to_string(), other))).collect();
    visit(lists.0.parts(), value, &mut |list| {
        let Value::Array(items) = list else { return };
        for item in items {
            let found = keys.0.read(item).and_then(|key| by_key.get(&key.to_string()));
            if let Some(found) = found {
                into.write(item, found);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changed(steps: Value, mut value: Value) -> Value {
        let steps: Vec<Step> = serde_json::from_value(steps).unwrap();
        apply(&steps, &mut value);
        value
    }

    #[test]
    fn fields_move_through_lists() {
        let orders = json!({ "orders": [{ "cost": 5, "who": { "id": 1 } }, { "cost": 6 }], "next": "x" });
        let steps = json!([
            { "move": { "from": "orders[].cost", "to": "orders[].price.amount" } },
            { "move": { "from": "orders[].who.id", "to": "orders[].customer" } },
            { "copy": { "from": "orders[].price.amount", "to": "amounts" } },
            { "default": { "at": "orders[].customer", "value": null } },
            { "set": { "at": "kind", "value": "list" } },
            { "drop": "next" },
        ]);
        let wanted = json!({
            "orders": [
                { "who": {}, "price": { "amount": 5 }, "customer": 1 },
                { "price": { "amount": 6 }, "customer": null },
            ],
            "amounts": [5, 6],
            "kind": "list",
        });
        assert_eq!(changed(steps, orders), wanted);
    }

    #[test]
    fn fields_stay_are_translated_merged_and_joined() {
        let value = json!({
            "items": [{ "id": 1, "product": "a", "state": "open", "secret": 1 }, { "id": 2, "product": "z", "state": 7 }],
            "products": [{ "sku": "a", "name": "Apple" }, { "sku": "b" }],
            "extra": { "count": 2 },
            "other": true,
        });
        let steps = json!([
            { "join": { "list": "items", "with": "products", "by": "product", "key": "sku", "into": "found" } },
            { "translate": { "at": "items[].state", "words": { "open": "OPEN", "7": "CLOSED" } } },
            { "merge": { "from": "extra", "into": "." } },
            { "keep": ["items[].id", "items[].state", "items[].found", "count"] },
        ]);
        let wanted = json!({
            "items": [
                { "id": 1, "state": "OPEN", "found": { "sku": "a", "name": "Apple" } },
                { "id": 2, "state": "CLOSED" },
            ],
            "count": 2,
        });
        assert_eq!(changed(steps, value), wanted);
    }
}
