//! Which passwords are taken: long enough, and not among the first that anybody would try (NIST SP 800-63B, 5.1.1.2). What they are made of is not asked.

use super::common_passwords::{COMMON, ROWS};
use super::login::Login;

/// The longest, in characters: enough for a sentence, and a limit to what is hashed.
pub const MAX_CHARS: usize = 128;
/// No setting makes less do.
pub const MIN_CHARS: usize = 8;
/// Fewer different characters than this are a pattern.
const MIN_DIFFERENT: usize = 4;
/// A name shorter than this may occur in a password by chance.
const MIN_NAME_CHARS: usize = 4;

/// Whether it may be somebody's password.
///
/// # Errors
/// Why not, and what would do. The password is not in it.
pub fn check(password: &str, login: &Login, min_chars: usize) -> Result<(), String> {
    let length = password.chars().count();
    let least = min_chars.clamp(MIN_CHARS, MAX_CHARS);
    if length < least {
        return Err(format!("it has {length} characters; take at least {least}, for example four words"));
    }
    if length > MAX_CHARS {
        return Err(format!("it has {length} characters; take at most {MAX_CHARS}"));
    }
    let lower = password.to_lowercase();
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT || is_run(&lower) {
        return Err("it is a pattern that is tried first; take something less regular, for example four words".into());
    }
    let (plain, short) = (stem(&lower), login.short());
    if lower.contains(login.as_str()) || (short.len() >= MIN_NAME_CHARS && plain == stem(short)) {
        return Err("it is made of the name of the account; take something that is not known of you".into());
    }
    if COMMON.binary_search(&plain.as_str()).is_ok() || COMMON.binary_search(&lower.as_str()).is_ok() {
        return Err("it is among the passwords that are tried first; take another, for example four words".into());
    }
    Ok(())
}

/// What is left of `P4ssw0rd2024!`: letters in place of what looks like them, without what was put at the ends.
fn stem(lower: &str) -> String {
    let ends = |c: char| !c.is_alphabetic();
    let whole: String = lower.trim_matches(ends).to_owned();
    let letter = |c: char| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    let letters: String = whole.chars().map(letter).filter(|c| c.is_alphabetic()).collect();
    // Twice the same word is that word.
    let half = letters.len() / 2;
    match letters.is_char_boundary(half) && letters.len().is_multiple_of(2) && letters[..half] == letters[half..] {
        true => letters[..half].to_owned(),
        false => letters,
    }
}

/// Whether it goes along the alphabet, the digits or a row of keys, forwards or backwards, over and over.
fn is_run(lower: &str) -> bool {
    let backwards: String = lower.chars().rev().collect();
    ROWS.iter().any(|row| {
        let twice = row.repeat(MAX_CHARS / row.len() + 2);
        twice.contains(lower) || twice.contains(&backwards)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(password: &str) -> Result<(), String> {
        check(password, &Login::parse("grace.hopper@example.com").unwrap(), 10)
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        assert!(COMMON.is_sorted());
        for password in [
            "password12",
            "P4ssw0rd2024!",
            "passwordpassword",
            "Qwertyuiop",
            "1234567890",
            "0987654321",
            "abcdefghijkl",
            "zyxwvutsrqponm",
            "aaaaaaaaaaaa",
            "abababababab",
            "1q2w3e4r5t6y",
            "iloveyou123",
            "!!letmein!!99",
            "welcome2024",
            "asdfghjkl;",
            "Football2026",
            "correcthorsebatterystaple",
        ] {
            assert!(checked(password).is_err(), "{password}");
        }
        for password in ["four small green owls", "tRee-90-lamp", "ključ od podruma", "密码密码很长的一个句子啊"]
        {
            assert_eq!(checked(password), Ok(()), "{password}");
        }
    }

    #[test]
    fn length_and_name() {
        assert!(checked("short-9x").unwrap_err().contains("8 characters"));
        assert!(checked(&"long x9 ".repeat(17)).unwrap_err().contains("at most 128"));
        assert!(check("short-9x", &Login::parse("ada").unwrap(), 1).is_ok());
        assert!(check("shrt-9x", &Login::parse("ada").unwrap(), 1).is_err(), "no setting makes less than eight do");
        for password in ["grace.hopper@example.com", "Grace.Hopper1906", "gracehopper!!"] {
            assert!(checked(password).unwrap_err().contains("name of the account"), "{password}");
        }
        for password in ["secret word 17 äö", "xx grace 18 yy"] {
            let refused = check(password, &Login::parse("ada").unwrap(), 60).unwrap_err();
            assert!(!refused.contains(password));
        }
    }
}
