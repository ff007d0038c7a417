//! Routes by host, then by path.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Route;
use crate::domain::path_tree::{Captures, PathTree};

type Paths = PathTree<usize>;

/// Routes by host, then by path.
#[derive(Debug, Default)]
pub struct Hosts {
    exact: HashMap<String, Paths, ahash::RandomState>,
    /// By the part behind the star, longest first.
    under: Vec<(String, Paths)>,
    any: Paths,
}

impl Hosts {
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        // Stable: what is equal stays in the file's order.
        order.sort_by_key(|at| {
            let spec = &routes[*at].spec;
            (-i64::from(spec.priority), -(routes[*at].demands() as i64))
        });
        let mut hosts = Self::default();
        for at in order {
            let Route { spec, pattern, .. } = &routes[at];
            if spec.matcher.hosts.is_empty() {
                hosts.any.insert(pattern, at);
            }
            for host in &spec.matcher.hosts {
                let host = host.to_ascii_lowercase();
                match host.strip_prefix('*') {
                    None => hosts.exact.entry(host).or_default().insert(pattern, at),
                    Some(suffix) => {
                        let known = hosts.under.iter().position(|(known, _)| known == suffix);
                        let known = known.unwrap_or_else(|| {
                            hosts.under.push((suffix.to_owned(), Paths::default()));
                            hosts.under.len() - 1
                        });
                        hosts.under[known].1.insert(pattern, at);
                    }
                }
            }
        }
        hosts.under.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        hosts
    }

    /// Shows the routes of this host and path, most specific first, until one is taken: those of the very host before
    /// those of `*.host` before those of any.
    pub fn find<'p, R>(
        &self,
        host: &str,
        path: &'p str,
        mut take: impl FnMut(usize, &Captures<'p>) -> Option<R>,
    ) -> Option<R> {
        let mut take = |at: &usize, captures: &Captures<'p>| take(*at, captures);
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(host).and_then(|paths| paths.find(path, &mut take))
        {
            return Some(found);
        }
        for (suffix, paths) in &self.under {
            let is_under = host.len() > suffix.len() && host.ends_with(suffix.as_str());
            if let Some(found) = is_under.then(|| paths.find(path, &mut take)).flatten() {
                return Some(found);
            }
        }
        self.any.find(path, &mut take)
    }
}

/// A host without its port, in small letters, without a dot at its end.
pub fn bare_host(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (written, bare) in
            [("a.b", "a.b"), ("A.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:8080", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(bare_host(written), bare, "{written}");
        }
    }
}
