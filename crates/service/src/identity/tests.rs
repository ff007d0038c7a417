//! Tokens: what is believed, what is refused, keys that follow one another, another issuer.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use jsonwebtoken::Algorithm;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use tessera_kernel::ManualClock;

use super::*;

/// An RSA key of nobody, PKCS #1.
const RSA: &str = "MIIEpAIBAAKCAQEApxlYV3dBhgarye6RqwBcoFgqZX3+iZTabwB9IjeOkZFUghKGxb27RCOo7Xsy05FZ4lfoJRauFAgex+gXtTwlxJQpLK8XO6\
    9jDW/5UFwTa2zuOSEH7g1tlO1dDKufMEWu3B5OR+L5xdUe01rp8i7JKzvksaqbxwzlmPauXRp4be7fDvZXMgsLrSjVJFlq7k522HuRwx1nGFC6\
    5c61/gXcOYlR/boH4tQ5FVy6pbEOjO9WN/JVV58NjntMShHXXBGyroFT+VIJIJtfjM5fl/J+XtodTZG+ERmX5ecT2+rc60NgWnqY6eQ6wNfwVe\
    GqEiG9oRO3IwU+jTz9mJdSbeyhrQIDAQABAoIBAEWvLaaoLpSYgpqfGXNhHr+llOSnYvd4MpG49/ZFifiNzVrDJB4hrg9P+boztvIA+yWHuGGD\
    MExdSIzgbsafUzbD/NnMGNnEnf+0Exoek+CoWD5N1pNBWVISnMvUZHoKjU3xe37CGpyUcJr+nnJnbXBQtWIcPoOHjtY4BWYBTHi3SAkDJjJof3\
    d9amRf1elXkgAN/MLIUHV63rJBISWUQduqv4faW8SxZj5zZUsUgfI5wHpVt/4/oCuZGWLkvPlsaIT+UN7mXugNtPoonB8dSRWKlgUux6UBiTDz\
    l3GPwLpOwVngcxB1avv2o65oZCuxPwYt1Qb1lDMdzHneiu0YaQcCgYEA52js1U1nGQ5/nvuu+w1/E6bars1/IU0G6BiaFwwKn9AsYiLwBOuc23\
    YUVY5NgLwfBGhEZ4TNb7O58xqA5QYTfXzm8DDvGNHsOgq+0r2E2fUOjdQ0ry8AQblhJ5XFSQ9IYD9pQYuznvTGNXbAMnze11QZFSDbRHdx9jKL\
    XhTcpyMCgYEAuNr2cHOZiaVYZn+RrFNHDgjBphT5Fh+iMDwH4GFCmjdiphqgA6iJvire3uI76Jxd9nl6t63Lmpe/RhZATd8nCwGqS8E8wbQUOA\
    0KScGumDlVlHzMXtOM9ERt5xe8rQEEXaHagPZRD3u0lu9ycoAyNLYJ500uj3q+efs9xht2iO8CgYEAk+jD3/6OVDypI9QY3sycmdH/WtVsWbuj\
    G3yGGQ8QR1/Gzp8oLOzwIHITwy+mqA8WADoo5sXCjZAh3ZnmIvzEPmQ0M/gDCyk6RUsS9x49qRZyTAMD/akcD+ZOi/+1zuHez+4X99Y0Y/huLE\
    QPyvV3dciCE7ghjlyOUd+yptrMwmMCgYBChYlpri/yeK33NLEXcmB/jGcjfSil7XxQH0o2VMnC9Wtqmuo6ZswqwwKw8njcnGiz6cNflgtO9oy+\
    jANYApXqQA8oc8GJc2RTR14MbMaHwRoq9T4WYcq3nGhwYPpkx5jqmPQotHs3Ny0lo8VrrvZiQaAOvJekymcBPohcYkWlwQKBgQCAHG0R3KDQp1\
    wAszu48H+ne/R2bB+o5rZAip2Qi50aBPvc0eCTnTXWD4S8+WBdeXU6OeO6sJIOtWnTcpzAKSeF3S1r3161lEKKKnMSx827njOejwwBLVY8iaHJ\
    SGBlueHewd1Om4jMdqhkKgt1VEo8InCaa3pnvv2abJ2pyCiI/Q==";
