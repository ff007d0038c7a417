//! Where ids come from. An id is a UUID v7 shown with a prefix, such as `run_0192…`; products wrap it in newtypes.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Mints ids. Injected, so that tests can predict them.
pub trait Ids: Send + Sync {
    /// A new id, later than all before it from the same source up to the millisecond.
    fn next(&self) -> Uuid;
}

/// UUID v7 from the system's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "this is the source that the ban points to")]
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Makes a newtype over a UUID that is written with a prefix: `typed_id!(/// An event. EventId = "event")` shows
/// `event_0192…`, 32 hexadecimal digits after the prefix, and reads nothing else.
#[macro_export]
macro_rules! typed_id {
    ($(#[$about:meta])* $name:ident = $prefix:literal) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::Uuid);

        impl $name {
            /// What is written before the digits and an underscore.
            pub const PREFIX: &'static str = $prefix;

            /// The id as stored.
            pub const fn uuid(self) -> $crate::Uuid {
                self.0
            }
        }

        impl From<$crate::Uuid> for $name {
            fn from(id: $crate::Uuid) -> Self {
                Self(id)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.as_simple())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $crate::read_id(text, $prefix).map(Self)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}

/// The UUID in `<prefix>_<32 hexadecimal digits>`.
///
/// # Errors
/// A text that names the value, cut to 60 characters, and the form.
pub fn read_id(text: &str, prefix: &str) -> Result<Uuid, String> {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).filter(|digits| digits.len() == 32);
    digits.and_then(|digits| Uuid::try_parse(digits).ok()).ok_or_else(|| {
        let short: String = text.chars().take(60).collect();
        format!("`{short}` is not an id of this kind: it looks like {prefix}_ and 32 hexadecimal digits")
    })
}

/// Ids 1, 2, 3 … for tests.
#[derive(Debug, Default)]
pub struct FixedIds(AtomicU64);

impl Ids for FixedIds {
    fn next(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    typed_id!(
        /// A run.
        RunId = "run"
    );

    #[test]
    fn a_typed_id_reads_back_and_refuses_others() {
        let id = RunId::from(FixedIds::default().next());
        assert_eq!(id.to_string(), format!("{}_{:032x}", RunId::PREFIX, id.uuid().as_u128()));
        assert_eq!(id.to_string(), "run_00000000000000000000000000000001");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_str::<RunId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        for text in
            ["", "run_", "run_1", "event_00000000000000000000000000000001", "run_0000000000000000000000000000000g"]
        {
            let error = text.parse::<RunId>().unwrap_err();
            assert!(error.contains("run_"), "{error}");
        }
    }
}
