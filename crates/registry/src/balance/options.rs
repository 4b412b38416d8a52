//! What can be set, with the defaults.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use crate::{Scheme, ServiceSettings};

/// How the instance of a call is chosen among those that may take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// The cheaper of two random ones, by a peak-sensitive latency average times the calls in flight.
    #[default]
    P2cEwma,
    /// Smooth weighted round robin.
    Wrr,
    /// Round robin without weights.
    Rr,
    /// At random, by weight.
    Random,
    /// The one of two random ones with fewer calls in flight for its weight.
    LeastRequest,
    /// A consistent hash of the call's key, with bounded load.
    Ring,
    /// A consistent hash of the call's key by a table: the most even one, for keys whose load is even.
    Maglev,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::P2cEwma,
        Self::Wrr,
        Self::Rr,
        Self::Random,
        Self::LeastRequest,
        Self::Ring,
        Self::Maglev,
    ];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::P2cEwma => "p2c-ewma",
            Self::Wrr => "wrr",
            Self::Rr => "rr",
            Self::Random => "random",
            Self::LeastRequest => "least-request",
            Self::Ring => "ring",
            Self::Maglev => "maglev",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = String;

    /// Takes a [`name`](Self::name); the error names all of them.
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("balancing algorithm {name:?} is none of {names}")
        })
    }
}

/// How calls are spread over the instances of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The rule: `p2c-ewma`.
    pub algorithm: Algorithm,
    /// The schemes that the caller speaks: `grpc`.
    pub schemes: Vec<Scheme>,
    /// What an instance's metadata must say for any call: nothing.
    pub labels: BTreeMap<String, String>,
    /// The caller's zone: none. With one, instances of the same zone come first.
    pub zone: Option<String>,
    /// How many instances a caller uses that has a slot among the callers: 25, which carry one caller's load in most fleets.
    pub subset: usize,
    /// The caller's slot: none. Without one it uses all instances.
    pub slot: Option<u64>,
    /// For how long a new instance gets less than its share: 30 seconds; 0 turns it off.
    pub slow_start: Duration,
    /// Below this fraction of healthy instances, ejections are ignored: 0.5; 0 turns it off.
    pub panic_threshold: f64,
    /// When calls' outcomes put an instance aside; `None` turns it off.
    pub ejection: Option<EjectionOptions>,
    /// The time constant of the latency average: 10 seconds.
    pub ewma_tau: Duration,
    /// How far above its share of the calls in flight an instance of the ring may go, as a factor: 1.25.
    pub ring_load: f64,
    /// What makes this caller's jitter its own.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            schemes: vec![Scheme::Grpc],
            labels: BTreeMap::new(),
            zone: None,
            subset: 25,
            slot: None,
            slow_start: Duration::from_secs(30),
            panic_threshold: 0.5,
            ejection: Some(EjectionOptions::default()),
            ewma_tau: Duration::from_secs(10),
            ring_load: 1.25,
            seed: 0,
        }
    }
}

impl Options {
    /// These options with what the service's operators have set instead. A setting that cannot be is left out, and told.
    pub fn overlaid(&self, settings: &ServiceSettings) -> (Self, Result<(), String>) {
        let mut options = self.clone();
        let mut told = Ok(());
        match settings.lb.as_deref().map(str::parse) {
            Some(Ok(algorithm)) => options.algorithm = algorithm,
            Some(Err(error)) => told = Err(error),
            None => {}
        }
        match settings.panic_threshold {
            Some(threshold) if (0.0..=1.0).contains(&threshold) => {
                options.panic_threshold = threshold;
            }
            Some(threshold) => told = Err(format!("panic threshold {threshold} is not 0 to 1")),
            None => {}
        }
        options.subset = settings.subset.unwrap_or(options.subset);
        options.labels.extend(settings.labels.clone());
        (options, told)
    }
}

/// When failing calls put an instance aside, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EjectionOptions {
    /// That many failures without a success between them: 5.
    pub failures_in_row: u32,
    /// Or a fraction of successes below this: 0.85 …
    pub success_min: f64,
    /// … of at least that many calls: 20 …
    pub calls_min: u32,
    /// The first time aside; each further one doubles it: 1 second.
    pub base: Duration,
    /// The longest time aside, and the time in service after which former ejections are forgotten: 60 seconds.
    pub max: Duration,
    /// By which fraction the time varies, in both directions, so that callers do not come back together: 0.5.
    pub jitter: f64,
}

impl Default for EjectionOptions {
    fn default() -> Self {
        Self {
            failures_in_row: 5,
            success_min: 0.85,
            calls_min: 20,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_and_bad_ones_are_told() {
        let options = Options::default();
        let mut settings = ServiceSettings {
            panic_threshold: Some(0.2),
            lb: Some("ring".to_owned()),
            subset: Some(5),
            ..ServiceSettings::default()
        };
        let (overlaid, told) = options.overlaid(&settings);
        assert_eq!(told, Ok(()));
        assert_eq!(overlaid.algorithm, Algorithm::Ring);
        assert_eq!(overlaid.panic_threshold, 0.2);
        assert_eq!(overlaid.subset, 5);
        settings.panic_threshold = Some(f64::NAN);
        settings.lb = Some("best".to_owned());
        let (overlaid, told) = options.overlaid(&settings);
        assert!(told.is_err());
        assert_eq!(overlaid.algorithm, Algorithm::P2cEwma);
        assert_eq!(overlaid.panic_threshold, 0.5);
    }

    #[test]
    fn algorithm_names_round_trip() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        let error = "p2c".parse::<Algorithm>().unwrap_err();
        assert!(
            error.contains("p2c-ewma") && error.contains("maglev"),
            "{error}"
        );
    }
}
