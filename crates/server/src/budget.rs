//! Bytes that all clients together may make a member hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A number of bytes, of which shares are lent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// Bytes lent; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            used: Arc::default(),
            max,
        }
    }

    /// An empty share.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// Makes the share one of `bytes`; false if that is more than there is. Whoever has the budget alone may exceed it: what one
    /// client may ask for has limits of its own.
    #[must_use]
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let used = &self.budget.used;
        if bytes <= self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return true;
        }
        let more = bytes - self.bytes;
        let before = used.fetch_add(more, Ordering::Relaxed);
        let alone = before == self.bytes;
        if alone || before.saturating_add(more) <= self.budget.max {
            self.bytes = bytes;
            return true;
        }
        used.fetch_sub(more, Ordering::Relaxed);
        false
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _shrinking_cannot_fail = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_end_where_the_budget_does() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.resize(60) && !b.resize(50) && b.resize(40));
        assert!(!a.resize(61));
        drop(b);
        assert!(a.resize(1000), "alone, and so not refused");
        assert!(!budget.share().resize(1));
        assert!(a.resize(0) && budget.share().resize(100));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
