//! What makes a history unfit to be judged.

use super::told::recount;
use crate::history::{History, Phase, Record};

pub(super) fn end_missing(history: &mut History) -> bool {
    history.records.pop().is_some()
}

pub(super) fn line_lost(history: &mut History) -> bool {
    let middle = history.records.len() / 2;
    history.records.remove(middle);
    true
}

pub(super) fn fault_unproved(history: &mut History) -> bool {
    history.records.iter_mut().any(|record| match record {
        Record::Fault(fault) if fault.phase == Phase::End => fault.proof.take().is_some(),
        _ => false,
    })
}

pub(super) fn token_of_two(history: &mut History) -> bool {
    let mut first = None;
    history.records.iter_mut().any(|record| match record {
        Record::Op(operation) if operation.token.is_some() => match &first {
            None => {
                first.clone_from(&operation.token);
                false
            }
            Some(_) => {
                operation.token.clone_from(&first);
                true
            }
        },
        _ => false,
    })
}

pub(super) fn client_of_two(history: &mut History) -> bool {
    // Everybody is one client.
    for record in &mut history.records {
        if let Record::Op(operation) = record {
            operation.client = 1;
        }
    }
    true
}

pub(super) fn nobody_watched(history: &mut History) -> bool {
    history
        .records
        .retain(|record| !matches!(record, Record::Watch(_)));
    recount(history);
    true
}

pub(super) fn nobody_read_at_end(history: &mut History) -> bool {
    history
        .records
        .retain(|record| !matches!(record, Record::Final(_)));
    recount(history);
    true
}

pub(super) fn unknown_returned(history: &mut History) -> bool {
    history.records.iter_mut().any(|record| match record {
        Record::Op(operation) if operation.unknown() => {
            operation.return_ns = Some(operation.call_ns);
            true
        }
        _ => false,
    })
}
