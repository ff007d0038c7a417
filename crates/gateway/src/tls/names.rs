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
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
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

/// From when until when a certificate holds, in seconds since the epoch.
pub fn validity_of(der: &[u8]) -> Option<(i64, i64)> {
    let (fields, offset) = fields(der)?;
    let (_, validity) = fields.get(offset + 3)?;
    let (from_tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let digits: Vec<i64> = text
        .strip_suffix(b"Z")?
        .iter()
        .map(|byte| char::from(*byte).to_digit(10).map(i64::from))
        .collect::<Option<_>>()?;
    let (year, rest) = match (tag, digits.as_slice()) {
        (UTC_TIME, [a, b, rest @ ..]) => (if a * 10 + b < 50 { 2000 } else { 1900 } + a * 10 + b, rest),
        (GENERAL_TIME, [a, b, c, d, rest @ ..]) => (a * 1_000 + b * 100 + c * 10 + d, rest),
        _ => return None,
    };
    let pairs: Vec<i64> = rest.chunks_exact(2).map(|pair| pair[0] * 10 + pair[1]).collect();
    let [month, day, hour, minute, second] = pairs[..] else { return None };
    // Days of the civil calendar, with years that begin in March (H. Hinnant, "chrono-compatible low-level date algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Tag and content.
type Field<'d> = (u8, &'d [u8]);

/// The fields of a certificate's body, and where they begin: after the version, where there is one.
fn fields(der: &[u8]) -> Option<(Vec<Field<'_>>, usize)> {
    let (_, certificate, _) = element(der)?;
    let (_, body, _) = element(certificate)?;
    let mut rest = body;
    let mut fields = Vec::new();
    while let Some((tag, content, after)) = element(rest) {
        fields.push((tag, content));
        rest = after;
    }
    let offset = usize::from(fields.first().is_some_and(|(tag, _)| *tag == VERSION));
    Some((fields, offset))
}

fn read(der: &[u8]) -> Option<Named> {
    // Serial number, signature, issuer, validity, subject.
    let (fields, offset) = fields(der)?;
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
            let _ = (names_of(&der), validity_of(&der));
        }
    }

    #[test]
    fn times_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261121163200Z", Some(1_795_278_720)),
            (GENERAL_TIME, "20500228235959Z", Some(2_529_705_599)),
            (GENERAL_TIME, "20240229000000Z", Some(1_709_164_800)),
            (UTC_TIME, "2611211632Z", None),
            (UTC_TIME, "26112116320xZ", None),
        ] {
            assert_eq!(time(tag, text.as_bytes()), seconds, "{text}");
        }
    }
}
