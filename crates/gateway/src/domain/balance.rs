//! Which endpoint is asked: pure choices over what is known of each.

/// What is known of an endpoint when the choice is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its share of requests; 0 gets none.
    pub weight: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Expected time to an answer, in microseconds: the decaying peak of what was measured.
    pub expected_us: u64,
}

/// What is multiplied with a weight, so that a share of it is a whole number.
pub const WHOLE: u32 = 100;
/// Loads are compared in so fine parts.
const FINE: u128 = 1_000_000_000;
/// The share that an endpoint begins with.
const FIRST: u32 = 10;

/// The share, out of [`WHOLE`], of an endpoint that has been there for so long and takes so long to get all of it. It
/// grows evenly.
pub fn warmth(since_us: u64, takes_us: u64) -> u32 {
    let grown = u128::from(WHOLE - FIRST) * u128::from(since_us) / u128::from(takes_us.max(1));
    u32::try_from(grown).map_or(WHOLE, |grown| FIRST.saturating_add(grown).min(WHOLE))
}

/// The cheaper of two by *peak EWMA*: expected time times the queue in front of a new request.
pub fn cheaper(one: &Candidate, other: &Candidate) -> bool {
    let cost = |candidate: &Candidate| {
        let expected = u128::from(candidate.expected_us.max(1));
        expected * (u128::from(candidate.in_flight) + 1) * FINE / u128::from(candidate.weight.max(1))
    };
    cost(one) <= cost(other)
}

/// The one with the fewest requests under way for its weight; the first of equals from `start` on, so that equals take
/// turns.
pub fn least_requests(candidates: &[Candidate], start: usize) -> Option<usize> {
    let count = candidates.len();
    let load = |at: &usize| {
        let candidate = &candidates[*at];
        (u128::from(candidate.in_flight) + 1) * FINE / u128::from(candidate.weight)
    };
    (0..count).map(|step| (start + step) % count).filter(|at| candidates[*at].weight > 0).min_by_key(load)
}

/// The one that a point of the circle falls on, each with a stretch as long as its weight.
pub fn weighted(weights: &[u32], point: u64) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut left = point.checked_rem(total)?;
    weights.iter().position(|weight| match left.checked_sub(u64::from(*weight)) {
        Some(less) => {
            left = less;
            false
        }
        None => true,
    })
}

/// The mean that follows a rise at once and forgets it slowly (Finagle's peak EWMA): `before_us` decays towards
/// `measured_us` by the time since, with a half-life of about seven seconds.
pub fn peak_ewma(before_us: u64, measured_us: u64, since_us: u64) -> u64 {
    const DECAY_US: f64 = 10_000_000.0;
    if measured_us >= before_us {
        return measured_us;
    }
    let kept = (-(since_us as f64) / DECAY_US).exp();
    (before_us as f64 * kept + measured_us as f64 * (1.0 - kept)) as u64
}

/// Whom a key belongs to: rendezvous hashing (Thaler and Ravishankar, 1998) with weights. When one endpoint goes away
/// only its own keys move.
pub fn rendezvous(key: u64, endpoints: impl Iterator<Item = (u64, u32)>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, (id, weight)) in endpoints.enumerate() {
        if weight == 0 {
            continue;
        }
        // A number in (0, 1) from key and endpoint; -weight / ln of it ranks them in proportion to their weights.
        let unit = (mix(key ^ mix(id)) >> 11) as f64 / (1_u64 << 53) as f64;
        let score = -f64::from(weight) / unit.max(f64::MIN_POSITIVE).ln();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of bytes that is the same in every process (FNV-1a, mixed).
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let mut counts = [0_u32; 3];
        for point in 0..1_000 {
            counts[weighted(&[1, 0, 3], point).unwrap()] += 1;
        }
        assert_eq!(counts, [250, 0, 750]);
        assert_eq!(weighted(&[0, 0], 3), None);
    }

    #[test]
    fn a_new_one_gets_its_share_little_by_little() {
        assert_eq!([0, 50, 100, 1_000, u64::MAX].map(|since| warmth(since, 100)), [10, 55, 100, 100, 100]);
        assert_eq!(warmth(5, 0), 100);
    }

    #[test]
    fn the_least_busy_is_chosen_and_equals_take_turns() {
        let idle = |weight| Candidate { weight, in_flight: 0, expected_us: 0 };
        let busy = Candidate { in_flight: 3, ..idle(1) };
        assert_eq!(least_requests(&[busy, idle(1), idle(1)], 2), Some(2));
        assert_eq!(least_requests(&[busy, idle(1), idle(1)], 0), Some(1));
        assert_eq!(least_requests(&[idle(0)], 0), None);
        assert!(cheaper(&Candidate { expected_us: 10, ..busy }, &Candidate { expected_us: 100, ..idle(1) }));
    }

    #[test]
    fn a_peak_is_taken_at_once_and_forgotten_slowly() {
        assert_eq!(peak_ewma(100, 5_000, 1), 5_000);
        let later = peak_ewma(5_000, 100, 10_000_000);
        assert!((1_000..3_000).contains(&later), "{later}");
    }

    #[test]
    fn only_the_keys_of_a_lost_endpoint_move() {
        let all = [(1, 1), (2, 1), (3, 2)];
        let owner = |key, endpoints: &[(u64, u32)]| endpoints[rendezvous(key, endpoints.iter().copied()).unwrap()].0;
        let mut owned = [0_u32; 4];
        for key in 0..4_000 {
            let key = mix(key);
            let before = owner(key, &all);
            owned[before as usize] += 1;
            if before != 2 {
                assert_eq!(owner(key, &[all[0], all[2]]), before);
            }
        }
        assert!((1_800..2_200).contains(&owned[3]) && (850..1_150).contains(&owned[1]), "{owned:?}");
    }
}
