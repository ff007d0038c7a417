//! The keys that sign the tokens of accounts, one after the other: `<data>/keys/tokens.json`, readable by its owner only.
//!
//! Keys are made here (Ed25519), or brought (RSA). A new key is published for a while before it signs; an old one is kept until its last token is over. The file is replaced whole,
//! by one process at a time, and the others look at it every few seconds, or when a token names a key that they do not know.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_kernel::Timestamp;

use super::Rotation;
use super::rsa_key::RsaKey;
use super::token::PublicKey;
use crate::Error;

/// How often the file is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same where a token is refused for what the file may say by now.
pub(super) const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// Names under which tokens were issued that are believed; the oldest are forgotten.
const MAX_NAMES: usize = 64;
/// Keys that were brought and taken back that are remembered; the oldest are forgotten.
const MAX_REVOKED: usize = 64;
/// The file has keys that were made here only: binaries that know nothing of others read it.
const VERSION_OF_MADE: u32 = 1;
/// It has some that were brought, or were.
const VERSION: u32 = 2;

/// A key of the ring, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The thumbprint of its public key (RFC 7638).
    pub kid: String,
    /// How it signs: `EdDSA` where it was made here, `RS256` where it was brought.
    pub algorithm: &'static str,
    /// What it is for at present.
    pub state: KeyState,
    /// When it was made.
    pub made_at: Timestamp,
    /// From when it signs.
    pub signs_from: Timestamp,
    /// When its last token is over; none for the newest.
    pub keep_until: Option<Timestamp>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, and will sign.
    Next,
    /// Signs.
    Signs,
    /// Verifies what it has signed.
    Verifies,
}

/// What came of a key that was brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It will sign, or does from now on.
    Next(KeyInfo),
    /// It is the newest already.
    Known,
    /// It was taken back, and does not sign any more.
    Revoked,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Under which tokens were issued, the present one first.
    names: Vec<String>,
    keys: Vec<StoredKey>,
    /// Which were brought, and taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<String>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { version: VERSION_OF_MADE, names: Vec::new(), keys: Vec::new(), revoked: Vec::new() }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    #[serde(flatten)]
    secret: Secret,
    made_at: Timestamp,
    signs_from: Timestamp,
    keep_until: Option<Timestamp>,
}

/// A key as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Secret {
    /// Ed25519, made here: PKCS #8, base64.
    Pkcs8(String),
    /// RSA, brought: PEM.
    RsaPem(String),
}

/// A key that was read.
struct RingKey {
    public: PublicKey,
    jwk: Value,
    encoding: EncodingKey,
    made_at: Timestamp,
    signs_from: Timestamp,
    keep_until: Option<Timestamp>,
}

#[derive(Default)]
struct Ring {
    text: String,
    names: Arc<[String]>,
    keys: Vec<RingKey>,
}

/// The ring as this process knows it.
pub(super) struct KeyRing {
    path: Option<PathBuf>,
    ring: RwLock<Arc<Ring>>,
    looked_at: AtomicI64,
}

