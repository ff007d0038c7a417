//! What tells callers apart, for limits and for hashing: `ip`, `header:x-tenant`, `claim:sub`, …

use std::fmt;
use std::str::FromStr;
use tessera_kernel::text_on_the_wire;

/// One thing that tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The client's address.
    Ip,
    /// A header's value.
    Header(String),
    /// A claim of the token, or `sub` of whoever is signed in.
    Claim(String),
    /// The consumer that an API key belongs to, or any other proven subject.
    Consumer,
    /// A parameter of the path.
    Path(String),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
}

impl Key {
    /// Whether it is known only after it was found out who asks.
    pub fn asks_who(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Consumer)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once(':').filter(|(_, name)| !name.is_empty());
        Ok(match (text, named) {
            ("ip", _) => Self::Ip,
            ("consumer", _) => Self::Consumer,
            (_, Some(("header", name))) => Self::Header(name.to_ascii_lowercase()),
            (_, Some(("claim", name))) => Self::Claim(name.into()),
            (_, Some(("path", name))) => Self::Path(name.into()),
            (_, Some(("query", name))) => Self::Query(name.into()),
            (_, Some(("cookie", name))) => Self::Cookie(name.into()),
            _ => {
                return Err(format!(
                    "`{text}` does not tell callers apart; write ip, consumer, header:NAME, claim:NAME, path:NAME, query:NAME or cookie:NAME"
                ));
            }
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Consumer => f.write_str("consumer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Path(name) => write!(f, "path:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

text_on_the_wire!(Key, "^(ip|consumer|(header|claim|path|query|cookie):.+)$", "ip");
