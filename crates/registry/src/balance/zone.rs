//! How much of the traffic stays in the caller's zone.

/// A zone carries all of its callers' traffic as long as that many times its healthy fraction reaches 1: it stays local until
/// more than two of seven are gone.
const OVERPROVISION: f64 = 1.4;

/// The fraction of calls that stays in a zone with `healthy` of `all` instances.
pub(super) fn local_share(healthy: usize, all: usize) -> f64 {
    if all == 0 {
        return 0.0;
    }
    (healthy as f64 / all as f64 * OVERPROVISION).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_falls_once_the_reserve_is_used_up() {
        assert_eq!(local_share(0, 0), 0.0);
        assert_eq!(local_share(10, 10), 1.0);
        assert_eq!(local_share(8, 10), 1.0);
        assert!((local_share(5, 10) - 0.7).abs() < 1e-9);
        assert_eq!(local_share(0, 10), 0.0);
    }
}
