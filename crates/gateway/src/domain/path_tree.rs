//! Path patterns as a tree: `/orders/{id}`, `/files/{*rest}`, `/api/` as a prefix. A path is walked once, and what fits it
//! comes most specific first: a word before a parameter, a parameter before the rest.

use std::collections::HashMap;
use std::str::FromStr;

/// The most parameters in a pattern.
pub const MAX_PARAMETERS: usize = 16;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Word(String),
    Parameter(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Here and not further; with or without a slash at the end, as written.
    Exact { slash: bool },
    /// Here and everything below: `/api/*`, or `/files/{*rest}` with a name.
    Below(Option<String>),
}

impl Pattern {
    /// The names of its parameters, in their order.
    pub fn parameters(&self) -> Vec<&str> {
        let names = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name.as_str()),
            Piece::Word(_) => None,
        });
        let rest = match &self.end {
            End::Below(Some(name)) => Some(name.as_str()),
            _ => None,
        };
        names.chain(rest).collect()
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("path `{text}` {why}");
        let Some(inner) = text.strip_prefix('/') else { return Err(wrong("must start with `/`")) };
        let mut parts: Vec<&str> = inner.split('/').collect();
        let end = match parts.last().copied() {
            Some("*") => End::Below(None),
            Some(last) if last.starts_with("{*") && last.ends_with('}') => {
                End::Below(Some(last[2..last.len() - 1].to_owned()))
            }
            Some("") => End::Exact { slash: true },
            _ => End::Exact { slash: false },
        };
        if end != (End::Exact { slash: false }) {
            parts.pop();
        }
        let mut pieces = Vec::new();
        for part in parts {
            pieces.push(match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => Piece::Parameter(name.to_owned()),
                None if part.is_empty() => return Err(wrong("has an empty segment; take out the double slash")),
                None if part.contains(['{', '}', '*', '?', '#', ' ']) => {
                    return Err(wrong(
                        "has a `{`, `}` or `*` within a segment; a parameter is a whole segment, such as `/orders/{id}`",
                    ));
                }
                None => Piece::Word(part.to_owned()),
            });
        }
        let pattern = Self { pieces, end };
        let names = pattern.parameters();
        let good = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
        if !names.iter().all(good) {
            return Err(wrong("has a parameter whose name is not made of letters, digits and `_`"));
        }
        if names.len() > MAX_PARAMETERS {
            return Err(wrong("has more than 16 parameters"));
        }
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, twice)) => Err(wrong(&format!("names `{twice}` twice; rename one"))),
            None => Ok(pattern),
        }
    }
}

/// Patterns with a value each; several may have the same pattern.
#[derive(Debug)]
pub struct PathTree<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    words: HashMap<Box<str>, Node<T>, ahash::RandomState>,
    parameter: Option<Box<Node<T>>>,
    /// What ends here, without and with a slash.
    here: [Vec<T>; 2],
    below: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: HashMap::default(), parameter: None, here: [Vec::new(), Vec::new()], below: Vec::new() }
    }
}

impl<T> Default for PathTree<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

/// The texts that a path has for a pattern's parameters, in the pattern's order, still escaped.
pub type Captures<'p> = Vec<&'p str>;

impl<T> PathTree<T> {
    /// Adds a pattern. Values of one pattern are found in the order they were added.
    pub fn insert(&mut self, pattern: &Pattern, value: T) {
        let mut node = &mut self.root;
        for piece in &pattern.pieces {
            node = match piece {
                Piece::Word(word) => node.words.entry(word.as_str().into()).or_default(),
                Piece::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        match pattern.end {
            End::Exact { slash } => node.here[usize::from(slash)].push(value),
            End::Below(_) => node.below.push(value),
        }
    }

    /// Shows the values whose patterns fit the path, most specific first, until one is taken.
    pub fn find<'p, R>(&self, path: &'p str, mut take: impl FnMut(&T, &Captures<'p>) -> Option<R>) -> Option<R> {
        let rest = path.strip_prefix('/')?;
        walk(&self.root, Some(rest), &mut Vec::new(), &mut take)
    }
}

/// `rest` is what follows the slash behind this node; `None` where the path ends without one.
fn walk<'p, T, R>(
    node: &Node<T>,
    rest: Option<&'p str>,
    captures: &mut Captures<'p>,
    take: &mut impl FnMut(&T, &Captures<'p>) -> Option<R>,
) -> Option<R> {
    let Some(rest) = rest else {
        return node.here[0].iter().chain(&node.below).find_map(|value| take(value, &with_rest(captures, "")));
    };
    if rest.is_empty() {
        let found = node.here[1].iter().find_map(|value| take(value, captures));
        if found.is_some() {
            return found;
        }
    } else {
        let (segment, after) = match rest.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        if let Some(found) = node.words.get(segment).and_then(|child| walk(child, after, captures, take)) {
            return Some(found);
        }
        if let Some(child) = &node.parameter {
            captures.push(segment);
            let found = walk(child, after, captures, take);
            captures.pop();
            if found.is_some() {
                return found;
            }
        }
    }
    if node.below.is_empty() {
        return None;
    }
    let captures = with_rest(captures, rest);
    node.below.iter().find_map(|value| take(value, &captures))
}

fn with_rest<'p>(captures: &Captures<'p>, rest: &'p str) -> Captures<'p> {
    captures.iter().copied().chain([rest]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(patterns: &[&'static str]) -> PathTree<&'static str> {
        let mut tree = PathTree::default();
        for pattern in patterns {
            tree.insert(&pattern.parse().unwrap(), *pattern);
        }
        tree
    }

    fn all(tree: &PathTree<&'static str>, path: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        let _: Option<()> = tree.find(path, |pattern, _| {
            found.push(*pattern);
            None
        });
        found
    }

    #[test]
    fn the_most_specific_comes_first() {
        let tree = tree(&["/*", "/a/*", "/a/{x}", "/a/b", "/a/b/", "/a/{x}/c", "/{x}/b"]);
        assert_eq!(all(&tree, "/a/b"), ["/a/b", "/a/{x}", "/a/*", "/{x}/b", "/*"]);
        assert_eq!(all(&tree, "/a/b/"), ["/a/b/", "/a/*", "/*"]);
        assert_eq!(all(&tree, "/a/b/c"), ["/a/{x}/c", "/a/*", "/*"]);
        assert_eq!(all(&tree, "/"), ["/*"]);
        assert_eq!(all(&tree, "/a"), ["/a/*", "/*"]);
    }

    #[test]
    fn parameters_are_captured_in_order() {
        let tree = tree(&["/u/{user}/f/{*rest}"]);
        let found = tree.find("/u/ann%20b/f/x/y/", |_, captures| Some(captures.clone())).unwrap();
        assert_eq!(found, ["ann%20b", "x/y/"]);
        assert_eq!(tree.find("/u/ann/f", |_, captures| Some(captures.clone())).unwrap(), ["ann", ""]);
    }

    #[test]
    fn a_wrong_pattern_is_refused_with_the_remedy() {
        for (pattern, said) in [
            ("a", "start with"),
            ("/a//b", "empty"),
            ("/a{b}", "whole segment"),
            ("/{a}/{a}", "twice"),
            ("/{}", "name"),
        ] {
            assert!(pattern.parse::<Pattern>().unwrap_err().contains(said), "{pattern}");
        }
    }
}
