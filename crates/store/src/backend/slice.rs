//! Reading a view piece by piece, so that a long walk holds nothing between two pieces.

use bytes::Bytes;

use super::{Bucket, View, Visit};
use crate::error::Fatal;

/// Where a walk over all buckets, in their order, stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    bucket: usize,
    from: Vec<u8>,
}

/// Pairs of one bucket, ascending.
pub(super) type Slice = (Bucket, Vec<(Bytes, Bytes)>);

impl Cursor {
    /// The next pairs, of one bucket and about `bytes_max` bytes (more if a single pair is larger); none at the end.
    ///
    /// Each call may read another view: the cursor remembers a key, not a place in the engine.
    pub(super) fn next(
        &mut self,
        view: &dyn View,
        bytes_max: usize,
    ) -> Result<Option<Slice>, Fatal> {
        while let Some(&bucket) = Bucket::ALL.get(self.bucket) {
            let mut pairs = Vec::new();
            let mut bytes = 0;
            view.scan(bucket, &self.from, None, &mut |key, value| {
                pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                bytes += key.len() + value.len();
                if bytes < bytes_max {
                    Visit::Continue
                } else {
                    Visit::Stop
                }
            })?;
            self.from.clear();
            match pairs.last() {
                Some((last, _)) if bytes >= bytes_max => {
                    self.from.extend_from_slice(last);
                    // The smallest key after it.
                    self.from.push(0);
                }
                // The bucket's end. Going on to the next one at once, and not after looking again, keeps the walk from chasing a
                // writer that appends.
                _ => self.bucket += 1,
            }
            if !pairs.is_empty() {
                return Ok(Some((bucket, pairs)));
            }
        }
        Ok(None)
    }

    /// Whether the walk has passed the place where this key is or would be.
    pub(super) fn has_passed(&self, bucket: Bucket, key: &[u8]) -> bool {
        let place = (usize::from(bucket.tag()), key);
        place < (self.bucket, &self.from[..])
    }
}