/// Its modulus.
const RSA_N: &str = "pxlYV3dBhgarye6RqwBcoFgqZX3-iZTabwB9IjeOkZFUghKGxb27RCOo7Xsy05FZ4lfoJRauFAgex-gXtTwlxJQpLK8XO69jDW_5UFwTa2zuOS\
    EH7g1tlO1dDKufMEWu3B5OR-L5xdUe01rp8i7JKzvksaqbxwzlmPauXRp4be7fDvZXMgsLrSjVJFlq7k522HuRwx1nGFC65c61_gXcOYlR_boH\
    4tQ5FVy6pbEOjO9WN_JVV58NjntMShHXXBGyroFT-VIJIJtfjM5fl_J-XtodTZG-ERmX5ecT2-rc60NgWnqY6eQ6wNfwVeGqEiG9oRO3IwU-jT\
    z9mJdSbeyhrQ";
const MINUTE: Duration = Duration::from_secs(60);
const ROTATION: Rotation = Rotation { lead: Duration::ZERO, longest_token: Duration::from_secs(600) };

fn keys() -> (Arc<ManualClock>, Keys) {
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    (clock.clone(), Keys::ephemeral(clock).unwrap())
}

#[test]
fn a_token_names_its_subject_until_it_ends() {
    let (clock, keys) = keys();
    let token = keys.sign_token("ana", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
    for _ in 0..2 {
        let identity = keys.verify(&token).unwrap();
        assert_eq!((&*identity.subject, identity.is("fan"), identity.is("door")), ("ana", true, false));
        identity.require(&["organiser", "fan"]).unwrap();
        assert!(identity.require(&["organiser"]).unwrap_err().to_string().contains("organiser"));
    }
    clock.advance(Duration::from_secs(60));
    assert!(keys.verify(&token).unwrap_err().to_string().contains("2026-03-01T00:01:00Z"));
}

#[test]
fn foreign_altered_and_unsigned_tokens_are_refused() {
    let (_, ours) = keys();
    let (_, theirs) = keys();
    let token = theirs.sign_token("ana", &["admin".to_owned()], Duration::from_secs(60)).unwrap();
    assert!(ours.verify(&token).is_err());
    let token = ours.sign_token("ana", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
    let mut parts: Vec<&str> = token.split('.').collect();
    let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", parts[1]);
    assert!(ours.verify(&unsigned).is_err() && ours.verify("").is_err());
    let other = ours.sign_token("eve", &["admin".to_owned()], Duration::from_secs(60)).unwrap();
    parts[1] = other.split('.').nth(1).unwrap();
    assert!(ours.verify(&parts.join(".")).is_err());
    assert!(ours.sign_token("", &[], Duration::from_secs(60)).is_err());
}

#[test]
fn the_key_is_kept_and_shared() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    let first = Keys::open(folder.path(), clock.clone()).unwrap();
    let second = Keys::open(folder.path(), clock.clone()).unwrap();
    let token = first.sign_token("ana", &[], Duration::from_secs(60)).unwrap();
    assert_eq!(&*second.verify(&token).unwrap().subject, "ana");
    assert!(second.signed(b"seat B12", &first.sign(b"seat B12")));
    assert!(!second.signed(b"seat B13", &first.sign(b"seat B12")));
    std::fs::write(folder.path().join("keys/identity.pk8"), b"not a key").unwrap();
    let error = Keys::open(folder.path(), clock).unwrap_err().to_string();
    assert!(error.contains("identity.pk8"), "{error}");
}

/// Keys of accounts: a ring under a name.
fn accounts() -> (Arc<ManualClock>, Keys) {
    let (clock, keys) = keys();
    keys.name_issuer("http://here").unwrap();
    keys.rotate(ROTATION).unwrap().unwrap();
    (clock, keys)
}

fn grant<'a>(roles: &'a [String], audience: &'a str) -> Grant<'a> {
    Grant { subject: "ana", roles, audience, ttl: MINUTE, claims: Map::new() }
}

fn b64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims(change: Value) -> Value {
    let now = Timestamp::micros("2026-03-01".parse().unwrap()) / 1_000_000;
    let mut claims = json!({ "sub": "ana", "roles": ["fan"], "iss": "http://here", "aud": AUDIENCE, "exp": now + 60 });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A token of the key that signs, with these claims.
fn signed(keys: &Keys, head: &Value, claims: &Value) -> String {
    let (_, encoding, _) = keys.own.ring.signing(keys.own.clock.now()).unwrap();
    let message = format!("{}.{}", b64(head), b64(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &encoding, Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

fn refusal(keys: &Keys, token: &str) -> String {
    keys.verify(token).unwrap_err().to_string()
}

#[test]
fn a_token_of_the_ring_says_what_it_is() {
    let (_, keys) = accounts();
    let (token, ends) = keys.issue(&grant(&["fan".to_owned()], AUDIENCE)).unwrap();
    assert_eq!(keys.verify(&token).unwrap().expires_at, ends);
    let part = |index: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
    };
    assert_eq!((&part(0)["alg"], &part(0)["kid"]), (&json!("EdDSA"), &json!(keys.ring()[0].kid)));
    let claims = part(1);
    assert_eq!(
        (&claims["iss"], &claims["aud"], &claims["sub"]),
        (&json!("http://here"), &json!("tessera"), &json!("ana"))
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert!(claims["jti"].as_str().unwrap().len() >= 20);
    let set = keys.jwks();
    assert!(set["keys"].as_array().unwrap().iter().any(|key| key["kid"] == part(0)["kid"] && key.get("d").is_none()));
}

#[test]
fn no_other_algorithm_is_taken() {
    let (_, keys) = accounts();
    let kid = keys.ring()[0].kid.clone();
    let set = keys.jwks();
    let x = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid).unwrap()["x"]
        .as_str()
        .unwrap()
        .to_owned();
    let raw = URL_SAFE_NO_PAD.decode(&x).unwrap();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", b64(&json!({ "alg": alg, "kid": kid })), b64(&claims(json!({}))));
            assert!(refusal(&keys, &token).contains("signature"), "{alg}");
        }
    }
    // The public key is no secret: used as one, it must not sign.
    for secret in [raw.as_slice(), x.as_bytes(), set.to_string().as_bytes()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some(kid.clone()), ..Header::new(algorithm) };
            let token = jsonwebtoken::encode(&header, &claims(json!({})), &EncodingKey::from_secret(secret)).unwrap();
            assert!(refusal(&keys, &token).contains("signature"), "{algorithm:?}");
        }
    }
    // A good signature under a header that claims another algorithm.
    for alg in ["HS256", "RS256", "ES256", "none"] {
        refusal(&keys, &signed(&keys, &json!({ "alg": alg, "kid": kid }), &claims(json!({}))));
    }
    keys.verify(&signed(&keys, &json!({ "alg": "EdDSA", "kid": kid }), &claims(json!({})))).unwrap();
}

