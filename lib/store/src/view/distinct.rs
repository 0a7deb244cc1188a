//! `_approx_count_distinct`: how many different keys there are, about.
//!
//! HyperLogLog with 2^11 registers over the SHA-1 of the key as an Erlang term, as CouchDB has it. Up to 1,800 the answer
//! is CouchDB's to the digit. Beyond, CouchDB corrects its estimate by a table from the appendix of
//! "HyperLogLog in Practice" (Heule, Nunkesser, Hall, 2013), this module by [`BIAS`], which was measured: the two answers
//! are within half a percent of each other, where either is within about 2 % of the truth. From about 10,000 on neither
//! corrects anything, and they are the same again.

use serde_json::Value;
use sha1::{Digest, Sha1};

use super::terms;

const PRECISION: u32 = 11;
const REGISTERS: usize = 1 << PRECISION;
/// Up to here the number of empty registers says more than the estimate.
const COUNTED_BY_EMPTY: f64 = 1800.0;

/// By how much the raw estimate is too large, at some estimates: means over 20,000 runs on random hashes.
const BIAS: [(f64, f64); 34] = [
    (2489.2, 739.21),
    (2661.1, 661.08),
    (2839.3, 589.27),
    (3023.5, 523.45),
    (3213.2, 463.17),
    (3408.5, 408.51),
    (3609.2, 359.18),
    (3814.6, 314.64),
    (4024.6, 274.65),
    (4239.4, 239.35),
    (4457.7, 207.68),
    (4679.7, 179.71),
    (4905.2, 155.16),
    (5133.6, 133.60),
    (5364.7, 114.66),
    (5597.9, 97.95),
    (5833.9, 83.91),
    (6071.1, 71.05),
    (6310.1, 60.13),
    (6550.9, 50.87),
    (6792.3, 42.31),
    (7035.1, 35.09),
    (7279.5, 29.46),
    (7524.3, 24.33),
    (7770.0, 19.97),
    (8016.2, 16.17),
    (8263.7, 13.66),
    (8511.4, 11.38),
    (8758.5, 8.52),
    (9006.9, 6.89),
    (9255.5, 5.49),
    (9504.1, 4.08),
    (9752.7, 2.67),
    (10250.0, 0.04),
];

/// Keys, seen and forgotten but for how many they were.
#[derive(Debug, Clone)]
pub(super) struct Sketch(Vec<u8>);

impl Sketch {
    pub(super) fn new() -> Self {
        Self(vec![0; REGISTERS])
    }

    pub(super) fn insert(&mut self, key: &Value) {
        let hash = Sha1::digest(terms::external(key));
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        let head = u64::from_be_bytes(head);
        let index = head >> (64 - PRECISION);
        // The guard bit ends the run of zeros with the hash.
        let zeros = (head << PRECISION | 1 << (PRECISION - 1)).leading_zeros();
        if let Some(register) = usize::try_from(index).ok().and_then(|index| self.0.get_mut(index)) {
            *register = (*register).max(u8::try_from(zeros + 1).unwrap_or(u8::MAX));
        }
    }

    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        for (register, other) in self.0.iter_mut().zip(&other.0) {
            *register = (*register).max(*other);
        }
        self
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(super) fn count(&self) -> u64 {
        let registers = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|register| (-f64::from(*register)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let estimate = if raw <= 5.0 * registers { raw - bias(raw) } else { raw };
        let empty = self.0.iter().filter(|register| **register == 0).count();
        let by_empty = if empty == 0 { estimate } else { registers * (registers / empty as f64).ln() };
        (if by_empty <= COUNTED_BY_EMPTY { by_empty } else { estimate }).round() as u64
    }
}

fn bias(raw: f64) -> f64 {
    let after = BIAS.iter().position(|(at, _)| *at >= raw).unwrap_or(BIAS.len() - 1).max(1);
    let ((low, at_low), (high, at_high)) = (BIAS[after - 1], BIAS[after]);
    at_low + (at_high - at_low) * ((raw - low) / (high - low)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(keys: impl Iterator<Item = Value>) -> u64 {
        let mut sketch = Sketch::new();
        keys.for_each(|key| sketch.insert(&key));
        sketch.count()
    }

    /// How many of the first so many keys CouchDB 3.5.0 thought different.
    fn check(recorded: &[(u32, u64)], key: impl Fn(u32) -> Value) {
        for (many, theirs) in recorded {
            let ours = count((0..*many).map(&key));
            // Where CouchDB corrects its estimate by a table, the answers are near each other and no more.
            let slack = if (1800..=10_500).contains(theirs) { theirs / 200 } else { 0 };
            assert!(ours.abs_diff(*theirs) <= slack, "{many} keys: {ours} here, {theirs} there");
        }
    }

    #[test]
    fn answers_are_those_of_couchdb() {
        let few = |rest: &[(u32, u64)]| [&[(1, 1), (10, 10)][..], rest].concat();
        let whole =
            [(100, 99), (1000, 1005), (1700, 1739), (3000, 2927), (5000, 4944), (12_000, 11_914), (20_000, 20_499)];
        check(&few(&whole), |i| json!(i));
        let text = [(100, 100), (1000, 985), (1700, 1718), (2500, 2537), (4000, 4076), (9000, 8939), (20_000, 20_414)];
        check(&few(&text), |i| json!(format!("web{i}")));
        let arrays =
            [(100, 103), (1000, 1014), (1700, 1704), (2000, 2021), (7000, 7060), (12_000, 11_791), (20_000, 19_601)];
        check(&few(&arrays), |i| json!([i, format!("x{}", i % 7)]));
        let floats = [(1000, 982), (1700, 1641), (20_000, 20_520)];
        check(&few(&floats), |i| if i % 8 == 0 { json!(i / 8) } else { json!(f64::from(i) / 8.0) });
        let objects = [(1000, 1010), (1700, 1693), (20_000, 21_025)];
        check(&few(&objects), |i| json!({"a": i, "b": [i % 3 == 0, null]}));
        let lists_of_bytes = [(100, 97), (1000, 1006), (1700, 1675), (5000, 3163), (20_000, 3163)];
        check(&few(&lists_of_bytes), |i| json!([i % 250, i % 13]));
        let large = [(100, 101), (1000, 998), (1700, 1749), (20_000, 20_469)];
        check(&few(&large), |i| json!(i64::from(i) * -1_000_003));
    }

    #[test]
    fn two_sketches_are_as_one() {
        let sketch = |range: std::ops::Range<u32>| {
            let mut sketch = Sketch::new();
            range.for_each(|i| sketch.insert(&json!(i)));
            sketch
        };
        assert_eq!(sketch(0..600).and(&sketch(400..1000)).count(), sketch(0..1000).count());
    }
}
