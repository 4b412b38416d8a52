//! Programs of the machine, each with a bound on its time.
//!
//! They run in the network name space of the process, not in that of the calling thread, which may stand in one that is about to
//! be taken down.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Longest time for one command: none does more than make a file system on a sparse file.
const SECONDS_MAX: &str = "90";

/// The command line that runs `args` at home and bounded.
fn at_home<A: AsRef<OsStr>>(args: &[A]) -> Vec<OsString> {
    let net = format!("--net=/proc/{}/ns/net", std::process::id());
    let mut line: Vec<OsString> = ["nsenter", &net, "--", "timeout", "-k", "5", SECONDS_MAX]
        .map(OsString::from)
        .to_vec();
    line.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
    line
}

/// Runs a command without holding up other tasks; gives what it printed, or fails with it.
pub(super) async fn run<A: AsRef<OsStr>>(args: &[A]) -> Result<String> {
    let line = at_home(args);
    let output = tokio::process::Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| name(args))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ensure!(output.status.success(), "{}: {printed}", name(args));
    Ok(printed)
}

/// Runs a command to its end where no runtime is at hand, as in a drop; says on standard error if it failed.
pub(super) fn at_end<A: AsRef<OsStr>>(args: &[A]) {
    let line = at_home(args);
    let output = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!(
            "{}: {}",
            name(args),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => eprintln!("{}: {error}", name(args)),
    }
}

fn name<A: AsRef<OsStr>>(args: &[A]) -> String {
    let words = args.iter().map(|arg| arg.as_ref().to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}
