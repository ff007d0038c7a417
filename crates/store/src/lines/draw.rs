//! The draw: a shuffle of 1..=n by a seed, as a function in both directions, so that nobody has to carry it out.
//!
//! It is a Feistel network of [`ROUNDS`] rounds with SHA-256 on the smallest even number of bits that holds n, walked until
//! the result lies within n again (J. Black and P. Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002). Anyone who
//! knows the seed and n can compute the number of any entry; who knows only the commitment, SHA-256 of the seed, cannot.
//!
//! To check a draw: the published seed hashes to the commitment; and with x = entry − 1, of w bits in two halves l and r
//! of w/2 bits each, where w is the smallest even number of bits (at least 2) with n ≤ 2^w: for each round i of 0 to 7,
//! (l, r) becomes (r, l xor f), where f is the low w/2 bits of the first 8 bytes, big-endian, of
//! SHA-256(seed ‖ n as 8 bytes ‖ i as 1 byte ‖ r as 8 bytes). The rounds are repeated while x ≥ n. Then number = x + 1.

use sha2::{Digest, Sha256};

/// Four make it indistinguishable from a random permutation for who has seen few values (Luby and Rackoff); twice as many.
const ROUNDS: u8 = 8;

/// The seed of a draw: 32 random bytes. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// From 32 bytes of the operating system's randomness.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For publishing, once the doors are open.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the seed, for publishing before.
    pub fn commitment(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The number of one of `count` entries, both counted from 1. An entry beyond is its own number.
    pub fn number(&self, count: i64, entry: i64) -> i64 {
        self.shuffle(count, entry, |network, x| network.forward(x))
    }

    /// The entry that has a number.
    pub fn entry(&self, count: i64, number: i64) -> i64 {
        self.shuffle(count, number, |network, x| network.backward(x))
    }

    fn shuffle(&self, count: i64, from: i64, step: impl Fn(&Network, u64) -> u64) -> i64 {
        if from < 1 || from > count {
            return from;
        }
        let (count, mut x) = (count.unsigned_abs(), from.unsigned_abs() - 1);
        let network = Network::new(&self.0, count);
        // Fewer than 4 steps on average, as at least a quarter of the values lie within; and it comes back to `from` in
        // the end.
        loop {
            x = step(&network, x);
            if x < count {
                return x as i64 + 1;
            }
        }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

struct Network {
    keyed: Sha256,
    half_bits: u32,
    mask: u64,
}

impl Network {
    fn new(seed: &[u8; 32], count: u64) -> Self {
        let bits = u64::BITS - (count - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        let keyed = Sha256::new().chain_update(seed).chain_update(count.to_be_bytes());
        Self { keyed, half_bits, mask: (1 << half_bits) - 1 }
    }

    fn forward(&self, x: u64) -> u64 {
        let (mut left, mut right) = (x >> self.half_bits, x & self.mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.hash(round, right));
        }
        left << self.half_bits | right
    }

    fn backward(&self, x: u64) -> u64 {
        let (mut left, mut right) = (x >> self.half_bits, x & self.mask);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.hash(round, left), left);
        }
        left << self.half_bits | right
    }

    fn hash(&self, round: u8, half: u64) -> u64 {
        let digest = self.keyed.clone().chain_update([round]).chain_update(half.to_be_bytes()).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first) & self.mask
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn it_is_a_shuffle_that_can_be_undone(seed: [u8; 32], count in 1i64..200) {
            let seed = Seed::from_bytes(seed);
            let mut numbers: Vec<i64> = (1..=count).map(|entry| seed.number(count, entry)).collect();
            for (entry, number) in (1..).zip(&numbers) {
                prop_assert_eq!(seed.entry(count, *number), entry);
            }
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
            prop_assert_eq!(seed.number(count, count + 1), count + 1);
        }
    }

    /// Over many seeds every entry gets every number about as often: chi-squared, 24 degrees of freedom; the seeds are
    /// fixed, so is the outcome.
    #[test]
    fn it_favours_nobody() {
        const COUNT: usize = 5;
        const DRAWS: usize = 3_000;
        let mut seen = [[0f64; COUNT]; COUNT];
        for draw in 0..DRAWS {
            let seed = Seed::from_bytes(Sha256::digest(draw.to_be_bytes()).into());
            for (entry, seen) in (1..).zip(&mut seen) {
                seen[seed.number(COUNT as i64, entry) as usize - 1] += 1.0;
            }
        }
        let expected = (DRAWS / COUNT) as f64;
        let chi: f64 = seen.iter().flatten().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi < 45.0, "{chi} {seen:?}");
    }

    /// Published draws must come out the same with every later version. The figures were computed apart from this code,
    /// by the description at the top.
    #[test]
    fn it_stays_as_it_is() {
        let seed = Seed::from_bytes([7; 32]);
        let numbers: Vec<i64> = (1..=10).map(|entry| seed.number(10, entry)).collect();
        assert_eq!(numbers, [10, 1, 7, 3, 2, 5, 8, 6, 9, 4]);
        assert_eq!(seed.number(1_000_000, 1), 349_954);
        assert_eq!(seed.commitment()[..4], [75, 176, 111, 142]);
        assert_eq!(format!("{seed:?}"), "Seed(…)");
    }
}
