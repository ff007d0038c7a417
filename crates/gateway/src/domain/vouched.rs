//! Headers that the gateway vouches for, and what services may take for one of them.
//!
//! Many services see headers as variables, where `x_auth_subject` and `x.auth.subject` are the same as `x-auth-subject`
//! (RFC 3875, 4.1.18). What a caller sends under such a name must go no further than under the name itself.

/// Who asks, as the gateway found out.
pub const IDENTITY: [&str; 3] = ["x-auth-subject", "x-auth-roles", "x-auth-scopes"];
/// What the gateway sets, or says of the framing.
const VOUCHED: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "x-request-timeout-ms",
    "content-length",
    "content-type",
    "transfer-encoding",
    "proxy-authorization",
];

/// Whether a header has another name than usual headers, so that it may be taken for one of them.
pub fn is_odd(name: &str) -> bool {
    name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
}

/// Whether a service may take the header `name` for `known`.
pub fn is_taken_for(name: &str, known: &str) -> bool {
    let same =
        |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (!a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric());
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(same)
}

/// Whether a service may take the header for one that the gateway vouches for.
pub fn is_taken_for_ours(name: &str) -> bool {
    IDENTITY.iter().chain(&VOUCHED).any(|known| is_taken_for(name, known))
}

/// The text as it can stand in a header and be read back: `%`, control characters, the signs in `parting` and spaces at
/// the ends are percent-encoded.
pub fn header_text(text: &str, parting: &[u8]) -> String {
    let last = text.len().saturating_sub(1);
    let mut written = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        let is_outer_space = letter == ' ' && (at == 0 || at == last);
        let is_parting = u8::try_from(letter).is_ok_and(|byte| byte == b'%' || parting.contains(&byte));
        if letter.is_ascii_control() || is_outer_space || is_parting {
            written.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            written.push(letter);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::path::decode;

    #[test]
    fn names_that_services_read_alike_are_alike() {
        for name in ["x_auth_subject", "X-Auth_Roles", "x.auth.scopes", "x_forwarded-for"] {
            assert!(is_odd(name) && is_taken_for_ours(name), "{name}");
        }
        for name in ["x_auth_subjects", "xauthsubject", "x_other"] {
            assert!(!is_taken_for_ours(name), "{name}");
        }
        assert_eq!(header_text(" a,b% ", b","), "%20a%2Cb%25%20");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "[ -~\\t\\n,%é]{0,12}") {
            let written = header_text(&text, b",");
            prop_assert!(!written.contains(',') && written.trim() == written);
            prop_assert_eq!(decode(&written), text);
        }
    }
}