impl KeyRing {
    pub fn in_memory() -> Self {
        Self { path: None, ring: RwLock::default(), looked_at: AtomicI64::new(i64::MIN) }
    }

    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokens.json");
        let refused = |reason: String| Error::Key { path: path.clone(), reason };
        let text = read(&path).map_err(|error| refused(error.to_string()))?;
        let ring = Ring::parse(text).map_err(refused)?;
        Ok(Self { ring: RwLock::new(Arc::new(ring)), path: Some(path), looked_at: AtomicI64::new(i64::MIN) })
    }

    fn present(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the file was not looked at for so long. Also where the clock was set back.
    pub fn is_due(&self, now: Timestamp, pause: Duration) -> bool {
        self.due(now, pause).is_some()
    }

    /// When it was looked at, where that is so long ago.
    fn due(&self, now: Timestamp, pause: Duration) -> Option<i64> {
        let last = self.looked_at.load(Ordering::Acquire);
        let pause = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
        let is_recent = last <= now.micros() && now.micros() < last.saturating_add(pause);
        (self.path.is_some() && !is_recent).then_some(last)
    }

    /// Looks at the file where that was not done for so long. Tells whether it has changed. Of many at once one looks.
    pub fn look(&self, now: Timestamp, pause: Duration) -> bool {
        let (Some(path), Some(last)) = (self.path.as_deref(), self.due(now, pause)) else { return false };
        if self.looked_at.compare_exchange(last, now.micros(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let Some(text) = read(path).ok().filter(|text| *text != self.present().text) else { return false };
        match Ring::parse(text) {
            Ok(ring) => *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring),
            Err(reason) => {
                tracing::error!(key.path = %path.display(), error.detail = reason, "the keys stay as they were");
                return false;
            }
        }
        true
    }

    pub fn names(&self) -> Arc<[String]> {
        Arc::clone(&self.present().names)
    }

    /// The key that signs: its public part, itself, and the name of the issuer.
    pub fn signing(&self, now: Timestamp) -> Result<(PublicKey, EncodingKey, Option<String>), Error> {
        let ring = self.present();
        let key = ring.signing(now).ok_or_else(|| {
            self.refused("it has no key that signs at this time; run `tessera accounts keys rotate`".into())
        })?;
        Ok((key.public.clone(), key.encoding.clone(), ring.names.first().cloned()))
    }

    pub fn public(&self, kid: &str, now: Timestamp) -> Option<PublicKey> {
        let ring = self.present();
        ring.kept(now).find(|key| key.public.kid == kid).map(|key| key.public.clone())
    }

    /// Whether there is such a key and it verifies.
    pub fn has(&self, kid: &str, now: Timestamp) -> bool {
        self.present().kept(now).any(|key| key.public.kid == kid)
    }

    /// The keys that verify, as JWKs.
    pub fn all(&self, now: Timestamp) -> Vec<Value> {
        self.present().kept(now).map(|key| key.jwk.clone()).collect()
    }

    pub fn list(&self, now: Timestamp) -> Vec<KeyInfo> {
        let ring = self.present();
        let signing = ring.signing(now).map(|key| key.public.kid.clone());
        let mut infos: Vec<KeyInfo> = ring.kept(now).map(|key| key.info(now, signing.as_deref())).collect();
        infos.sort_by_key(|info| std::cmp::Reverse(info.signs_from));
        infos
    }

    pub fn name(&self, name: &str, now: Timestamp) -> Result<(), Error> {
        if self.names().first().is_some_and(|first| first == name) {
            return Ok(());
        }
        self.change(now, |stored| {
            stored.names.retain(|other| other != name);
            stored.names.insert(0, name.to_owned());
            stored.names.truncate(MAX_NAMES);
            Ok(())
        })
    }

    /// Makes the next key, or only where the newest is that old.
    pub fn rotate(
        &self,
        every: Option<Duration>,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Option<KeyInfo>, Error> {
        let mut made = false;
        self.change(now, |stored| {
            // Another process may have been first. One that was brought is not waited for: nobody brings keys any more.
            if let (Some(newest), Some(every)) = (stored.newest(), every)
                && newest.made_at.plus(every) > now
                && matches!(newest.secret, Secret::Pkcs8(_))
            {
                return Ok(());
            }
            stored.follow(Secret::make()?, now, rotation);
            made = true;
            Ok(())
        })?;
        Ok(self.newest(now).filter(|_| made))
    }

    /// Has a key that was brought sign after those that there are, where it is not the newest.
    pub fn adopt(&self, key: &RsaKey, rotation: Rotation, now: Timestamp) -> Result<Adopted, Error> {
        let (mut is_next, mut is_revoked) = (false, false);
        self.change(now, |stored| {
            is_revoked = stored.revoked.iter().any(|kid| kid == key.kid());
            let is_it = |stored: &StoredKey| stored.kid().is_some_and(|kid| kid == key.kid());
            if is_revoked || stored.newest().is_some_and(is_it) {
                return Ok(());
            }
            is_next = true;
            if stored.signing(now).is_some_and(is_it) {
                // Another one was to follow, and shall not any more.
                stored.keys.retain(|key| key.signs_from <= now);
                for key in stored.keys.iter_mut().filter(|key| is_it(key)) {
                    (key.made_at, key.keep_until) = (now, None);
                }
                return Ok(());
            }
            stored.keys.retain(|key| !is_it(key));
            stored.follow(Secret::RsaPem(key.pem.clone()), now, rotation);
            Ok(())
        })?;
        Ok(match (is_revoked, self.newest(now).filter(|_| is_next)) {
            (true, _) => Adopted::Revoked,
            (false, Some(info)) => Adopted::Next(info),
            (false, None) => Adopted::Known,
        })
    }

    fn newest(&self, now: Timestamp) -> Option<KeyInfo> {
        self.list(now).into_iter().max_by_key(|info| (info.made_at, info.signs_from))
    }

    pub fn revoke(&self, kid: &str, now: Timestamp) -> Result<bool, Error> {
        let mut found = false;
        self.change(now, |stored| {
            let all = std::mem::take(&mut stored.keys);
            let (gone, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|key| key.kid().is_none_or(|own| own == kid));
            stored.keys = others;
            found = !gone.is_empty();
            // The file that it was brought in has it still.
            if gone.iter().any(|key| matches!(key.secret, Secret::RsaPem(_))) {
                stored.revoked.insert(0, kid.to_owned());
                stored.revoked.truncate(MAX_REVOKED);
            }
            let signs = |key: &StoredKey| key.signs_from <= now && key.keep_until.is_none();
            if found && !stored.keys.iter().any(signs) {
                let (secret, keep_until) = (Secret::make()?, None);
                stored.keys.push(StoredKey { secret, made_at: now, signs_from: now, keep_until });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Changes what is stored, as the only one at that time, and forgets keys that are over.
    fn change(&self, now: Timestamp, change: impl FnOnce(&mut Stored) -> io::Result<()>) -> Result<(), Error> {
        let refused = |error: io::Error| self.refused(error.to_string());
        let _lock = self.path.as_deref().map(lock).transpose().map_err(refused)?;
        let text = match self.path.as_deref() {
            Some(path) => read(path).map_err(refused)?,
            None => self.present().text.clone(),
        };
        let before = text;
        let mut stored = Stored::parse(&before).map_err(|reason| self.refused(reason))?;
        stored.keys.retain(|key| key.keep_until.is_none_or(|until| until > now));
        change(&mut stored).map_err(refused)?;
        let has_brought = stored.keys.iter().any(|key| matches!(key.secret, Secret::RsaPem(_)));
        stored.version = if has_brought || !stored.revoked.is_empty() { VERSION } else { VERSION_OF_MADE };
        let text = serde_json::to_string_pretty(&stored).map_err(|error| self.refused(error.to_string()))?;
        if let Some(path) = self.path.as_ref().filter(|_| text != before) {
            replace(path, &text).map_err(refused)?;
        }
        let ring = Ring::parse(text).map_err(|reason| self.refused(reason))?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    fn refused(&self, reason: String) -> Error {
        Error::Key { path: self.path.clone().unwrap_or_else(|| "memory".into()), reason }
    }
}

impl Ring {
    fn parse(text: String) -> Result<Self, String> {
        let stored = Stored::parse(&text)?;
        let keys = stored.keys.iter().map(StoredKey::read).collect::<Result<_, _>>()?;
        Ok(Self { text, names: stored.names.into(), keys })
    }

    fn kept(&self, now: Timestamp) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().filter(move |key| key.keep_until.is_none_or(|until| until > now))
    }

    fn signing(&self, now: Timestamp) -> Option<&RingKey> {
        self.kept(now).filter(|key| key.signs_from <= now).max_by_key(|key| (key.signs_from, key.made_at))
    }
}

impl RingKey {
    fn info(&self, now: Timestamp, signing: Option<&str>) -> KeyInfo {
        let state = match signing {
            Some(kid) if kid == self.public.kid => KeyState::Signs,
            _ if self.signs_from > now => KeyState::Next,
            _ => KeyState::Verifies,
        };
        let Self { made_at, signs_from, keep_until, .. } = *self;
        let algorithm = if self.public.algorithm == Algorithm::RS256 { "RS256" } else { "EdDSA" };
        KeyInfo { kid: self.public.kid.clone(), algorithm, state, made_at, signs_from, keep_until }
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let stored: Self = serde_json::from_str(text).map_err(|error| format!("it is not a ring of keys: {error}"))?;
        if !(VERSION_OF_MADE..=VERSION).contains(&stored.version) {
            return Err(format!("it has version {}, this binary knows {VERSION}; start the newer one", stored.version));
        }
        Ok(stored)
    }

    fn newest(&self) -> Option<&StoredKey> {
        self.keys.iter().max_by_key(|key| (key.made_at, key.signs_from))
    }

    fn signing(&self, now: Timestamp) -> Option<&StoredKey> {
        let signs = self.keys.iter().filter(|key| key.signs_from <= now);
        signs.max_by_key(|key| (key.signs_from, key.made_at))
    }

    /// Has a key sign after those that there are: at once where there is none.
    fn follow(&mut self, secret: Secret, now: Timestamp, rotation: Rotation) {
        let signs_from = if self.keys.is_empty() { now } else { now.plus(rotation.lead) };
        // One that was to sign later has signed nothing yet, and would take the place of this one.
        self.keys.retain(|key| key.signs_from <= signs_from);
        for key in &mut self.keys {
            key.keep_until = key.keep_until.or(Some(signs_from.plus(rotation.longest_token)));
        }
        self.keys.push(StoredKey { secret, made_at: now, signs_from, keep_until: None });
    }
}

impl Secret {
    fn make() -> io::Result<Self> {
        Ok(Self::Pkcs8(STANDARD.encode(super::generate()?)))
    }
}

impl StoredKey {
    fn read(&self) -> Result<RingKey, String> {
        let (public, jwk, encoding) = match &self.secret {
            Secret::Pkcs8(text) => {
                let document = STANDARD.decode(text).map_err(|error| format!("a key is not base64: {error}"))?;
                let pair =
                    Ed25519KeyPair::from_pkcs8(&document).map_err(|error| format!("not an Ed25519 key: {error}"))?;
                let bytes = pair.public_key().as_ref();
                let public = PublicKey::of_ed25519(bytes);
                let jwk = super::jwk(&public.kid, bytes);
                (public, jwk, EncodingKey::from_ed_der(&document))
            }
            Secret::RsaPem(text) => {
                let RsaKey { public, jwk, encoding, .. } = RsaKey::parse(text)?;
                (public, jwk, encoding)
            }
        };
        let Self { made_at, signs_from, keep_until, .. } = *self;
        Ok(RingKey { public, jwk, encoding, made_at, signs_from, keep_until })
    }

    /// None where it cannot be read.
    fn kid(&self) -> Option<String> {
        self.read().ok().map(|key| key.public.kid)
    }
}

/// Empty where there is none yet.
fn read(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Held as long as the file is open.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut made = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    made.write_all(text.as_bytes())?;
    made.as_file().sync_all()?;
    made.persist(path).map(drop).map_err(|error| error.error)
}
