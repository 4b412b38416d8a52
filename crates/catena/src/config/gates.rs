//! etcd's feature gates.

use std::collections::BTreeMap;

use super::{
    flags::{self, Treatment},
    syntax,
    values::Values,
};

/// A feature gate of etcd 3.7.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    /// Its state in etcd when nobody sets it.
    pub(crate) default: bool,
    /// What setting it otherwise does here.
    pub(crate) treatment: Treatment,
    alpha: bool,
}

const ALPHA: bool = true;
const BETA: bool = false;

const fn gate(name: &'static str, alpha: bool, treatment: Treatment) -> Gate {
    Gate {
        name,
        default: !alpha,
        treatment,
        alpha,
    }
}

/// All gates, in the order of etcd's help.
pub(crate) static GATES: [Gate; 9] = [
    gate(
        "CompactHashCheck",
        ALPHA,
        Treatment::Refused("corruption checks are not built yet"),
    ),
    gate(
        "FastLeaseKeepAlive",
        BETA,
        Treatment::Tuning("keepalives never wait for apply"),
    ),
    gate(
        "InitialCorruptCheck",
        ALPHA,
        Treatment::Refused("corruption checks are not built yet"),
    ),
    gate(
        "LeaseCheckpoint",
        ALPHA,
        Treatment::Tuning("remaining TTLs are always recorded"),
    ),
    gate(
        "LeaseCheckpointPersist",
        ALPHA,
        Treatment::Tuning("remaining TTLs are always kept"),
    ),
    gate(
        "PriorityRequest",
        ALPHA,
        Treatment::Tuning("proposals have one queue"),
    ),
    gate(
        "SetMemberLocalAddr",
        ALPHA,
        Treatment::Refused("peer connections are not bound to an address"),
    ),
    gate(
        "StopGRPCServiceOnDefrag",
        ALPHA,
        Treatment::Tuning("defragmenting stops nobody"),
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        BETA,
        Treatment::Tuning("reads never block writes"),
    ),
];

/// Reads `Name=bool,…`. The error is etcd's.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<&'static str, bool>, String> {
    let mut given = BTreeMap::new();
    for element in text.split(',').filter(|element| !element.is_empty()) {
        let (name, value) = match element.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => return Err(format!("missing bool value for {}", element.trim())),
        };
        let value = syntax::bool_of(value).ok_or_else(|| {
            format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing \"{value}\": invalid syntax"
            )
        })?;
        match name {
            "AllAlpha" => all(&mut given, ALPHA, value),
            "AllBeta" => all(&mut given, BETA, value),
            _ => {
                let gate = GATES.iter().find(|gate| gate.name == name);
                let gate = gate.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
                given.insert(gate.name, value);
            }
        }
    }
    Ok(given)
}

/// Sets all gates of a stage that are not set by name.
fn all(given: &mut BTreeMap<&'static str, bool>, alpha: bool, value: bool) {
    for gate in GATES.iter().filter(|gate| gate.alpha == alpha) {
        given.entry(gate.name).or_insert(value);
    }
}

/// The state of every gate: what `--feature-gates` says, then the flags that became gates, then etcd's defaults.
pub(crate) fn states(values: &Values) -> BTreeMap<&'static str, bool> {
    let mut states = parse(values.text("feature-gates")).expect("checked when it was set");
    for flag in flags::all() {
        if let Treatment::Gate(name) = flag.treatment
            && values.is_set(flag.name)
        {
            states.entry(name).or_insert(values.bool(flag.name));
        }
    }
    for gate in &GATES {
        states.entry(gate.name).or_insert(gate.default);
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_wrong_ones_named() {
        let given = parse("LeaseCheckpoint=true, FastLeaseKeepAlive=false").unwrap();
        let expected = [("FastLeaseKeepAlive", false), ("LeaseCheckpoint", true)];
        assert_eq!(given, BTreeMap::from(expected));
        assert_eq!(
            parse("Foo=true").unwrap_err(),
            "unrecognized feature gate: Foo"
        );
        assert_eq!(
            parse("LeaseCheckpoint").unwrap_err(),
            "missing bool value for LeaseCheckpoint"
        );
        let error = parse("LeaseCheckpoint=x").unwrap_err();
        assert!(error.contains("invalid value of"), "{error}");
    }

    #[test]
    fn a_gate_set_by_name_wins_over_its_stage() {
        // The stage may come first or last.
        for text in [
            "CompactHashCheck=false,AllAlpha=true",
            "AllAlpha=true,CompactHashCheck=false",
        ] {
            let given = parse(text).unwrap();
            assert!(!given["CompactHashCheck"], "{text}");
            assert!(given["InitialCorruptCheck"], "{text}");
            assert!(!given.contains_key("FastLeaseKeepAlive"), "{text}");
        }
    }
}
