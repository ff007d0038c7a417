//! A budget for retries: a share of the requests of late, so that retries never multiply a failing upstream's load.

/// Deposits and withdrawals are counted in thousandths of a retry.
const UNIT: u64 = 1_000;

/// How much may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Retries per request, in thousandths.
    pub share_per_mille: u64,
    /// The most that is saved up, in retries. A little is there from the start.
    pub most: u64,
}

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(u64);

impl Budget {
    /// Full.
    pub fn full(allowance: Allowance) -> Self {
        Self(allowance.most * UNIT)
    }

    /// After a request that was no retry.
    #[must_use]
    pub fn after_request(self, allowance: Allowance) -> Self {
        Self((self.0 + allowance.share_per_mille).min(allowance.most * UNIT))
    }

    /// After a retry; `None` where nothing is left for one.
    pub fn after_retry(self) -> Option<Self> {
        self.0.checked_sub(UNIT).map(Self)
    }

    /// As a number, to be stored.
    pub fn into_raw(self) -> u64 {
        self.0
    }

    /// From its number.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_a_share_of_requests() {
        let allowance = Allowance { share_per_mille: 200, most: 2 };
        let mut budget = Budget::full(allowance);
        let mut retries = 0;
        for _ in 0..100 {
            budget = budget.after_request(allowance);
            if let Some(left) = budget.after_retry() {
                (budget, retries) = (left, retries + 1);
            }
        }
        assert_eq!(retries, 21, "two saved up, then one in five");
    }
}
