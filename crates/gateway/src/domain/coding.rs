//! Which coding of an answer a caller takes (RFC 9110, 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A coding of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// By its name in headers.
    pub fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }
}

/// The coding that a caller likes best, of those offered; the first offered of several. `None` where it takes none or
/// likes none better than the plain body.
pub fn choose(request: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let (mut any, mut plain) = (None, None);
    let mut liked: [Option<u16>; 3] = [None; 3];
    let lines = request.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    for item in lines.flat_map(|line| line.split(',')) {
        let (name, rest) = item.split_once(';').unwrap_or((item, ""));
        let (name, quality) = (name.trim(), quality(rest));
        match (name, Coding::named(name)) {
            (_, Some(coding)) => liked[coding as usize] = Some(quality),
            ("*", _) => any = Some(quality),
            _ if name.eq_ignore_ascii_case("identity") => plain = Some(quality),
            _ => {}
        }
    }
    let like = |coding: Coding| liked[coding as usize].or(any).unwrap_or(0);
    let best = offered.iter().copied().rev().max_by_key(|coding| like(*coding))?;
    (like(best) > 0 && like(best) >= plain.unwrap_or(0)).then_some(best)
}

/// `;q=0.5` in thousandths; what cannot be read is 0.
fn quality(parameters: &str) -> u16 {
    let value = parameters.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(value) = value else { return 1_000 };
    let (whole, rest) = value.split_once('.').unwrap_or((value, ""));
    let is_good = matches!(whole, "0" | "1") && rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{rest:0<3}").parse().unwrap_or(0);
    match whole {
        _ if !is_good => 0,
        "1" => 1_000,
        _ => thousandths,
    }
}

/// Whether a media type is one of these: `text/html`, `text/*`, `*+json`.
pub fn is_of(kind: &str, types: &[String]) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    types.iter().any(|known| match (known.strip_suffix('*'), known.strip_prefix('*')) {
        (Some(start), _) => kind.starts_with(start),
        (_, Some(end)) => kind.ends_with(end),
        _ => kind == *known,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn callers_get_what_they_like_best() {
        for (accepted, chosen) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br", Some(Coding::Br)),
            ("GZIP", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0.3, identity;q=0.5", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, br;q=0", Some(Coding::Zstd)),
            ("zstd;q=0, *;q=0.2, br;q=0", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=0.0001", None),
            ("identity", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(choose(&headers, &Coding::ALL), chosen, "{accepted}");
        }
        assert_eq!(choose(&HeaderMap::new(), &Coding::ALL), None);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br, zstd"));
        assert_eq!(choose(&headers, &[Coding::Gzip]), Some(Coding::Gzip), "what is offered");
    }

    #[test]
    fn types_are_told_by_pattern() {
        let types: Vec<String> = ["text/*", "application/json", "*+json"].map(str::to_owned).to_vec();
        for (kind, is_one) in [
            ("text/html; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/problem+json", true),
            ("image/png", false),
            ("application/json2", false),
            ("", false),
        ] {
            assert_eq!(is_of(kind, &types), is_one, "{kind}");
        }
    }
}
