//! What many measurements say together.

/// Measured values, in order.
#[derive(Clone, Debug, Default)]
pub struct Sorted(Vec<f64>);

impl Sorted {
    /// These, in whatever order they were.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// The least value that is no less than so large a share of them; `NaN` of none.
    pub fn at(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.max(1) - 1).or(self.0.last()).copied().unwrap_or(f64::NAN)
    }

    /// Their mean; `NaN` of none.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Sorted {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self::new(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_by_rank() {
        let values: Sorted = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 0.995, 1.0].map(|share| values.at(share)), [1.0, 50.0, 99.0, 100.0, 100.0]);
        assert_eq!((values.mean(), values.count()), (50.5, 100));
        let one = Sorted::new(vec![7.0]);
        assert_eq!((one.at(0.5), one.at(0.999)), (7.0, 7.0));
        assert!(Sorted::default().at(0.5).is_nan() && Sorted::default().mean().is_nan());
    }
}
