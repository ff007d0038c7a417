//! Fields of JSON: where they are, how they move, and values made out of them. Aggregation and versions share it.

mod form;
mod path;
mod step;

pub use form::{FieldText, Form, Missing};
pub use path::{FieldPath, Part};
pub use step::{Step, apply};

use tessera_kernel::text_on_the_wire;

text_on_the_wire!(FieldPath, "^.+$", "items[].price");
text_on_the_wire!(FieldText, "^.*$", "/users/{order.user_id}");
