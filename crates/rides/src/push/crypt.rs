//! The body of a Web Push: encrypted for the browser alone (RFC 8291), in the coding `aes128gcm` (RFC 8188) with one record.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::WebKeys;

/// The size of a record, which ours stays below.
const RECORD: u32 = 4096;
/// Ends the last record.
const LAST: u8 = 2;

/// So many bytes of a derived key.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// Encrypts a text for a browser.
///
/// # Errors
/// The browser's key is no point of the curve, or the text is too long for one record.
pub(super) fn encrypt(text: &[u8], to: &WebKeys) -> Result<Vec<u8>, Unspecified> {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let public = own.compute_public_key()?;
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let secret = agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, &to.p256dh), <[u8]>::to_vec)?;
    let (key, nonce) = derive(&secret, &to.auth, &to.p256dh, public.as_ref(), &salt)?;
    let mut sealed = text.to_vec();
    sealed.push(LAST);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)?;
    if sealed.len() > RECORD as usize {
        return Err(Unspecified);
    }
    let public = public.as_ref();
    let mut body = Vec::with_capacity(21 + public.len() + sealed.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&RECORD.to_be_bytes());
    body.push(public.len() as u8);
    body.extend_from_slice(public);
    body.append(&mut sealed);
    Ok(body)
}

/// The key and the nonce of the only record.
fn derive(
    secret: &[u8],
    auth: &[u8],
    browser: &[u8],
    own: &[u8],
    salt: &[u8],
) -> Result<([u8; 16], [u8; 12]), Unspecified> {
    let mut input = [0; 32];
    Salt::new(HKDF_SHA256, auth)
        .extract(secret)
        .expand(&[b"WebPush: info\0", browser, own], Bytes(32))?
        .fill(&mut input)?;
    let pseudo = Salt::new(HKDF_SHA256, salt).extract(&input);
    let (mut key, mut nonce) = ([0; 16], [0; 12]);
    pseudo.expand(&[b"Content-Encoding: aes128gcm\0"], Bytes(16))?.fill(&mut key)?;
    pseudo.expand(&[b"Content-Encoding: nonce\0"], Bytes(12))?.fill(&mut nonce)?;
    Ok((key, nonce))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    /// RFC 8291, appendix A: from the shared secret to the key and the nonce.
    #[test]
    fn keys_are_derived_as_the_rfc_shows() {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let (key, nonce) = derive(
            &bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"),
            &bytes("BTBZMqHH6r4Tts7J_aSIgg"),
            &bytes("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
            &bytes("BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"),
            &bytes("DGv6ra1nlYgDCS1FRnbzlw"),
        )
        .unwrap();
        assert_eq!(key.to_vec(), bytes("oIhVW04MRdy2XN9CiKLxTg"));
        assert_eq!(nonce.to_vec(), bytes("4h_95klXJ5E_qnoN"));
    }

    #[test]
    fn what_is_no_key_or_too_long_is_refused() {
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let mut keys = WebKeys { p256dh: [4; 65], auth: [1; 16] };
        assert!(encrypt(b"hello", &keys).is_err());
        keys.p256dh.copy_from_slice(own.compute_public_key().unwrap().as_ref());
        assert_eq!(encrypt(b"hello", &keys).unwrap().len(), 16 + 4 + 1 + 65 + 5 + 1 + 16);
        assert!(encrypt(&[0; 5_000], &keys).is_err());
    }
}
