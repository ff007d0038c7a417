//! Probes: endpoints are asked again and again whether they are well.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use http::Request;
use http::header::{HOST, USER_AGENT};
use tessera_service::client;
use tokio::time::{sleep, timeout};

use super::pool::connect;
use super::{Endpoint, Need, Sender, Upstream};
use crate::engine::Body;
use crate::spec::Health;

/// Asks all endpoints of an upstream, for as long as it is polled.
pub(super) async fn follow(upstream: Arc<Upstream>, probe: Health) {
    // By endpoint: answers in a row that say the other thing than what is believed.
    let mut against: HashMap<u64, u32> = HashMap::new();
    loop {
        let endpoints = upstream.endpoints();
        let answers = join_all(endpoints.iter().map(|endpoint| ask(&upstream, endpoint, &probe))).await;
        against.retain(|id, _| endpoints.iter().any(|endpoint| endpoint.id == *id));
        for (endpoint, is_well) in endpoints.iter().zip(answers) {
            let count = against.entry(endpoint.id).or_default();
            if is_well == endpoint.is_well() {
                *count = 0;
                continue;
            }
            *count += 1;
            if *count >= if is_well { probe.successes } else { probe.failures } {
                *count = 0;
                endpoint.set_well(is_well);
                tracing::warn!(upstream = &*upstream.name, endpoint = %endpoint.url, is_well, "an endpoint's health changed");
            }
        }
        sleep(probe.every.0).await;
    }
}

async fn ask(upstream: &Upstream, endpoint: &Endpoint, probe: &Health) -> bool {
    timeout(probe.timeout.0, answer(upstream, endpoint, probe)).await.is_ok_and(|is_well| is_well.unwrap_or(false))
}

/// Whether it answers well, on a connection of its own, so that a new one is seen to work.
async fn answer(upstream: &Upstream, endpoint: &Endpoint, probe: &Health) -> Option<bool> {
    let scheme = if endpoint.url.is_tls { "https" } else { "http" };
    let authority = endpoint.authority.to_str().ok()?;
    let request =
        Request::get(format!("{scheme}://{authority}{}", probe.path)).header(USER_AGENT, client::user_agent());
    let status = match connect(upstream, endpoint, Need::Whatever).await.ok()? {
        Sender::Wire(_) => return None,
        Sender::Http2(mut sender) => sender.send_request(request.body(Body::Empty).ok()?).await.ok()?.status(),
        Sender::Http1(mut sender) => {
            let mut request = request.header(HOST, endpoint.authority.clone()).body(Body::Empty).ok()?;
            *request.uri_mut() = probe.path.parse().ok()?;
            sender.send_request(request).await.ok()?.status()
        }
    };
    Some((200..400).contains(&status.as_u16()))
}
