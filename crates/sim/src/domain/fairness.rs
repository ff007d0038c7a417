//! How fair a line was: the order in which people came against the order in which they were let in.

/// How well two orders agree: Kendall's rank correlation (tau-a; M. G. Kendall, "A New Measure of Rank Correlation",
/// Biometrika 1938). 1 for the same order, 0 for a draw by lot, -1 for the reverse. `None` for fewer than two.
///
/// `ranks` are the ranks of the second order in the order of the first; each occurs once.
pub fn kendall_tau(ranks: &[u64]) -> Option<f64> {
    let count = ranks.len() as f64;
    if ranks.len() < 2 {
        return None;
    }
    let pairs = count * (count - 1.0) / 2.0;
    Some(1.0 - 2.0 * inversions(ranks) as f64 / pairs)
}

/// Pairs that overtook each other. Counted while merging, in n log n steps.
pub fn inversions(ranks: &[u64]) -> u64 {
    let mut sorted = ranks.to_vec();
    let mut spare = sorted.clone();
    count_sorting(&mut sorted, &mut spare)
}

fn count_sorting(values: &mut [u64], spare: &mut [u64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let middle = values.len() / 2;
    let (left, right) = values.split_at_mut(middle);
    let mut inverted = count_sorting(left, &mut spare[..middle]) + count_sorting(right, &mut spare[middle..]);
    let (mut at_left, mut at_right) = (0, 0);
    for place in spare.iter_mut() {
        if at_right == right.len() || (at_left < left.len() && left[at_left] <= right[at_right]) {
            *place = left[at_left];
            at_left += 1;
        } else {
            *place = right[at_right];
            at_right += 1;
            inverted += (left.len() - at_left) as u64;
        }
    }
    values.copy_from_slice(spare);
    inverted
}

/// Somebody's place in a line, and when it was asked for and given, in steps of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// When the request was sent.
    pub asked: u64,
    /// When the answer was there.
    pub answered: u64,
    /// The number.
    pub number: u64,
}

/// How many have a higher number than somebody who asked only after they had been answered. In a line that is first in,
/// first out there are none.
pub fn overtaken(joined: &[Joined]) -> u64 {
    let mut by_answer = joined.to_vec();
    by_answer.sort_unstable_by_key(|one| one.answered);
    let mut by_asking = joined.to_vec();
    by_asking.sort_unstable_by_key(|one| one.asked);
    // Going through them by asking, latest first, the lowest number that was asked for after each answer.
    let mut lowest = u64::MAX;
    let mut later = by_asking.iter().rev().peekable();
    let mut count = 0;
    for one in by_answer.iter().rev() {
        while let Some(after) = later.next_if(|after| after.asked > one.answered) {
            lowest = lowest.min(after.number);
        }
        count += u64::from(one.number > lowest);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_agree_are_drawn_or_are_reversed() {
        assert_eq!(kendall_tau(&[1, 2, 3, 4]), Some(1.0));
        assert_eq!(kendall_tau(&[4, 3, 2, 1]), Some(-1.0));
        assert_eq!(kendall_tau(&[7]), None);
        assert_eq!(inversions(&[2, 1, 4, 3]), 2);
    }

    #[test]
    fn inversions_are_those_that_one_counts_by_hand() {
        // A linear congruential sequence: any fixed jumble will do.
        let jumble: Vec<u64> = (0..200)
            .scan(7_u64, |state, _| {
                *state = (*state * 1_103_515_245 + 12_345) % 2_147_483_648;
                Some(*state)
            })
            .collect();
        let pairs = (0..jumble.len()).flat_map(|left| (left + 1..jumble.len()).map(move |right| (left, right)));
        let by_hand = pairs.filter(|(left, right)| jumble[*left] > jumble[*right]).count() as u64;
        assert_eq!(inversions(&jumble), by_hand);
    }

    #[test]
    fn only_who_was_answered_before_another_asked_can_be_overtaken() {
        let joined = |asked, answered, number| Joined { asked, answered, number };
        assert_eq!(overtaken(&[joined(1, 4, 2), joined(2, 3, 1)]), 0, "they asked at the same time");
        assert_eq!(overtaken(&[joined(1, 2, 2), joined(3, 4, 1)]), 1);
        assert_eq!(overtaken(&[joined(1, 2, 1), joined(3, 4, 2), joined(5, 6, 3)]), 0);
        assert_eq!(overtaken(&[joined(1, 2, 9), joined(1, 3, 8), joined(5, 6, 3)]), 2);
    }
}
