//! Stripe's webhooks: whether one is genuine and new (<https://docs.stripe.com/webhooks#verify-manually>), and which
//! payment it is about.

use std::time::Duration;

use ring::hmac;
use serde::Deserialize;
use tessera_kernel::Timestamp;

use super::super::{Notice, PaymentRef};
use super::wire::Metadata;

/// How far the time of a signature may lie from ours, either way: what was overheard cannot be sent again later.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures that are looked at; Stripe sends one for each secret, of which there are two while one is exchanged.
const MAX_SIGNATURES: usize = 8;

/// Checks the header `stripe-signature`: `t=<seconds>,v1=<hex>`, with one `v1` for each secret of the endpoint.
pub(super) fn check(secret: &str, header: &str, body: &[u8], now: Timestamp) -> Result<(), String> {
    if secret.is_empty() {
        return Err("there is no secret to check it with; set `stripe_webhook_secret`".to_owned());
    }
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let time = parts().find(|(key, _)| *key == "t").map(|(_, value)| value);
    let at = time.and_then(|seconds| seconds.parse::<i64>().ok()).and_then(|seconds| seconds.checked_mul(1_000_000));
    let (Some(time), Some(at)) = (time, at.map(Timestamp::from_micros)) else {
        return Err("`stripe-signature` has no time `t=…`".to_owned());
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [time.as_bytes(), b".", body].concat();
    let signatures = parts().filter(|(key, _)| *key == "v1").take(MAX_SIGNATURES);
    // `verify` compares in constant time.
    let genuine = signatures.filter_map(|(_, text)| unhex(text)).any(|tag| hmac::verify(&key, &signed, &tag).is_ok());
    if !genuine {
        return Err("no signature in `stripe-signature` fits; check `stripe_webhook_secret`".to_owned());
    }
    if now.since(at).max(at.since(now)) > TOLERANCE {
        return Err(format!("it was signed at {at}, and now is {now}; check this machine's clock"));
    }
    Ok(())
}

/// A tag of 32 bytes from its digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    id: Option<String>,
    object: Option<String>,
    payment_intent: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// Which payment it is about.
pub(super) fn notice(body: &[u8]) -> Result<Option<Notice>, String> {
    let event: Event =
        serde_json::from_slice(body).map_err(|error| format!("it is not an event of Stripe: {error}"))?;
    let Object { id, object, payment_intent, metadata } = event.data.object;
    let (payment, refund) = match event.kind.split('.').next() {
        Some("payment_intent") => (id, None),
        // `charge.refund.updated` is about the refund.
        Some("charge" | "refund") => (payment_intent, id.filter(|_| object.as_deref() == Some("refund"))),
        _ => (None, None),
    };
    let order = metadata.and_then(|metadata| metadata.order?.parse().ok());
    Ok(payment.map(|payment| Notice { id: event.id, payment: PaymentRef::new(payment), order, refund }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_test";
    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1"}}}"#;

    fn sign(secret: &str, seconds: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &[format!("{seconds}.").as_bytes(), body].concat());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_genuine_webhook_is_taken_within_five_minutes() {
        let header = format!("t=1000,v1={},v0=ignored", sign(SECRET, 1000, BODY));
        for now in [700, 1000, 1300] {
            check(SECRET, &header, BODY, at(now)).unwrap();
        }
        for now in [699, 1301, 0, i64::MAX / 1_000_000] {
            assert!(check(SECRET, &header, BODY, at(now)).unwrap_err().contains("signed at"));
        }
        let while_exchanged = format!("t=1000,v1={},v1={}", sign("old", 1000, BODY), sign(SECRET, 1000, BODY));
        check(SECRET, &while_exchanged, BODY, at(1000)).unwrap();
    }

    #[test]
    fn what_is_not_signed_so_is_refused() {
        let tag = sign(SECRET, 1000, BODY);
        for header in [
            String::new(),
            "t=1000".to_owned(),
            format!("v1={tag}"),
            format!("t=1001,v1={tag}"),
            format!("t=1000,v0={tag}"),
            format!("t=1000,v1={}", &tag[1..]),
            format!("t=1000,v1={}", sign("other", 1000, BODY)),
            format!("t=99999999999999999999,v1={tag}"),
            format!("t=1000,v1={}é", &tag[2..]),
        ] {
            assert!(check(SECRET, &header, BODY, at(1000)).is_err(), "{header}");
        }
        let genuine = format!("t=1000,v1={tag}");
        assert!(check(SECRET, &genuine, &BODY[1..], at(1000)).is_err());
        assert!(check("", &format!("t=1000,v1={}", sign("", 1000, BODY)), BODY, at(1000)).is_err());
    }

    #[test]
    fn a_webhook_names_its_payment() {
        let read = |kind: &str, object: &str| {
            notice(format!(r#"{{"id":"evt_1","type":"{kind}","data":{{"object":{object}}}}}"#).as_bytes())
        };
        let named = |kind: &str, object: &str| read(kind, object).unwrap().map(|notice| notice.payment.to_string());
        assert_eq!(named("payment_intent.canceled", r#"{"id":"pi_1"}"#).as_deref(), Some("pi_1"));
        assert_eq!(named("charge.refunded", r#"{"id":"ch_1","payment_intent":"pi_2"}"#).as_deref(), Some("pi_2"));
        assert_eq!(named("charge.refunded", r#"{"id":"ch_1","payment_intent":null}"#), None);
        assert_eq!(named("customer.created", r#"{"id":"cus_1"}"#), None);
        let order = "order_00000000000000000000000000000007";
        let notice = read("payment_intent.succeeded", &format!(r#"{{"id":"pi_1","metadata":{{"order":"{order}"}}}}"#));
        assert_eq!(notice.unwrap().unwrap().order.unwrap().to_string(), order);
        assert!(read("payment_intent.succeeded", "[]").is_err());
    }
}
