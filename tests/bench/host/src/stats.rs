//! Medians, ranges, and ratios of what was measured in the same round.

use std::collections::BTreeMap;
use std::fmt;

/// A median and how far the values lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The value in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of these values; `None` without any, or if one is no finite number.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper)
        } else {
            upper
        };
        Some(Self { median, min: *values.first()?, max: *values.last()?, count: values.len() })
    }

    /// Of the ratios `of / to`, each of two values of the same round.
    #[must_use]
    pub fn of_ratios(of: &BTreeMap<u32, f64>, to: &BTreeMap<u32, f64>) -> Option<Self> {
        Self::of(of.iter().filter_map(|(round, value)| Some(value / to.get(round)?)))
    }
}

/// As text, with this many decimals; a dash where nothing was measured.
#[must_use]
pub fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |spread| format!("{spread:.digits$}"))
}

/// The median alone, in the same way.
#[must_use]
pub fn median(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

impl fmt::Display for Spread {
    /// `median (min..max)`, with the precision given, 2 decimals without one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0, count: 3 });
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-9);
        assert_eq!(spread.to_string(), "2.50 (1.00..4.00)");
        assert_eq!(format!("{spread:.0}"), "2 (1..4)");
    }

    #[test]
    fn nothing_and_no_number_have_no_median() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn a_ratio_needs_both_values_of_a_round() {
        let ours = BTreeMap::from([(1, 10.0), (2, 30.0), (3, 50.0)]);
        let theirs = BTreeMap::from([(1, 10.0), (2, 10.0), (4, 1.0)]);
        let spread = Spread::of_ratios(&ours, &theirs).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0, count: 2 });
    }
}
