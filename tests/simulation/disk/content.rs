//! One file: what a reader sees, what is on the platter, and what lies between.

use super::Crash;
use crate::world::{Chance, Event, covered};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                if content.len() < offset + data.len() {
                    content.resize(offset + data.len(), 0);
                }
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// What a torn write leaves.
    fn tear(&mut self, chance: &Chance) {
        if let Self::Write { data, .. } = self {
            let left = chance.below(data.len() as u64 + 1) as usize;
            if (1..data.len()).contains(&left) {
                covered(Event::TornWrite);
            }
            data.truncate(left);
        }
    }

    /// Its parts by sector.
    fn sectors(self) -> Vec<Self> {
        let Self::Write { mut offset, data } = self else {
            return vec![self];
        };
        let mut sectors = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let fits = SECTOR_BYTES - offset % SECTOR_BYTES;
            let (sector, behind) = rest.split_at(fits.min(rest.len()));
            sectors.push(Self::Write {
                offset,
                data: sector.to_vec(),
            });
            offset += sector.len();
            rest = behind;
        }
        sectors
    }
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pending: Vec<Change>,
    pub(super) locked: bool,
}

impl Content {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Whether readers see nothing but what is on the platter.
    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    /// For the trace: what a sync has before it.
    pub(super) fn told(&self) -> String {
        let bytes = self.pending.iter().map(|change| match change {
            Change::Write { data, .. } => data.len(),
            Change::SetLen(_) => 0,
        });
        format!(
            "{} bytes in {} changes",
            bytes.sum::<usize>(),
            self.pending.len()
        )
    }

    /// Brings all to the platter.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Keeps what such a crash keeps.
    pub(super) fn crash(&mut self, crash: Crash, chance: &Chance) {
        self.locked = false;
        match crash {
            Crash::Kill => return,
            Crash::Power => {
                let keep = chance.below(self.pending.len() as u64 + 1) as usize;
                if keep < self.pending.len() {
                    covered(Event::UnsyncedLost);
                }
                self.pending.truncate(keep);
                if let Some(last) = self.pending.last_mut() {
                    last.tear(chance);
                }
                self.sync();
            }
            Crash::Reordered => {
                let pending = self.pending.drain(..).flat_map(Change::sectors);
                let pending: Vec<_> = pending.map(|change| (change, chance.once_in(2))).collect();
                // One that is kept behind one that is not.
                if pending.windows(2).any(|two| !two[0].1 && two[1].1) {
                    covered(Event::SectorsReordered);
                }
                let kept = pending.into_iter().filter(|(_, kept)| *kept);
                self.pending = kept.map(|(change, _)| change).collect();
                self.sync();
            }
        }
        self.current.clone_from(&self.durable);
    }

    /// What is on the platter, as a file of its own.
    pub(super) fn image(&self) -> Self {
        Self {
            current: self.durable.clone(),
            durable: self.durable.clone(),
            ..Self::default()
        }
    }

    /// What a failed sync does: readers see the changes, and no platter ever will.
    pub(super) fn lose(&mut self) {
        self.pending.clear();
    }
}