#[test]
fn the_name_of_a_key_is_only_a_name() {
    let (_, keys) = accounts();
    let kid = keys.ring()[0].kid.clone();
    let huge = "k".repeat(2_000);
    let others = [
        "../../../../dev/null",
        "/etc/passwd",
        "identity.pk8",
        "' OR 1=1 --",
        "",
        "unknown",
        "http://evil/jwks",
        &huge,
    ];
    for other in others {
        let token = signed(&keys, &json!({ "alg": "EdDSA", "kid": other }), &claims(json!({})));
        assert!(refusal(&keys, &token).contains("is not known here"), "{other}");
    }
    // Without a name it is one of the installation's key, which has not signed it.
    assert!(refusal(&keys, &signed(&keys, &json!({ "alg": "EdDSA" }), &claims(json!({})))).contains("signature"));
    for kid in [json!(7), json!(["a"]), json!({ "a": 1 })] {
        refusal(&keys, &signed(&keys, &json!({ "alg": "EdDSA", "kid": kid }), &claims(json!({}))));
    }
    // A key that the token brings along is not looked at.
    let evil = EncodingKey::from_ed_der(&generate().unwrap());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]), "kid": kid });
    let message = format!(
        "{}.{}",
        b64(&json!({ "alg": "EdDSA", "kid": kid, "jwk": jwk, "jku": "http://evil/jwks" })),
        b64(&claims(json!({})))
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &evil, Algorithm::EdDSA).unwrap();
    refusal(&keys, &format!("{message}.{signature}"));
}

