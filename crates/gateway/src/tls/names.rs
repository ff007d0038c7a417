//! The names in a certificate: its common name and the DNS names it is for, read from the DER (RFC 5280).
//!
//! Only what was verified, or is our own, comes here; a certificate that cannot be read has no names.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
/// `[0]` and `[3]` of the certificate's body, constructed; `[2]` of a general name, primitive.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

/// What a certificate calls its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The common name of its subject.
    pub common: Option<String>,
    /// Its DNS names, in small letters.
    pub dns: Vec<String>,
}

impl Named {
    /// The name to call the holder by: the common name, else the first DNS name.
    pub fn subject(&self) -> Option<&str> {
        self.common.as_deref().or_else(|| self.dns.first().map(String::as_str))
    }
}

/// The names in a certificate.
pub fn names_of(der: &[u8]) -> Named {
    read(der).unwrap_or_default()
}

fn read(der: &[u8]) -> Option<Named> {
    let (_, certificate, _) = element(der)?;
    let (_, body, _) = element(certificate)?;
    let mut rest = body;
    let mut fields = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        fields.push((tag, content));
        rest = after;
    }
    // Serial number, signature, issuer, validity, subject: after the version, where there is one.
    let offset = usize::from(fields.first().is_some_and(|(tag, _)| *tag == VERSION));
    let (_, subject) = fields.get(offset + 4)?;
    let extensions = fields.iter().find(|(tag, _)| *tag == EXTENSIONS).and_then(|(_, content)| element(content));
    let dns = extensions.map(|(_, list, _)| alternative_names(list)).unwrap_or_default();
    Some(Named { common: common_name(subject), dns })
}

fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some((SET, set, after)) = element(subject) {
        let (tag, pair, _) = element(set)?;
        let (id_tag, id, value) = element(pair)?;
        if tag == SEQUENCE && id_tag == OBJECT_ID && id == COMMON_NAME {
            let (_, text, _) = element(value)?;
            found = std::str::from_utf8(text).ok().map(str::to_owned);
        }
        subject = after;
    }
    found
}

fn alternative_names(mut extensions: &[u8]) -> Vec<String> {
    while let Some((SEQUENCE, extension, after)) = element(extensions) {
        if let Some((OBJECT_ID, id, mut rest)) = element(extension)
            && id == ALTERNATIVE_NAMES
        {
            // A flag may stand before the value.
            while let Some((tag, content, next)) = element(rest) {
                if tag == OCTETS {
                    return element(content).map(|(_, names, _)| dns_names(names)).unwrap_or_default();
                }
                rest = next;
            }
        }
        extensions = after;
    }
    Vec::new()
}

fn dns_names(mut names: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((tag, name, after)) = element(names) {
        if tag == DNS_NAME
            && let Ok(name) = std::str::from_utf8(name)
        {
            found.push(name.to_ascii_lowercase());
        }
        names = after;
    }
    found
}

/// Tag, content and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let digits = usize::from(first & 0x7f);
            let (bytes, rest) = rest.split_at_checked(digits)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = names_of(&der);
        }
    }
}
