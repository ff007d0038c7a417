//! What accounts count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

const SIGN_INS: &str = "tessera_accounts_sign_ins";
const SIGN_UPS: &str = "tessera_accounts_sign_ups";
const REFRESHES: &str = "tessera_accounts_refreshes";

/// What came of it: a closed set of words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The counters of one process.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sign_ins: Family<Outcome, Counter>,
    sign_ups: Family<Outcome, Counter>,
    refreshes: Family<Outcome, Counter>,
}

impl Metrics {
    /// Puts them where they are read.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(SIGN_INS, "sign-ins: done, refused, throttled", self.sign_ins.clone());
        registry.register(
            SIGN_UPS,
            "sign-ups: done, throttled; one of a name that is taken is done too",
            self.sign_ups.clone(),
        );
        registry.register(REFRESHES, "refresh tokens that came: next, again, stolen, over", self.refreshes.clone());
    }

    /// A sign-in came to this.
    pub fn signed_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&Outcome { outcome }).inc();
    }

    /// A sign-up came to this.
    pub fn signed_up(&self, outcome: &'static str) {
        self.sign_ups.get_or_create(&Outcome { outcome }).inc();
    }

    /// A refresh token came to this.
    pub fn refreshed(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&Outcome { outcome }).inc();
    }
}