#[test]
fn what_a_token_claims_must_hold() {
    let (_, keys) = accounts();
    let kid = keys.ring()[0].kid.clone();
    let head = json!({ "alg": "EdDSA", "kid": kid });
    let now = keys.own.clock.now().micros() / 1_000_000;
    keys.verify(&signed(&keys, &head, &claims(json!({ "nbf": now + 30 })))).unwrap();
    keys.verify(&signed(&keys, &head, &claims(json!({ "aud": ["other", AUDIENCE] })))).unwrap();
    for (change, word) in [
        (json!({ "exp": now }), "ended"),
        (json!({ "exp": now - 3_600 }), "ended"),
        (json!({ "exp": -1e300 }), "ended"),
        (json!({ "exp": null }), "form"),
        (json!({ "exp": "9999999999" }), "form"),
        (json!({ "nbf": now + 3_600 }), "not valid yet"),
        (json!({ "aud": "other" }), "not meant for"),
        (json!({ "aud": [] }), "not meant for"),
        (json!({ "aud": null }), "not meant for"),
        (json!({ "iss": "http://there" }), "http://there"),
        (json!({ "iss": "http://here/" }), "http://here/"),
        (json!({ "iss": null }), "nobody"),
        (json!({ "sub": "" }), "subject"),
        (json!({ "sub": "s".repeat(129) }), "subject"),
        (json!({ "sub": null }), "form"),
    ] {
        let refused = refusal(&keys, &signed(&keys, &head, &claims(change.clone())));
        assert!(refused.contains(word), "{change}: {refused}");
    }
    // One letter of the payload, the header or the signature changed.
    let token = signed(&keys, &head, &claims(json!({})));
    for at in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(bytes).unwrap();
        let last = at + 1 == token.len();
        assert!(altered == token || last || keys.verify(&altered).is_err(), "at {at}");
    }
    let padded = signed(&keys, &head, &claims(json!({ "padding": "x".repeat(8_192) })));
    assert!(refusal(&keys, &padded).contains("too long"));
    for text in ["", ".", "..", "...", "a.b.c", "a.b", &"A".repeat(9_000), &format!("{token}.x"), &format!(" {token}")]
    {
        assert!(keys.verify(text).is_err(), "{text}");
    }
}

#[test]
fn one_key_follows_another_without_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    let ours = Keys::open(folder.path(), clock.clone()).unwrap();
    let theirs = Keys::open(folder.path(), clock.clone()).unwrap();
    ours.name_issuer("http://here").unwrap();
    let rotation = Rotation { lead: Duration::from_secs(300), longest_token: MINUTE };
    let month = Duration::from_secs(30 * 86_400);
    assert!(ours.rotate_if_due(month, rotation).unwrap().is_some());
    let roles = ["fan".to_owned()];
    let (first, _) = ours.issue(&grant(&roles, AUDIENCE)).unwrap();
    theirs.verify(&first).unwrap();
    // What is as it was is not written again.
    let written = || std::fs::metadata(folder.path().join("keys/tokens.json")).unwrap().ino();
    let before = written();
    assert!(theirs.rotate_if_due(month, rotation).unwrap().is_none(), "another process made it");
    assert_eq!(written(), before);
    // The next key is there before it signs.
    let next = ours.rotate(rotation).unwrap().unwrap();
    assert_eq!(next.state, KeyState::Next);
    assert!(ours.jwks().to_string().contains(&next.kid));
    let (second, _) = ours.issue(&grant(&roles, AUDIENCE)).unwrap();
    let kid = |token: &str| Unverified::read(token).unwrap().kid.unwrap();
    assert_eq!(kid(&second), kid(&first));
    clock.advance(Duration::from_secs(299));
    let (last, _) = ours.issue(&grant(&roles, AUDIENCE)).unwrap();
    clock.advance(Duration::from_secs(1));
    let (third, _) = ours.issue(&grant(&roles, AUDIENCE)).unwrap();
    assert_eq!((kid(&last), kid(&third)), (kid(&first), next.kid.clone()));
    for token in [&last, &third] {
        theirs.verify(token).unwrap();
    }
    // The old key goes when its last token is over.
    clock.advance(MINUTE);
    assert_eq!(ours.ring().len(), 1);
    assert!(!ours.jwks().to_string().contains(&kid(&first)));
    // A key that is taken back takes its tokens along, also where they are remembered.
    let (third, _) = ours.issue(&grant(&roles, AUDIENCE)).unwrap();
    theirs.verify(&third).unwrap();
    assert!(ours.revoke(&next.kid).unwrap() && !ours.revoke(&next.kid).unwrap());
    clock.advance(Duration::from_secs(5));
    assert!(theirs.verify(&third).is_err() && ours.verify(&third).is_err());
    theirs.verify(&ours.issue(&grant(&roles, AUDIENCE)).unwrap().0).unwrap();
    // Tokens of the installation's key have nothing to do with it, nor have those signed before there was a ring.
    let old =
        Keys::from_pkcs8(&std::fs::read(folder.path().join("keys/identity.pk8")).unwrap(), KeyRing::in_memory(), clock)
            .unwrap();
    ours.verify(&old.sign_token("ana", &roles, MINUTE).unwrap()).unwrap();
    let bare = jsonwebtoken::encode(
        &Header::new(Algorithm::EdDSA),
        &json!({ "sub": "ana", "roles": ["fan"], "iat": 0, "exp": 4e9 as i64 }),
        &old.own.encoding,
    );
    ours.verify(&bare.unwrap()).unwrap();
}

