//! Cookies that hold a token for the pages of this server: no script reads them, and no page of another site has them sent.

use http::HeaderMap;
use http::header::COOKIE;

/// A cookie.
#[derive(Clone, Copy, Debug)]
pub struct TokenCookie {
    /// Its name.
    pub name: &'static str,
    /// It is sent to this path and those below it only.
    pub path: &'static str,
}

/// How a page was reached, which its cookies keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl TokenCookie {
    /// The token in it.
    pub fn read(&self, headers: &HeaderMap) -> Option<String> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, value)| *name == self.name && !value.is_empty()).map(|(_, value)| value.to_owned())
    }

    /// The header that keeps a token, which is made of letters, digits, `_` and `-`.
    pub fn keep(&self, token: &str, max_age_s: u64, scheme: Scheme) -> String {
        let Self { name, path } = self;
        let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
        format!("{name}={token}; Path={path}; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The header that forgets it.
    pub fn forget(&self, scheme: Scheme) -> String {
        self.keep("", 0, scheme)
    }
}

/// Whether a page of another site has sent a request, as browsers tell.
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookie_is_found_among_others() {
        let ours = TokenCookie { name: "tessera_refresh", path: "/accounts" };
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; tessera_refresh=tsr_x".parse().unwrap());
        assert_eq!(ours.read(&headers).as_deref(), Some("tsr_x"));
        headers.insert("cookie", "xtessera_refresh=tsr_x; tessera_refresh=".parse().unwrap());
        assert_eq!(ours.read(&headers), None);
    }
}
