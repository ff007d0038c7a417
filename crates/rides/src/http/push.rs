//! Devices: where the caller is reached when the app sleeps.

use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tessera_kernel::Uuid;
use tessera_service::http::{Json, Path};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use crate::Error;
use crate::app::{App, driver_of};
use crate::domain::ids::{RideId, uuid_of};
use crate::push::{Device, Service, WebKeys, rider_of};
use crate::store::Attempt;

/// The longest token or endpoint.
const MAX_ADDRESS_BYTES: usize = 4_096;

/// A device, as its service names it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "service", rename_all = "lowercase")]
pub(super) enum DeviceBody {
    /// An app with Firebase Cloud Messaging.
    Fcm {
        /// The registration token.
        token: String,
    },
    /// An app with Apple's service.
    Apns {
        /// The device token in hexadecimal.
        token: String,
    },
    /// A browser.
    Web {
        /// What `PushManager.subscribe` gives, as JSON.
        subscription: SubscriptionBody,
    },
}

/// A browser's subscription.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SubscriptionBody {
    endpoint: String,
    keys: KeysBody,
}

/// What messages are encrypted with.
#[derive(Deserialize, ToSchema)]
pub(super) struct KeysBody {
    p256dh: String,
    auth: String,
}

impl std::fmt::Debug for KeysBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeysBody")
    }
}

/// What a browser subscribes with.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyBody {
    /// The `applicationServerKey`, in base64url.
    public_key: String,
}

/// An attempt to reach a device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptBody {
    #[schema(value_type = String)]
    device: Uuid,
    /// Of the change in the ride's history.
    version: u32,
    service: &'static str,
    number: u32,
    /// `sent`, `gone`, `refused` or `later`.
    outcome: String,
    reason: Option<String>,
    took_ms: u32,
}

impl From<Attempt> for AttemptBody {
    fn from(attempt: Attempt) -> Self {
        Self {
            device: attempt.device,
            version: attempt.version,
            service: attempt.service.as_str(),
            number: attempt.number,
            outcome: attempt.outcome,
            reason: attempt.reason,
            took_ms: attempt.took_ms,
        }
    }
}

fn bad(reason: &str) -> Error {
    Error::BadRequest { reason: reason.to_owned() }
}

impl DeviceBody {
    /// Service, address and keys, where they can be such.
    fn read(self, app: &App) -> Result<(Service, String, Option<WebKeys>), Error> {
        let (service, address, keys) = match self {
            Self::Fcm { token } => (Service::Fcm, token, None),
            Self::Apns { token } => (Service::Apns, token.to_ascii_lowercase(), None),
            Self::Web { subscription } => (Service::Web, subscription.endpoint, Some(subscription.keys)),
        };
        if !app.config.push.has(service) {
            return Err(Error::NoPush { service: service.as_str() });
        }
        if !(1..=MAX_ADDRESS_BYTES).contains(&address.len()) || !address.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad(
                "the token or endpoint is not 1 to 4096 visible ASCII characters; send it as the service gave it",
            ));
        }
        match service {
            Service::Fcm => {}
            Service::Apns => {
                if address.len() < 64 || address.len() > 200 || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(bad("the token is not 64 to 200 hexadecimal digits; send the device token's bytes so"));
                }
            }
            Service::Web => {
                let endpoint = address.parse().ok().filter(|endpoint| app.config.push.web.knows(endpoint));
                if endpoint.is_none() {
                    return Err(bad(
                        "the endpoint is with no push service that is known here (`rides.push.web.services`)",
                    ));
                }
            }
        }
        let keys = keys.map(|keys| keys.read()).transpose()?;
        Ok((service, address, keys))
    }
}

impl KeysBody {
    fn read(&self) -> Result<WebKeys, Error> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default();
        let p256dh: Option<[u8; 65]> = bytes(&self.p256dh).try_into().ok();
        let p256dh = p256dh.filter(|point| point[0] == 4);
        let auth = bytes(&self.auth).try_into().ok();
        let keys = p256dh.zip(auth).map(|(p256dh, auth)| WebKeys { p256dh, auth });
        keys.ok_or_else(|| {
            bad("`keys` are not 65 and 16 bytes in base64url; send the subscription as the browser gave it")
        })
    }
}

/// Whom the caller is reached as: a driver, a rider or both.
fn owners(identity: &Identity) -> Vec<Uuid> {
    let driver = identity.is("driver").then(|| driver_of(&identity.subject).uuid());
    let rider = identity.is("rider").then(|| rider_of(&identity.subject));
    driver.into_iter().chain(rider).collect()
}

fn id_of(owner: Uuid, service: Service, address: &str) -> Uuid {
    uuid_of(&[b"tessera-device:", owner.as_bytes(), service.as_str().as_bytes(), address.as_bytes()])
}

/// Registers a device; the same again keeps it fresh. It is nobody else's from then on.
#[utoipa::path(
    put,
    path = "/push/devices",
    request_body = DeviceBody,
    responses((status = 204), (status = 400), (status = 404, description = "that service is not set up here"))
)]
pub(super) async fn register(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<DeviceBody>,
) -> Result<StatusCode, Problem> {
    identity.require(&["driver", "rider"])?;
    let (service, address, keys) = body.read(&app)?;
    for owner in owners(&identity) {
        let id = id_of(owner, service, &address);
        let (address, subject) = (address.clone(), identity.subject.to_string());
        let device = Device { id, owner, subject, service, address, keys, seen_at: app.clock.now() };
        app.store.register_device(device).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets a device of the caller's, which may be gone already.
#[utoipa::path(delete, path = "/push/devices", request_body = DeviceBody, responses((status = 204), (status = 400)))]
pub(super) async fn forget(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<DeviceBody>,
) -> Result<StatusCode, Problem> {
    identity.require(&["driver", "rider"])?;
    let (service, address, _) = body.read(&app)?;
    for owner in owners(&identity) {
        app.store.forget_device(id_of(owner, service, &address)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The key that browsers subscribe with.
#[utoipa::path(get, path = "/push/key", responses((status = 200, body = KeyBody), (status = 404)))]
pub(super) async fn key(State(app): State<App>) -> Result<Json<KeyBody>, Problem> {
    let web = &app.config.push.web;
    let public_key = web.public_key.clone().filter(|_| web.private_key.is_some());
    let public_key = public_key.ok_or(Error::NoPush { service: Service::Web.as_str() })?;
    Ok(Json(KeyBody { public_key }))
}

/// Every attempt to tell somebody of a ride, the oldest first, for a week. For operators.
#[utoipa::path(
    get,
    path = "/rides/{id}/pushes",
    params(("id" = String, Path)),
    responses((status = 200, body = Vec<AttemptBody>))
)]
pub(super) async fn attempts(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<RideId>,
) -> Result<Json<Vec<AttemptBody>>, Problem> {
    identity.require(&["operator"])?;
    Ok(Json(app.store.attempts(id).await?.into_iter().map(AttemptBody::from).collect()))
}