fn brought() -> RsaKey {
    let document = base64::engine::general_purpose::STANDARD.decode(RSA).unwrap();
    RsaKey::parse(&pem::encode(&pem::Pem::new("RSA PRIVATE KEY", document))).unwrap()
}

#[test]
fn a_key_that_was_brought_follows_and_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    let ours = Keys::open(folder.path(), clock.clone()).unwrap();
    let theirs = Keys::open(folder.path(), clock.clone()).unwrap();
    ours.name_issuer("http://here").unwrap();
    let rotation = Rotation { lead: Duration::from_secs(300), longest_token: MINUTE };
    let month = Duration::from_secs(30 * 86_400);
    let version = || -> Value {
        let text = std::fs::read(folder.path().join("keys/tokens.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["version"].clone()
    };
    ours.rotate_if_due(month, rotation).unwrap();
    assert_eq!((version(), ours.algorithms()), (json!(1), vec!["EdDSA"]));
    let key = brought();
    let Adopted::Next(info) = ours.adopt(&key, rotation).unwrap() else { panic!("it is new") };
    assert_eq!((info.kid.as_str(), info.algorithm, info.state), (key.kid(), "RS256", KeyState::Next));
    assert_eq!(theirs.adopt(&key, rotation).unwrap(), Adopted::Known);
    assert_eq!((version(), ours.algorithms()), (json!(2), vec!["EdDSA", "RS256"]));
    let set = ours.jwks();
    let jwk = set["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == *key.kid()).unwrap();
    assert_eq!(*jwk, json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.kid(), "n": RSA_N, "e": "AQAB" }));
    clock.advance(Duration::from_secs(299));
    let (last, _) = ours.issue(&grant(&[], AUDIENCE)).unwrap();
    clock.advance(Duration::from_secs(1));
    let (first, _) = ours.issue(&grant(&[], AUDIENCE)).unwrap();
    let algorithm = |token: &str| jsonwebtoken::decode_header(token).unwrap().alg;
    assert_eq!((algorithm(&last), algorithm(&first)), (Algorithm::EdDSA, Algorithm::RS256));
    for token in [&last, &first] {
        theirs.verify(token).unwrap();
    }
    // The key has one algorithm, whatever a token says.
    for other in [Algorithm::RS384, Algorithm::PS256] {
        let header = Header { kid: Some(key.kid().to_owned()), ..Header::new(other) };
        let token = jsonwebtoken::encode(&header, &claims(json!({ "exp": 4e9 as i64 })), &key.encoding).unwrap();
        assert!(refusal(&ours, &token).contains("signature"), "{other:?}");
    }
    // Nobody brings keys any more: one of ours is to follow at once, unless the same is brought again before.
    assert_eq!(ours.rotate_if_due(month, rotation).unwrap().unwrap().algorithm, "EdDSA");
    let Adopted::Next(info) = ours.adopt(&key, rotation).unwrap() else { panic!("another was to follow") };
    assert_eq!((info.kid.as_str(), info.state, info.keep_until), (key.kid(), KeyState::Signs, None));
    clock.advance(Duration::from_secs(300));
    assert_eq!(algorithm(&ours.issue(&grant(&[], AUDIENCE)).unwrap().0), Algorithm::RS256);
    assert_eq!(ours.ring().len(), 1);
    // One that was taken back is not brought again.
    let (taken, _) = ours.issue(&grant(&[], AUDIENCE)).unwrap();
    assert!(ours.revoke(key.kid()).unwrap());
    assert_eq!(ours.adopt(&key, rotation).unwrap(), Adopted::Revoked);
    clock.advance(Duration::from_secs(5));
    assert!(theirs.verify(&taken).is_err());
    assert_eq!((algorithm(&theirs.issue(&grant(&[], AUDIENCE)).unwrap().0), version()), (Algorithm::EdDSA, json!(2)));
}

