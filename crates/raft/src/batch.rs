//! The batch of commands in an entry.
//!
//! ```text
//! format: u8 │ run: u64 │ seq: u64 │ count: u32 │ count × (len: u32 │ command)      (integers little endian)
//! ```
//!
//! `run` and `seq` are the ticket that the batch was proposed under: `run` is drawn when a member starts, `seq` counts its batches.
//! The member that finds its own `run` in an applied batch answers those who wait for it. So an answer never crosses the network,
//! and a proposal that was forwarded is answered even if the leader that took it is gone.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use catena_store::{Command, codec::Malformed};

use crate::types::Commands;

/// Format written today. A reader refuses every other.
const FORMAT: u8 = 1;

/// Bytes before the first command.
pub(crate) const HEAD_BYTES: usize = 1 + 8 + 8 + 4;

/// Commands for which memory is reserved before they are read.
const COUNT_TRUSTED: usize = 1024;

/// Bytes that a command takes besides its own.
pub(crate) const COMMAND_HEAD_BYTES: usize = 4;

/// Names a batch: which run of which member proposed it, and the how manieth it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    /// Drawn when the member started.
    pub(crate) run: u64,
    /// Counts the batches of the run.
    pub(crate) seq: u64,
}

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBatch {
    /// Too short for what it claims to hold.
    #[error("batch ends early")]
    Short,
    /// Written by another version.
    #[error("batch has format {0}, this version reads format {FORMAT}")]
    Format(u8),
    /// Something follows the last command.
    #[error("batch is followed by {0} more bytes")]
    Trailing(usize),
    /// A command in it.
    #[error("command in batch: {0}")]
    Command(#[from] Malformed),
}

/// Puts encoded commands into one batch.
pub(crate) fn encode<'a>(
    ticket: Ticket,
    commands: impl Iterator<Item = &'a Bytes> + Clone,
) -> Commands {
    let (count, bytes) = commands.clone().fold((0, 0), |(count, bytes), command| {
        (count + 1, bytes + command.len())
    });
    let mut out = BytesMut::with_capacity(HEAD_BYTES + count * COMMAND_HEAD_BYTES + bytes);
    out.put_u8(FORMAT);
    out.put_u64_le(ticket.run);
    out.put_u64_le(ticket.seq);
    out.put_u32_le(count as u32);
    for command in commands {
        out.put_u32_le(command.len() as u32);
        out.put_slice(command);
    }
    Commands(out.freeze())
}

/// Reads the head: the ticket and the number of commands.
pub(crate) fn head(batch: &Commands) -> Result<(Ticket, usize), BadBatch> {
    let mut bytes = batch.0.as_ref();
    if bytes.len() < HEAD_BYTES {
        return Err(BadBatch::Short);
    }
    let format = bytes.get_u8();
    if format != FORMAT {
        return Err(BadBatch::Format(format));
    }
    let ticket = Ticket {
        run: bytes.get_u64_le(),
        seq: bytes.get_u64_le(),
    };
    let count = bytes.get_u32_le() as usize;
    if count.saturating_mul(COMMAND_HEAD_BYTES) > bytes.len() {
        return Err(BadBatch::Short);
    }
    Ok((ticket, count))
}

/// Reads the whole batch.
pub(crate) fn decode(batch: &Commands) -> Result<(Ticket, Vec<Command>), BadBatch> {
    let (ticket, count) = head(batch)?;
    let mut bytes = batch.0.slice(HEAD_BYTES..);
    // A command takes far more memory than its head on the wire, so a claim alone reserves little.
    let mut commands = Vec::with_capacity(count.min(COUNT_TRUSTED));
    for _ in 0..count {
        if bytes.len() < COMMAND_HEAD_BYTES {
            return Err(BadBatch::Short);
        }
        let len = bytes.get_u32_le() as usize;
        if bytes.len() < len {
            return Err(BadBatch::Short);
        }
        commands.push(Command::decode(&bytes.split_to(len))?);
    }
    match bytes.len() {
        0 => Ok((ticket, commands)),
        left => Err(BadBatch::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use catena_store::Request;

    use super::*;

    const TICKET: Ticket = Ticket { run: 7, seq: 9 };

    fn commands() -> Vec<Command> {
        ["1.0.0", "2.0.0", "3.0.0"]
            .map(|version| Command::internal(Request::ClusterVersion(version.to_owned())))
            .to_vec()
    }

    fn batch() -> Commands {
        let encoded: Vec<Bytes> = commands().iter().map(Command::encode).collect();
        encode(TICKET, encoded.iter())
    }

    #[test]
    fn comes_back_as_written() {
        let (ticket, decoded) = decode(&batch()).unwrap();
        assert_eq!((ticket, decoded), (TICKET, commands()));
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = batch();
        for len in 0..whole.0.len() {
            assert!(decode(&Commands(whole.0.slice(..len))).is_err(), "{len}");
        }
    }

    #[test]
    fn a_flipped_bit_panics_nowhere() {
        let whole = batch();
        for at in 0..whole.0.len() * 8 {
            let mut bytes = whole.0.to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let _either = decode(&Commands(bytes.into()));
        }
    }

    #[test]
    fn bytes_behind_the_batch_are_refused() {
        let mut bytes = batch().0.to_vec();
        bytes.push(0);
        assert!(matches!(
            decode(&Commands(bytes.into())),
            Err(BadBatch::Trailing(1))
        ));
    }
}
