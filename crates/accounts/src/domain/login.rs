//! What one signs in with: an email address, or a name.

/// The longest address (RFC 5321, 4.5.3.1.3).
const MAX_ADDRESS_BYTES: usize = 254;
/// The shortest name.
const MIN_NAME_BYTES: usize = 3;
/// The longest name.
const MAX_NAME_BYTES: usize = 64;

/// An address or a name, in lower case: two that differ in case only are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login(String);

impl Login {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_lowercase();
        let fit = if text.contains('@') { is_address(&text) } else { is_name(&text) };
        if fit {
            return Ok(Self(text));
        }
        let form = format!(
            "give an email address, or a name of {MIN_NAME_BYTES} to {MAX_NAME_BYTES} letters a to z, digits, dots, hyphens and underscores"
        );
        Err(form)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to call somebody who has not said: the name, or what is before the `@`.
    pub fn short(&self) -> &str {
        self.0.split('@').next().unwrap_or(&self.0)
    }
}

/// Whether it has the form of an address. Whether mail arrives there, only mail can tell.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\"\\@".contains(c);
    let labels = domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    text.len() <= MAX_ADDRESS_BYTES && !local.is_empty() && labels && text.replacen('@', "", 1).chars().all(plain)
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (MIN_NAME_BYTES..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(plain)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for (text, read) in [
            (" Ada ", "ada"),
            ("ada.lovelace-2", "ada.lovelace-2"),
            ("Ada@Example.COM", "ada@example.com"),
            ("ada+tickets@mail.example.com", "ada+tickets@mail.example.com"),
            ("ądą@example.com", "ądą@example.com"),
        ] {
            assert_eq!(Login::parse(text).unwrap().as_str(), read);
        }
        assert_eq!(Login::parse("ada@example.com").unwrap().short(), "ada");
        let long = "a".repeat(65);
        let address = format!("{}@example.com", "a".repeat(250));
        for text in [
            "",
            "ab",
            "-ada",
            "ada lovelace",
            "ada@",
            "@example.com",
            "a@b@c",
            "a b@c.d",
            "ada@exa..mple",
            "ädä",
            "a\u{0}b@c.d",
            "<ada@b.c>",
            &long,
            &address,
        ] {
            assert!(Login::parse(text).unwrap_err().contains("64"), "{text}");
        }
    }
}