#[test]
fn a_ring_of_the_first_version_is_read_and_one_of_the_next_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/tokens.json");
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    Keys::open(folder.path(), clock.clone()).unwrap();
    let pkcs8 = base64::engine::general_purpose::STANDARD.encode(generate().unwrap());
    let at = "2026-02-01T00:00:00Z";
    let ring = |version: u32| {
        json!({ "version": version, "names": ["http://here"],
            "keys": [{ "pkcs8": pkcs8, "made_at": at, "signs_from": at, "keep_until": null }] })
        .to_string()
    };
    std::fs::write(&path, ring(1)).unwrap();
    let keys = Keys::open(folder.path(), clock.clone()).unwrap();
    keys.verify(&keys.issue(&grant(&[], AUDIENCE)).unwrap().0).unwrap();
    assert_eq!((keys.ring().len(), keys.ring()[0].state), (1, KeyState::Signs));
    std::fs::write(&path, ring(3)).unwrap();
    assert!(Keys::open(folder.path(), clock).unwrap_err().to_string().contains("version 3"));
}

#[test]
fn many_processes_make_one_ring() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (folder, clock) = (folder.path(), clock.clone());
            scope.spawn(move || {
                let keys = Keys::open(folder, clock).unwrap();
                keys.name_issuer(&format!("http://{index}")).unwrap();
                keys.rotate_if_due(MINUTE, ROTATION).unwrap();
            });
        }
    });
    let keys = Keys::open(folder.path(), clock).unwrap();
    assert_eq!((keys.ring().len(), keys.own.ring.names().len()), (1, 8));
    std::fs::write(folder.path().join("keys/tokens.json"), "{").unwrap();
    assert!(keys.rotate(ROTATION).unwrap_err().to_string().contains("tokens.json"));
    keys.issue(&grant(&[], AUDIENCE)).unwrap();
}

/// An issuer on a port, whose answers can be changed.
#[derive(Clone, Default)]
struct StandIn {
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicU32>,
    away: Arc<Mutex<bool>>,
}

