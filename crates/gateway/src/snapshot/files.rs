//! The files that a config is made of beside itself, and whether they are still what they were.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::spec;
use crate::tls;

/// What files were like when they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Time of change, number and length: a file that is replaced by one of the same length within a tick has another number.
type Stamp = ((i64, i64), u64, u64);

impl Stamps {
    /// Looks at these files. Take it before they are read, so that what changes meanwhile is seen the next time.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Looks at the same files again.
    pub fn again(&self) -> Self {
        Self::of(self.0.keys().cloned())
    }

    /// Adds those of other files.
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether the file is there.
    pub fn has(&self, path: &Path) -> bool {
        self.0.get(path).is_some_and(Option::is_some)
    }

    /// Whether these files are the same in both.
    pub fn agree(&self, other: &Self, paths: &[PathBuf]) -> bool {
        paths.iter().all(|path| self.0.get(path).is_some_and(|stamp| Some(stamp) == other.0.get(path)))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some(((data.mtime(), data.mtime_nsec()), data.ino(), data.len()))
}

/// All files that a config is made of; relative paths start from `folder`.
pub fn files(spec: &spec::Gateway, folder: &Path) -> Vec<PathBuf> {
    let listeners = spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let listeners = listeners.flat_map(|tls| tls::files(tls, folder));
    let ways = spec.auth.values().flat_map(|auth| of_auth(auth, folder));
    let upstreams = spec.upstreams.values().flat_map(|upstream| of_upstream(upstream, folder));
    let policies = spec.routes.iter().filter_map(|route| route.access.as_ref()?.policy_file.as_ref());
    let policies = policies.map(|file| folder.join(file));
    let described = spec.routes.iter().flat_map(|route| {
        let rules = route.validate.iter().flat_map(|validate| [&validate.openapi, &validate.schema]).flatten();
        rules.chain(route.transcode.iter().filter_map(|transcode| transcode.descriptors.as_ref()))
    });
    let described = described.map(|file| folder.join(file));
    listeners.chain(ways).chain(upstreams).chain(of_signer(spec, folder)).chain(policies).chain(described).collect()
}

/// The files of a way to prove who one is.
pub(super) fn of_auth(auth: &spec::Auth, folder: &Path) -> Vec<PathBuf> {
    let spec::Auth::Jwt { keys, .. } = auth else { return Vec::new() };
    keys.iter().filter_map(|key| key.file.as_ref()).map(|file| folder.join(file)).collect()
}

/// The file of the key that signs who asks.
pub(super) fn of_signer(spec: &spec::Gateway, folder: &Path) -> Vec<PathBuf> {
    let key = spec.signed_identity.iter().filter_map(|signed| signed.key.as_ref());
    key.map(|file| folder.join(file)).collect()
}

/// The files of an upstream's TLS. Those of its endpoints are followed where they are read.
pub(super) fn of_upstream(upstream: &spec::Upstream, folder: &Path) -> Vec<PathBuf> {
    let certificate = upstream.tls.certificate.iter().flat_map(|own| [&own.chain, &own.key]);
    upstream.tls.authorities.iter().chain(certificate).map(|file| folder.join(file)).collect()
}
