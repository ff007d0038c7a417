//! Who a client's certificate names. It was verified when the client connected.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Identity, Proof};
use crate::tls::Named;

/// Roles by name in the certificate.
#[derive(Debug)]
pub(super) struct Mtls {
    roles: BTreeMap<String, Vec<String>>,
}

impl Mtls {
    pub(super) fn new(roles: BTreeMap<String, Vec<String>>) -> Self {
        Self { roles }
    }

    pub(super) fn check(&self, certificate: Option<&Named>) -> Proof {
        let Some(named) = certificate else { return Proof::None };
        let Some(subject) = named.subject() else {
            return Proof::Fails("the certificate has neither a common name nor a DNS name".into());
        };
        let mut names = named.common.iter().chain(&named.dns);
        let found = names.find_map(|name| self.roles.get(name)).or_else(|| self.roles.get("*"));
        let roles = found.cloned().unwrap_or_default();
        Proof::Holds(Arc::new(Identity { subject: subject.to_owned(), roles, ..Identity::default() }))
    }
}