impl StandIn {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let name = base.clone();
        let discovery =
            move || async move { axum::Json(json!({ "issuer": name, "jwks_uri": format!("{name}/keys") })) };
        let keys = |State(stand_in): State<Self>| async move {
            stand_in.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if *stand_in.away.lock().unwrap() {
                return Err(http::StatusCode::BAD_GATEWAY);
            }
            let keys = stand_in.keys.lock().unwrap().clone();
            Ok(([("cache-control", "public, max-age=600")], axum::Json(json!({ "keys": keys }))))
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A key with ES256: the JWK, and what signs.
pub(in crate::identity) fn es256(kid: &str) -> (Value, EncodingKey) {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": text(x), "y": text(y) });
    (jwk, EncodingKey::from_ec_der(document.as_ref()))
}

#[tokio::test]
async fn tokens_of_another_issuer_are_verified_by_its_keys() {
    let stand_in = StandIn::default();
    let name = stand_in.start().await;
    let (clock, keys) = accounts();
    let settings = Config { issuer: Some(name.clone()), roles_claim: "realm.roles".into(), ..Config::default() };
    let keys = keys.trusting(Issuer::new(&settings, clock.clone()).unwrap().unwrap());
    let (jwk, first) = es256("first");
    let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB", "use": "sig" });
    let secret = json!({ "kty": "oct", "kid": "secret", "k": "c2VjcmV0" });
    *stand_in.keys.lock().unwrap() = json!([jwk, rsa, secret, { "kty": "EC", "kid": "broken" }, 7]);
    let token = |key: &EncodingKey, algorithm: Algorithm, kid: &str, change: Value| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
        let mut claims = claims(
            json!({ "iss": name, "exp": 1_872_000_000_i64, "realm": { "roles": ["organiser"] }, "roles": ["admin"] }),
        );
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    };
    // A hundred at once have the keys fetched once.
    let tokens: Vec<String> =
        (0..100).map(|number| token(&first, Algorithm::ES256, "first", json!({ "jti": number }))).collect();
    let identities = futures::future::join_all(tokens.iter().map(|token| keys.authenticate(token))).await;
    assert!(identities.iter().all(|identity| identity.as_ref().unwrap().is("organiser")));
    assert!(!identities[0].as_ref().unwrap().is("admin"));
    assert_eq!(stand_in.asked(), 1);
    let key = EncodingKey::from_rsa_der(&base64::engine::general_purpose::STANDARD.decode(RSA).unwrap());
    keys.authenticate(&token(&key, Algorithm::RS256, "rsa", json!({}))).await.unwrap();

    // What is wrong with them is found.
    let from_secret = EncodingKey::from_secret(b"secret");
    for (token, word) in [
        (token(&first, Algorithm::ES256, "first", json!({ "aud": "other" })), "not meant for"),
        (token(&first, Algorithm::ES256, "first", json!({ "exp": 1 })), "ended"),
        (token(&key, Algorithm::RS384, "rsa", json!({})), "signature"),
        (token(&first, Algorithm::ES256, "rsa", json!({})), "signature"),
        (token(&from_secret, Algorithm::HS256, "secret", json!({})), "is not known here"),
        (token(&from_secret, Algorithm::HS256, "first", json!({})), "signature"),
        (token(&first, Algorithm::ES256, "first", json!({ "iss": "http://elsewhere" })), "is not known here"),
    ] {
        let refused = keys.authenticate(&token).await.unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
    }
    // Our own keys do not sign for the issuer, nor its keys for us.
    let (_, own, _) = keys.own.ring.signing(clock.now()).unwrap();
    assert!(keys.authenticate(&token(&own, Algorithm::EdDSA, &keys.ring()[0].kid, json!({}))).await.is_err());
    let ours = token(&first, Algorithm::ES256, "first", json!({ "iss": "http://here" }));
    assert!(keys.authenticate(&ours).await.is_err());
    assert_eq!(stand_in.asked(), 1, "unknown keys are asked for after a while only");

    // A new key: found when the cool-down is over, and a storm of unknown ones asks once.
    let (jwk, second) = es256("second");
    *stand_in.keys.lock().unwrap() = json!([jwk]);
    let fresh = token(&second, Algorithm::ES256, "second", json!({}));
    assert!(keys.authenticate(&fresh).await.is_err());
    clock.advance(issuer::COOL_DOWN);
    let unknown: Vec<String> =
        (0..50).map(|number| token(&second, Algorithm::ES256, &format!("no-{number}"), json!({}))).collect();
    let storm = futures::future::join_all(unknown.iter().map(|token| keys.authenticate(token))).await;
    assert!(storm.iter().all(Result::is_err));
    keys.authenticate(&fresh).await.unwrap();
    assert_eq!(stand_in.asked(), 2);
    assert!(keys.authenticate(&token(&first, Algorithm::ES256, "first", json!({ "jti": "x" }))).await.is_err());

    // It is away: its keys go on being used, and not for ever.
    *stand_in.away.lock().unwrap() = true;
    for _ in 0..20 {
        clock.advance(Duration::from_secs(3_600));
        let again = token(&second, Algorithm::ES256, "second", json!({ "jti": clock.now() }));
        keys.authenticate(&again).await.unwrap();
    }
    clock.advance(Duration::from_secs(8 * 3_600));
    let again = token(&second, Algorithm::ES256, "second", json!({ "jti": "last" }));
    let refused = keys.authenticate(&again).await.unwrap_err();
    assert!(matches!(&refused, Error::IssuerAway { .. }), "{refused}");
    assert!(refused.to_string().contains("502"), "{refused}");
    *stand_in.away.lock().unwrap() = false;
    clock.advance(Duration::from_secs(5));
    keys.authenticate(&again).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_another_or_none_is_not_believed() {
    let stand_in = StandIn::default();
    let base = stand_in.start().await;
    let (clock, keys) = accounts();
    let (_, key) = es256("first");
    let name = format!("{base}/");
    let settings = Config { issuer: Some(name.clone()), ..Config::default() };
    let keys = keys.trusting(Issuer::new(&settings, clock.clone()).unwrap().unwrap());
    let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&header, &claims(json!({ "iss": name })), &key).unwrap();
    let refused = keys.authenticate(&token).await.unwrap_err().to_string();
    assert!(refused.contains("about another issuer"), "{refused}");
    assert_eq!(stand_in.asked(), 0);
    for issuer in ["login.example.com", "ftp://login.example.com", ""] {
        let settings = Config { issuer: Some(issuer.into()), ..Config::default() };
        assert!(Issuer::new(&settings, clock.clone()).unwrap_err().to_string().contains("identity.issuer"), "{issuer}");
    }
    assert!(Issuer::new(&Config::default(), clock).unwrap().is_none());
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
    let ours = Keys::open(folder.path(), clock.clone()).unwrap();
    ours.name_issuer("http://here").unwrap();
    ours.rotate(ROTATION).unwrap().unwrap();
    let (token, _) = ours.issue(&grant(&[], AUDIENCE)).unwrap();
    let unknown = signed(&ours, &json!({ "alg": "EdDSA", "kid": "unknown" }), &claims(json!({})));
    // Each of these reads the file before the token comes again, after so many seconds.
    type Look = fn(&Keys, &str);
    let looks: [(u64, Look); 3] = [
        (2, |keys, unknown| drop(keys.verify(unknown).unwrap_err())),
        (0, |keys, _| drop(keys.ring())),
        (4, |keys, _| drop(keys.jwks())),
    ];
    let others: Vec<Keys> = looks.iter().map(|_| Keys::open(folder.path(), clock.clone()).unwrap()).collect();
    for other in &others {
        other.authenticate(&token).await.unwrap();
        other.authenticate(&token).await.unwrap();
    }
    assert!(ours.revoke(&ours.ring()[0].kid).unwrap());
    for (other, (after_s, look)) in others.iter().zip(looks) {
        clock.advance(Duration::from_secs(after_s));
        look(other, &unknown);
        let refused = other.authenticate(&token).await.unwrap_err().to_string();
        assert!(refused.contains("taken back"), "after {after_s} s: {refused}");
        assert!(other.verify(&token).is_err());
    }
}

#[tokio::test]
async fn another_issuer_does_not_speak_for_our_accounts() {
    let stand_in = StandIn::default();
    let name = stand_in.start().await;
    let (clock, keys) = accounts();
    let settings = Config { issuer: Some(name.clone()), ..Config::default() };
    let theirs = Issuer::new(&settings, clock.clone()).unwrap().unwrap();
    let keys = keys.trusting(theirs);
    let (jwk, key) = es256("first");
    *stand_in.keys.lock().unwrap() = json!([jwk]);
    let token = |subject: &str| {
        let header = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims(json!({ "iss": name, "sub": subject })), &key).unwrap()
    };
    keys.authenticate(&token("ana")).await.unwrap();
    keys.authenticate(&token("username_7")).await.unwrap();
    for subject in ["user_0123456789abcdef0123456789abcdef", "client_0123456789abcdef0123456789abcdef", "user_x"] {
        let refused = keys.authenticate(&token(subject)).await.unwrap_err().to_string();
        assert!(refused.contains("an account of this server"), "{refused}");
    }
    // Where there are no accounts, the issuer may be ours of another machine.
    let (_, alone) = self::keys();
    let alone = alone.trusting(Issuer::new(&settings, clock.clone()).unwrap().unwrap());
    alone.authenticate(&token("user_0123456789abcdef0123456789abcdef")).await.unwrap();
}

