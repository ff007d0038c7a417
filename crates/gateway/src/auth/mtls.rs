//! Who a client's certificate names. It was verified when the client connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Identity, Proof, Shown, Way};

/// How long the identity of a certificate stays the same one, with what was made of it.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Roles by name in the certificate.
#[derive(Debug)]
pub(super) struct Mtls {
    roles: BTreeMap<String, Vec<String>>,
}

impl Mtls {
    pub(super) fn new(roles: BTreeMap<String, Vec<String>>) -> Self {
        Self { roles }
    }

    pub(super) fn check(&self, way: &Arc<Way>, shown: Shown<'_>) -> Proof {
        let Some(named) = shown.certificate else { return Proof::None };
        let Some(subject) = named.subject() else {
            return Proof::Fails("the certificate has neither a common name nor a DNS name".into());
        };
        let now_s = shown.clock.now().micros().div_euclid(1_000_000);
        let names = format!("{named:?}");
        if let Some(identity) = shown.remembered.get(way, 0, &names, now_s) {
            return Proof::Holds(identity);
        }
        let found = named.common.iter().chain(&named.dns).find_map(|name| self.roles.get(name));
        let roles = found.or_else(|| self.roles.get("*")).cloned().unwrap_or_default();
        let identity = Arc::new(Identity { subject: subject.to_owned(), roles, ..Identity::default() });
        let until_s = now_s + REMEMBERED.as_secs() as i64;
        shown.remembered.put(way, 0, &names, identity.clone(), until_s, now_s);
        Proof::Holds(identity)
    }
}
