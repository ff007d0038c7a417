//! Repeatable chance: every value in the shop is a hash of (seed, salt, number), so that no row has to be stored.

/// A well mixed 64-bit value of three numbers. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub(super) fn draw(seed: u64, salt: u64, number: u64) -> u64 {
    mix(seed ^ mix(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(number.wrapping_add(0x632b_e59b_d9b4_e019))))
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A row's own source of chance. The same (seed, salt, number) always throws the same values in the same order.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, salt: u64, number: u64) -> Self {
        Self(draw(seed, salt, number))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..end`, and 0 where `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in that many of 100 cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the words.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, from: &[T; N]) -> T {
        from[usize::try_from(self.below(N as u64)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_repeats_and_stays_in_range() {
        let mut a = Dice::new(1, 2, 3);
        let mut b = Dice::new(1, 2, 3);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let value = a.below(10);
            assert_eq!(value, b.below(10));
            seen[value as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert_eq!(a.below(0), 0);
        assert_ne!(draw(1, 2, 3), draw(1, 3, 2));
    }
}
