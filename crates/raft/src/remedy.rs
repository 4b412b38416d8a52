//! What an operator can do about a member that does not start or cannot go on.
//!
//! An error says what is wrong and where. What to run next depends on more than the layer that found it knows (the member's name,
//! who else is there, where a snapshot goes), so an error only says which kind of help there is, and the binary turns that into
//! commands.

use std::io;

use catena_store::{Fatal, codec::Malformed};
use catena_wal::Error as WalError;

use crate::batch::BadBatch;

/// The kinds of help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Something that this member acknowledged is gone or cannot be told from damage: the member must be removed from its cluster and
    /// added again without data. A cluster of one member: restore a snapshot.
    Replace,
    /// The file system is full: with some room the member goes on where it stopped.
    FreeSpace,
    /// The disk refused: once it works, the member goes on where it stopped.
    CheckDisk,
    /// Another process uses the data directory.
    StopOther,
    /// The data directory is that of another member, or of another cluster.
    OtherDirectory,
    /// The data directory was written by a version that this one cannot read.
    OtherVersion,
    /// What the error says.
    AsSaid,
}

impl Remedy {
    /// For an error of the system.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::FreeSpace,
            _ => Self::CheckDisk,
        }
    }

    /// For an error of the log.
    pub(crate) fn of_wal(error: &WalError) -> Self {
        match error {
            WalError::Io { source, .. } => Self::of_io(source),
            WalError::Damaged { .. } => Self::Replace,
            WalError::Format { .. } => Self::OtherVersion,
            WalError::Locked { .. } => Self::StopOther,
            WalError::Invalid { .. } | WalError::Closed => Self::AsSaid,
        }
    }

    /// For an error of the applied state.
    pub(crate) fn of_store(error: &Fatal) -> Self {
        match error {
            Fatal::Io { error, .. } => Self::of_io(error),
            Fatal::Record { error, .. } => Self::of_record(error),
            Fatal::Damaged { .. } | Fatal::Key { .. } | Fatal::Lost { .. } => Self::Replace,
            Fatal::Locked { .. } => Self::StopOther,
            Fatal::Format { .. } => Self::OtherVersion,
            Fatal::Engine(_) | Fatal::Order { .. } => Self::AsSaid,
        }
    }

    /// For the commands of an entry.
    pub(crate) fn of_batch(error: &BadBatch) -> Self {
        match error {
            BadBatch::Format(_) => Self::OtherVersion,
            BadBatch::Command(error) => Self::of_record(error),
            BadBatch::Short | BadBatch::Trailing(_) => Self::Replace,
        }
    }

    fn of_record(error: &Malformed) -> Self {
        match error {
            Malformed::Format(_) => Self::OtherVersion,
            Malformed::Empty
            | Malformed::Record(_)
            | Malformed::Trailing(_)
            | Malformed::Message(_) => Self::Replace,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Arc};

    use super::*;

    fn of_kind(kind: io::ErrorKind) -> Remedy {
        let (path, source) = (PathBuf::from("log"), Arc::new(kind.into()));
        let action = "write";
        Remedy::of_wal(&WalError::Io {
            action,
            path,
            source,
        })
    }

    #[test]
    fn damage_wants_a_new_member_and_a_full_disk_only_room() {
        assert_eq!(of_kind(io::ErrorKind::StorageFull), Remedy::FreeSpace);
        assert_eq!(of_kind(io::ErrorKind::QuotaExceeded), Remedy::FreeSpace);
        assert_eq!(of_kind(io::ErrorKind::Other), Remedy::CheckDisk);
        let damaged = Fatal::Damaged {
            path: "db".into(),
            what: "torn".to_owned(),
        };
        assert_eq!(Remedy::of_store(&damaged), Remedy::Replace);
        assert_eq!(
            Remedy::of_store(&Fatal::Lost { main: 3, sub: 0 }),
            Remedy::Replace
        );
    }

    #[test]
    fn what_a_newer_version_wrote_is_not_damage() {
        assert_eq!(Remedy::of_batch(&BadBatch::Format(9)), Remedy::OtherVersion);
        let newer = BadBatch::Command(Malformed::Format(9));
        assert_eq!(Remedy::of_batch(&newer), Remedy::OtherVersion);
        assert_eq!(Remedy::of_batch(&BadBatch::Short), Remedy::Replace);
    }
}
