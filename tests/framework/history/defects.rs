//! What makes a history unfit to be judged.

use std::collections::{BTreeMap, BTreeSet};

use super::{End, History, Meta, Operation, Outcome, Phase, Record, WatchEvent};

impl History {
    /// What makes it unfit to be judged: a missing end, a lost line, an operation that contradicts itself, a fault without proof.
    /// Empty for a sound history.
    pub fn defects(&self) -> Vec<String> {
        let mut defects = Vec::new();
        frame(self, &mut defects);
        operations(self, &mut defects);
        watches(self, &mut defects);
        faults(self, &mut defects);
        finals(self, &mut defects);
        defects
    }
}

fn frame(history: &History, defects: &mut Vec<String>) {
    match history.records.first() {
        Some(Record::Meta(Meta { v: 1, .. })) => {}
        Some(Record::Meta(meta)) => defects.push(format!("format version {}", meta.v)),
        _ => defects.push("the first line is not `meta`".to_owned()),
    }
    let Some(Record::End(end)) = history.records.last() else {
        defects.push("the last line is not `end`: the file is cut short".to_owned());
        return;
    };
    let counted = End {
        ns: end.ns,
        lines: history.records.len() as u64,
        ops: history.operations().count() as u64,
        unknown: history.operations().filter(|op| op.unknown()).count() as u64,
    };
    if counted != *end {
        defects.push(format!(
            "lines are missing: counted {counted:?}, told {end:?}"
        ));
    }
}

fn operations(history: &History, defects: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    let mut by_client: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        if !ids.insert(operation.id) {
            defects.push(format!("operation {} is there twice", operation.id));
        }
        if let Some(token) = &operation.token
            && !tokens.insert(token)
        {
            defects.push(format!("token {token:?} belongs to two operations"));
        }
        defects.extend(contradiction(operation));
        by_client
            .entry(operation.client)
            .or_default()
            .push(operation);
    }
    for (client, mut operations) in by_client {
        operations.sort_by_key(|operation| (operation.call_ns, operation.id));
        for pair in operations.windows(2) {
            if pair[0].return_ns.is_none_or(|end| end > pair[1].call_ns) {
                let (one, other) = (pair[0].id, pair[1].id);
                defects.push(format!(
                    "client {client} called {other} before {one} had returned"
                ));
            }
        }
    }
}

fn contradiction(operation: &Operation) -> Option<String> {
    let id = operation.id;
    match (&operation.outcome, operation.return_ns) {
        (Outcome::Unknown(_), Some(_)) => Some(format!("operation {id} is unknown but returned")),
        (Outcome::Ok(_) | Outcome::Fail(_), None) => {
            Some(format!("operation {id} is known but did not return"))
        }
        (Outcome::Ok(_) | Outcome::Fail(_), Some(end)) if end < operation.call_ns => {
            Some(format!("operation {id} returned before it was called"))
        }
        (Outcome::Ok(answer), _)
            if operation.args.can_write() && answer.header.revision.is_none() =>
        {
            Some(format!("operation {id} wrote and has no revision"))
        }
        (Outcome::Ok(_) | Outcome::Fail(_) | Outcome::Unknown(_), _) => None,
    }
}

fn watches(history: &History, defects: &mut Vec<String>) {
    let mut begun = BTreeSet::new();
    for watch in history.watches() {
        let creates = matches!(watch.event, WatchEvent::Create { .. });
        if creates != begun.insert(watch.watch) {
            defects.push(format!(
                "watch {} does not start with one create",
                watch.watch
            ));
        }
    }
}

fn faults(history: &History, defects: &mut Vec<String>) {
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in history.faults() {
        let count = open.entry(&fault.name).or_default();
        match (fault.phase, &fault.proof) {
            (Phase::Start, _) => *count += 1,
            (Phase::End, _) if *count == 0 => {
                defects.push(format!("fault {} ends and never began", fault.name));
            }
            (Phase::End, proof) => {
                *count -= 1;
                if proof.is_none() {
                    defects.push(format!("fault {} is not proved", fault.name));
                }
            }
        }
    }
    let unended = open.into_iter().filter(|(_, count)| *count > 0);
    defects.extend(unended.map(|(name, _)| format!("fault {name} did not end")));
}

fn finals(history: &History, defects: &mut Vec<String>) {
    let mut members = BTreeSet::new();
    for last in history.finals() {
        if !members.insert(last.member) {
            defects.push(format!("member {:x} is read twice at the end", last.member));
        }
    }
    if members.is_empty() {
        defects.push("no member was read at the end".to_owned());
    }
}
