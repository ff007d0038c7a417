//! Headers found by name.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The first value of a header. For names that are not among the standard ones: to look at each of those that are there is
/// quicker than to compute where it would be.
pub fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    headers.iter().find_map(|(known, value)| (known == name).then_some(value))
}
