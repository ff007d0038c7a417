//! Who has connected, and from where: behind proxies that the settings name, what these say.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::request::Parts;
use tessera_service::http::Peer;
use tessera_service::http::cookie::{Scheme, TokenCookie, is_cross_site};

use crate::Error;
use crate::app::App;

/// The other end of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Its address.
    pub address: IpAddr,
    /// How it came.
    scheme: Scheme,
    /// Whether a page of another site sent it, as browsers tell.
    is_cross_site: bool,
    /// Of our cookie.
    token: Option<String>,
}

const COOKIE: TokenCookie = TokenCookie { name: "tessera_refresh", path: "/accounts" };

impl Caller {
    /// The token in the cookie, where a page of ours sends it.
    pub fn cookie(&self) -> Result<Option<&str>, Error> {
        match &self.token {
            Some(_) if self.is_cross_site => Err(Error::CrossSite),
            token => Ok(token.as_deref()),
        }
    }

    /// The header that keeps a token.
    pub fn keep(&self, token: &str, max_age_s: u64) -> String {
        COOKIE.keep(token, max_age_s, self.scheme)
    }

    /// The header that forgets it.
    pub fn forget(&self) -> String {
        COOKIE.forget(self.scheme)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    App: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let app = App::from_ref(state);
        let peer = parts.extensions.get::<Peer>();
        let nearest = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip().to_canonical());
        let trusted = &app.config().trusted_proxies;
        let (mut address, mut is_https) = (nearest, peer.is_some_and(|peer| peer.is_tls));
        if trusted.contains(&nearest) {
            address = forwarded_for(&parts.headers, trusted).unwrap_or(nearest);
            is_https |= text(&parts.headers, "x-forwarded-proto").is_some_and(|scheme| scheme.trim() == "https");
        }
        is_https |= app.issuer().starts_with("https:");
        let scheme = if is_https { Scheme::Https } else { Scheme::Http };
        let (is_cross_site, token) = (is_cross_site(&parts.headers), COOKIE.read(&parts.headers));
        Ok(Self { address, scheme, is_cross_site, token })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The last address that is none of the proxies': what is before it anybody may have written.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let addresses = all.iter().rev().map_while(|text| text.parse::<IpAddr>().ok());
    addresses.map(|address| address.to_canonical()).find(|address| !trusted.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_proxies_add_is_believed() {
        let trusted: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        for (header, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("1.2.3.4, 203.0.113.7", Some("203.0.113.7")),
            ("1.2.3.4, 203.0.113.7, 10.0.0.2", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("10.0.0.2", None),
            ("203.0.113.7, unknown", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            assert_eq!(forwarded_for(&headers, &trusted), expected.map(|text| text.parse().unwrap()), "{header}");
        }
    }
}
