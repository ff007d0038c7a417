//! Fields of JSON: where they are, how they move, and values made out of them. Aggregation and versions share it.

mod form;
mod path;
mod step;

pub use form::{FieldText, Form, Missing};
pub use path::{FieldPath, Part};
pub use step::{Step, apply};

use serde_json::{Map, Value};
use tessera_kernel::text_on_the_wire;

text_on_the_wire!(FieldPath, "^.+$", "items[].price");
text_on_the_wire!(FieldText, "^.*$", "/users/{order.user_id}");

/// The fields of a query or form, each as `read` gives it from its name and text; what is there several times is a list.
pub(crate) fn fields_of(written: &[u8], read: impl Fn(&str, &str) -> Value) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, text) in url::form_urlencoded::parse(written) {
        let value = read(&name, &text);
        match fields.get_mut(&*name) {
            None => drop(fields.insert(name.into_owned(), value)),
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    fields
}
