//! The command line: what every suite takes, and which seeds run.

use std::{ffi::OsString, sync::OnceLock};

use libtest_mimic::Arguments;

/// What is said about our own arguments.
const USAGE: &str = "\
the simulation takes these besides the arguments of every test binary:
  --seeds N   runs N seeds instead of as many as each test has
  --from S    … from S on
  --seed S    runs one seed
  --trace     prints the trace of each run, one line an event
  --twice     runs every seed twice and compares the traces
without a test's name, these concern `everything_holds` alone";

/// Which test is meant if seeds are asked for and no test is named.
const MAIN_TEST: &str = "everything_holds";

/// Which seeds run, and what is shown of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seeds: Option<u64>,
    pub(crate) from: u64,
    pub(crate) trace: bool,
    pub(crate) twice: bool,
}

impl Options {
    /// Takes our own arguments out of all.
    fn parse(args: impl IntoIterator<Item = String>) -> Result<(Self, Vec<String>), String> {
        let (mut options, mut others) = (Self::default(), Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let (name, mut inline) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut number = || {
                let value = inline.take().or_else(|| args.next()).unwrap_or_default();
                let parsed = value.parse::<u64>();
                parsed.map_err(|_| format!("{name} takes a number, not {value:?}\n{USAGE}"))
            };
            match name {
                "--seeds" => options.seeds = Some(number()?),
                "--from" => options.from = number()?,
                "--seed" => (options.from, options.seeds) = (number()?, Some(1)),
                "--trace" => options.trace = true,
                "--twice" => options.twice = true,
                _ => others.push(arg),
            }
        }
        Ok((options, others))
    }

    fn is_about_seeds(&self) -> bool {
        *self != Self::default()
    }
}

static OPTIONS: OnceLock<Options> = OnceLock::new();

/// Those of this process.
pub(super) fn options() -> &'static Options {
    OPTIONS.get_or_init(Options::default)
}

/// Reads the command line; gives what is for the harness.
pub(crate) fn read_arguments() -> Arguments {
    let parsed = Options::parse(std::env::args().skip(1));
    let (options, others) = parsed.unwrap_or_else(|usage| {
        eprintln!("{usage}");
        std::process::exit(2);
    });
    if others.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}\n");
    }
    let program = std::env::args_os().take(1);
    let others = others.into_iter().map(OsString::from);
    let mut arguments = Arguments::from_iter(program.chain(others));
    if options.is_about_seeds() && arguments.filter.is_none() {
        arguments.filter = Some(MAIN_TEST.to_owned());
    }
    OPTIONS.set(options).expect("the command line is read once");
    arguments
}

/// Our arguments are told from the others, and a bad one is refused.
pub(crate) fn arguments_are_told_apart() {
    let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
    let (options, others) = parse("wal --seeds 7 --exact --from=3 --trace").unwrap();
    let expected = Options {
        seeds: Some(7),
        from: 3,
        trace: true,
        twice: false,
    };
    assert_eq!(
        (options, others.join(" ")),
        (expected, "wal --exact".to_owned())
    );
    let (options, _) = parse("--seed 9").unwrap();
    assert_eq!((options.from, options.seeds), (9, Some(1)));
    assert!(parse("--seed x").is_err());
    assert!(parse("--seeds").is_err());
}