#[test]
fn a_key_that_signs_at_once_is_not_overtaken() {
    let (clock, keys) = keys();
    let rotation = Rotation { lead: Duration::from_secs(300), longest_token: Duration::from_secs(600) };
    keys.name_issuer("http://here").unwrap();
    keys.rotate(rotation).unwrap().unwrap();
    clock.advance(MINUTE);
    keys.rotate(rotation).unwrap().unwrap();
    clock.advance(MINUTE);
    let newest = keys.rotate(Rotation { lead: Duration::ZERO, ..rotation }).unwrap().unwrap();
    // For an hour: what it signs holds to its end, and nobody else signs.
    for _ in 0..60 {
        let (token, ends) = keys.issue(&grant(&[], AUDIENCE)).unwrap();
        let kid = Unverified::read(&token).unwrap().kid;
        assert_eq!(kid.as_deref(), Some(newest.kid.as_str()), "at {}", clock.now());
        clock.advance(ends.since(clock.now()) - Duration::from_micros(1));
        keys.verify(&token).unwrap();
    }
}

#[tokio::test]
async fn who_would_wait_behind_too_many_is_told_at_once() {
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("http://{}", silent.local_addr().unwrap());
    let (clock, keys) = accounts();
    let settings = Config { issuer: Some(name.clone()), ..Config::default() };
    let keys = keys.trusting(Issuer::new(&settings, clock).unwrap().unwrap());
    let (_, key) = es256("first");
    let header = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&header, &claims(json!({ "iss": name })), &key).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..issuer::MAX_WAITING {
        let (keys, token) = (keys.clone(), token.clone());
        waiting.spawn(async move { keys.authenticate(&token).await });
    }
    let places = &keys.issuer.as_ref().unwrap().waiting;
    while places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = keys.authenticate(&token).await.unwrap_err();
    assert!(
        matches!(&refused, Error::IssuerAway { reason, .. } if reason.contains("wait for them already")),
        "{refused}"
    );
    assert_eq!(waiting.try_join_next().map(|_| ()), None, "the others wait");
}
