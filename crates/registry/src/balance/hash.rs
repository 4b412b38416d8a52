//! The hash of keys and of instances.
//!
//! It is part of what callers must agree on, for only then do all of them send one key to one instance; so it is written out here
//! and fixed by a test: FNV-1a over the bytes, then the finisher of splitmix64, without which FNV's high bits would hardly differ
//! between short keys.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of `bytes`.
pub fn of(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    });
    mix(fnv)
}

/// Spreads every bit of `value` over the whole word.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `value` as a fraction in [0, 1).
pub(super) fn fraction(value: u64) -> f64 {
    // The 53 bits that a float holds exactly.
    (value >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_what_other_callers_compute() {
        assert_eq!(of(b""), mix(FNV_OFFSET));
        // Computed once and written down: a change of it moves every key.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_ne!(of(b"a"), of(b"b"));
    }

    #[test]
    fn fraction_stays_below_one() {
        assert_eq!(fraction(0), 0.0);
        assert!(fraction(u64::MAX) < 1.0);
    }
}
