//! Text with `{name}` in it, for rewritten paths, redirects and headers.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use tessera_kernel::text_on_the_wire;

/// Literal text and names in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Name(String),
}

impl Template {
    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The text with each name replaced by what `value` has for it.
    pub fn fill<'v>(&self, mut value: impl FnMut(&str) -> Cow<'v, str>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Name(name) => text.push_str(&value(name)),
            }
        }
        text
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("`{text}` opens a `{{` that nothing closes; write {{name}}"));
            };
            if name.is_empty() {
                return Err(format!("`{text}` has `{{}}` without a name; write {{name}}"));
            }
            if !before.is_empty() {
                pieces.push(Piece::Literal(before.to_owned()));
            }
            pieces.push(Piece::Name(name.trim_start_matches('*').to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self { pieces })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(text),
            Piece::Name(name) => write!(f, "{{{name}}}"),
        })
    }
}

text_on_the_wire!(Template, "^.*$", "/v1/orders/{id}");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let template: Template = "/v1/{id}/{*rest}".parse().unwrap();
        assert_eq!(template.fill(|name| format!("<{name}>").into()), "/v1/<id>/<rest>");
        assert_eq!(template.to_string(), "/v1/{id}/{rest}");
        assert!("/{x".parse::<Template>().is_err() && "/{}".parse::<Template>().is_err());
    }
}
