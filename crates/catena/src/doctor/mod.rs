//! `catena doctor`: whether this machine and the store are fit for what `catena run` would start with the same words.
//!
//! Each check is a file or a function that gives a [`Finding`]: what was seen, how that is to be judged, and what to do about it.
//! Nothing is changed but one file that is written and removed to see how long the disk takes.

mod answer;
mod machine;
mod store;

use std::process::ExitCode;

use anyhow::Result;

use crate::run::{
    self, Options,
    settings::{Settings, StoreSettings},
};

/// How a finding is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Good,
    /// It works, but not as well as it should.
    Doubtful,
    /// What was asked for cannot work.
    Bad,
}

/// What one check has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    verdict: Verdict,
    check: &'static str,
    seen: String,
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, seen: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Good,
            check,
            seen: seen.into(),
            remedy: None,
        }
    }

    fn doubtful(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Doubtful,
            remedy: Some(remedy.into()),
            ..Self::good(check, seen)
        }
    }

    fn bad(check: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::doubtful(check, seen, remedy)
        }
    }

    /// One line, and one more if there is something to do.
    fn told(&self) -> String {
        let word = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "warn",
            Verdict::Bad => "FAIL",
        };
        let line = format!("{word:<5} {:<14} {}", self.check, self.seen);
        match &self.remedy {
            Some(remedy) => format!("{line}\n{:20} -> {remedy}", ""),
            None => line,
        }
    }
}

/// Looks at everything and prints it. Exit code 1 if something cannot work.
pub(crate) fn main(mut options: Options) -> Result<ExitCode> {
    if options.what.is_empty() {
        options.what = ["user", "gateway"].map(str::to_owned).to_vec();
    }
    let settings = match run::gather(&options).and_then(|values| values.settings()) {
        Ok(settings) => settings,
        Err(error) => {
            let seen = format!("{error:#}");
            let remedy = "put that right; `catena config explain` shows every setting and where it comes from";
            return Ok(told(&[Finding::bad("configuration", seen, remedy)]));
        }
    };
    let mut findings = vec![Finding::good(
        "configuration",
        "every setting can be followed",
    )];
    findings.extend(machine::ports(&settings));
    findings.push(machine::files());
    findings.extend(machine::directory(&settings).map(|dir| machine::disk(&dir)));
    findings.extend(of_store(&settings)?);
    Ok(told(&findings))
}

/// A store of our own is not asked: it does not run yet.
#[tokio::main(flavor = "current_thread")]
async fn of_store(settings: &Settings) -> Result<Vec<Finding>> {
    Ok(match &settings.store {
        StoreSettings::Embedded(_) => Vec::new(),
        StoreSettings::Etcd(urls) => store::look(urls).await,
    })
}

fn told(findings: &[Finding]) -> ExitCode {
    let lines: Vec<String> = findings.iter().map(Finding::told).collect();
    crate::print(&lines.join("\n"));
    let worst = findings.iter().map(|finding| finding.verdict).max();
    match worst {
        Some(Verdict::Bad) => ExitCode::FAILURE,
        Some(Verdict::Good | Verdict::Doubtful) | None => ExitCode::SUCCESS,
    }
}
