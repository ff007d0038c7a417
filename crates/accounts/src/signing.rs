//! The key that signs access tokens: one of our own, replaced from time to time, or the one in the file that the settings name.

use std::path::Path;

use tessera_service::Keys;
use tessera_service::identity::{Adopted, KeyInfo, Rotation, RsaKey};

use crate::BuildError;
use crate::config::Config;

/// Has the next key sign where its time has come: gives it, if so. It reads and writes files.
///
/// # Errors
/// [`BuildError::Setting`] where the file's key cannot be used, and what fails with the ring.
pub fn renew(config: &Config, keys: &Keys) -> Result<Option<KeyInfo>, BuildError> {
    match &config.rs256_key {
        Some(file) => adopt(file, keys, config.rotation()),
        None => Ok(keys.rotate_if_due(config.rotate_every(), config.rotation()).map_err(crate::Error::from)?),
    }
}

/// The same at the command of whoever operates the server: a key of our own is made whether it is due or not.
///
/// # Errors
/// As [`renew`]; and where the file has the key that signs already.
pub fn renew_now(config: &Config, keys: &Keys, rotation: Rotation) -> Result<KeyInfo, BuildError> {
    let made = match &config.rs256_key {
        Some(file) => adopt(file, keys, rotation)?.ok_or_else(|| {
            let reason = "its key signs already, or is about to; put another one into the file first".to_owned();
            refused(file, reason)
        })?,
        None => {
            let made = keys.rotate(rotation).map_err(crate::Error::from)?;
            made.ok_or_else(|| crate::Error::BadRequest { reason: "no key was made; try again".into() })?
        }
    };
    Ok(made)
}

fn adopt(file: &Path, keys: &Keys, rotation: Rotation) -> Result<Option<KeyInfo>, BuildError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| refused(file, format!("{error}; give a file that can be read")))?;
    let key = RsaKey::parse(&text).map_err(|reason| refused(file, reason))?;
    match keys.adopt(&key, rotation).map_err(crate::Error::from)? {
        Adopted::Next(info) => Ok(Some(info)),
        Adopted::Known => Ok(None),
        Adopted::Revoked => {
            Err(refused(file, format!("its key `{}` was revoked; put another one into the file", key.kid())))
        }
    }
}

fn refused(file: &Path, reason: String) -> BuildError {
    BuildError::Setting { key: Config::RS256_KEY, value: format!("`{}`", file.display()), reason }
}
