//! Streams over a WebSocket, and a driver's positions up the same one.
//!
//! The server pings and drops a client that says nothing for three pings, or that does not take a frame within a deadline. A client
//! that is slow is told the newest, not all: what it missed is made up for as on the other streams.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use serde_json::json;
use tessera_service::{Identity, Problem, ProductError};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::positions;
use super::streams::{Event, Watch};
use crate::Error;
use crate::app::{App, driver_of};
use crate::domain::ids::DriverId;

/// How often it is asked whether the client is there.
const PING: Duration = Duration::from_secs(15);
/// How long a client may say nothing, pongs included.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a client may take to take a frame.
const TAKE: Duration = Duration::from_secs(10);
/// The largest message from a client: some hundred positions.
const MAX_MESSAGE_BYTES: usize = 64 * 1_024;

/// What a browser asks for beside its token, and is given.
const PROTOCOL: &str = "tessera";
/// Before the token, where it comes as a protocol.
const TOKEN: &str = "bearer.";

/// Who asks for a stream. A browser cannot set a header of a WebSocket, so that its token may come as one of the protocols that it
/// asks for; elsewhere they say nothing.
pub(super) struct Watcher(pub(super) Identity);

impl FromRequestParts<App> for Watcher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match token_of(&parts.headers) {
            Some(token) => Ok(Self(app.keys().authenticate(token).await?)),
            None => Identity::from_request_parts(parts, app).await.map(Self),
        }
    }
}

/// The token among the protocols of an upgrade that has no other.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    let upgrades = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrades || headers.contains_key(AUTHORIZATION) {
        return None;
    }
    let asked = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    asked.flat_map(|protocols| protocols.split(',')).find_map(|protocol| protocol.trim().strip_prefix(TOKEN))
}

/// Who sits at the other end.
pub(super) struct Guest {
    app: App,
    own: DriverId,
    identity: Identity,
}

impl Guest {
    pub(super) fn new(app: &App, identity: Identity) -> Self {
        Self { app: app.clone(), own: driver_of(&identity.subject), identity }
    }

    /// Takes a message of positions, and gives the answer.
    async fn take(&self, body: &[u8], binary: bool) -> String {
        let taken = async {
            self.identity.require(&["driver", "edge"]).map_err(|error| (error.code(), error.to_string()))?;
            let told = |error: Error| (ProductError::code(&error), public(&error));
            let reports = positions::read(&self.app, body, binary, self.own).map_err(told)?;
            positions::take(&self.app, &reports, self.own, self.identity.is("edge")).await.map_err(told)
        };
        match taken.await {
            Ok(updated) => json!({ "event": "updated", "data": updated }).to_string(),
            Err((code, detail)) => {
                json!({ "event": "refused", "data": { "code": code, "detail": detail } }).to_string()
            }
        }
    }

    /// How long the token lasts yet.
    pub(super) fn signed_in_for(&self) -> Duration {
        self.identity.expires_at.since(self.app.clock.now())
    }
}

/// What a client may read of an error: of a fault of ours only that there was one.
fn public(error: &Error) -> String {
    if error.kind().status() >= 500 {
        tracing::warn!(error = error as &dyn std::error::Error, "positions were not taken");
        return "try again when the next position is due".to_owned();
    }
    error.to_string()
}

/// Accepts the upgrade.
pub(super) fn answer(upgrade: WebSocketUpgrade, watch: Watch, guest: Guest, stop: CancellationToken) -> Response {
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    upgrade.protocols([PROTOCOL]).on_upgrade(move |mut socket| async move {
        let talk = async {
            let talk = timeout(guest.signed_in_for(), talk(&mut socket, watch, &guest));
            talk.await.unwrap_or(Ended::SignedOut)
        };
        let ended = stop.run_until_cancelled(talk).await;
        let (code, reason) = match ended {
            Some(Ended::Over) => (close_code::NORMAL, "over"),
            Some(Ended::SignedOut) => (close_code::POLICY, "the token has ended"),
            Some(Ended::Gone) => return,
            // The client connects to another process.
            None => (close_code::AWAY, "the server is stopping"),
        };
        // A client that has gone needs no farewell.
        let _ = send(&mut socket, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    })
}

/// Why a talk ended.
enum Ended {
    /// Nothing more will come.
    Over,
    /// The token has ended.
    SignedOut,
    /// The client has gone, or is as good as gone.
    Gone,
}

async fn talk(socket: &mut WebSocket, mut watch: Watch, guest: &Guest) -> Ended {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut heard = Instant::now();
    loop {
        let event = {
            // It goes on while the client talks: what it has begun to look up is not begun anew.
            let next = watch.next();
            tokio::pin!(next);
            loop {
                let reply = tokio::select! {
                    event = &mut next => break event,
                    said = socket.recv() => {
                        heard = Instant::now();
                        match said {
                            Some(Ok(Message::Text(text))) => Message::text(guest.take(text.as_bytes(), false).await),
                            Some(Ok(Message::Binary(body))) => Message::text(guest.take(&body, true).await),
                            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ended::Gone,
                        }
                    }
                    _ = pings.tick() => {
                        if heard.elapsed() > SILENCE {
                            return Ended::Gone;
                        }
                        Message::Ping(Bytes::new())
                    }
                };
                if !send(socket, reply).await {
                    return Ended::Gone;
                }
            }
        };
        match event.as_ref().map(Event::frame) {
            Some(Some(frame)) => {
                if !send(socket, Message::text(frame)).await {
                    return Ended::Gone;
                }
            }
            Some(None) => {}
            None => return Ended::Over,
        }
    }
}

/// Whether the client took it.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(TAKE, socket.send(message)).await, Ok(Ok(())))
}
