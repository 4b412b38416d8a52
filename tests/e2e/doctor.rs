//! `catena doctor` on a machine and a store that are fit, and with each fault that it is to find.

use anyhow::Result;
use anyhow::ensure;
use framework::{Finished, Target, Tool, free_port, leave_out, peers::Missing};
use tempfile::TempDir;

use crate::{
    case::{Case, Ground, case},
    services::catena,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(it_names_what_is_planted).ours(),
        case!(it_names_a_slow_disk).ours(),
        case!(it_names_a_clock_that_is_off).ours(),
        case!(it_names_a_lost_quorum).members(3).fresh(&[]),
    ]
}

/// The words that it is asked with where all is well.
fn fit(g: &Ground<'_>, dir: &TempDir) -> [String; 5] {
    let database = dir.path().join("users.db");
    [
        "doctor".to_owned(),
        "--user-listen=127.0.0.1:0".to_owned(),
        "--gateway-listen=127.0.0.1:0".to_owned(),
        format!("--user-database=sqlite:{}", database.display()),
        format!("--endpoints={}", g.cluster.endpoints()),
    ]
}

/// The line of a check, and the one that says what to do.
fn finding<'a>(told: &'a str, check: &str) -> Option<(&'a str, &'a str)> {
    let mut lines = told.lines();
    let found = lines.find(|line| line.split_whitespace().nth(1) == Some(check))?;
    Some((found, lines.next().unwrap_or_default()))
}

async fn it_names_what_is_planted(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fit = fit(g, &dir);
    let fit: Vec<_> = fit.iter().map(String::as_str).collect();
    let told = catena()?.run(&fit)?.ok()?;
    for check in [
        "configuration",
        "port",
        "file limit",
        "disk",
        "store",
        "quorum",
        "clock",
    ] {
        ensure!(told.contains(check), "{check}: {told}");
    }
    ensure!(!told.contains("FAIL"), "{told}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = format!("--user-listen={}", taken.local_addr()?);
    let nobody = format!("--endpoints=http://127.0.0.1:{}", free_port());
    for (fault, remedy) in [
        (listen.as_str(), "ss -ltnp"),
        (nobody.as_str(), "start the member there"),
        ("--user-ttl=0s", "config explain"),
        (
            "--user-database=sqlite:/proc/none/users.db",
            "give a directory that can be written to",
        ),
    ] {
        let told = catena()?.run(&[&fit[..], &[fault]].concat())?.err()?;
        ensure!(
            told.contains("FAIL") && told.contains(remedy),
            "{fault}: {told}"
        );
    }
    let program = Target::Catena.program()?;
    let line = format!(
        "ulimit -n 256; exec {} {}",
        program.display(),
        fit.join(" ")
    );
    let told = Tool::new("/bin/sh".into()).run(&["-c", &line])?.ok()?;
    ensure!(
        told.contains("256 open files") && told.contains("LimitNOFILE"),
        "{told}"
    );
    Ok(())
}

/// Asks below another program, which plants something; none if that is not on this machine.
fn ask_below(program: &str, words: &[&str], fit: &[String]) -> Result<Option<Finished>> {
    let asked = Target::Catena.program()?.display().to_string();
    let words = words.iter().map(|word| (*word).to_owned());
    let words: Vec<_> = words.chain([asked]).chain(fit.iter().cloned()).collect();
    match Tool::new(program.into()).run(&words) {
        Ok(finished) => Ok(Some(finished)),
        Err(error) => {
            let missing = Missing::new(program, format!("{error:#}"));
            leave_out("faults that `catena doctor` is to find", &missing)?;
            Ok(None)
        }
    }
}

async fn it_names_a_slow_disk(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("trace").display().to_string();
    let slow = "inject=fsync,fdatasync:delay_exit=30000";
    let words = [
        "-f",
        "-o",
        &output,
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        slow,
    ];
    let Some(asked) = ask_below("strace", &words, &fit(g, &dir))? else {
        return Ok(());
    };
    let told = asked.ok()?;
    let Some((line, remedy)) = finding(&told, "disk") else {
        anyhow::bail!("no disk in {told}");
    };
    let millis = line.split_once("fsync p99 ").map(|(_, rest)| rest);
    let millis = millis.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    ensure!(
        line.starts_with("warn") && millis.is_some_and(|millis| millis >= 30.0),
        "{told}"
    );
    ensure!(remedy.contains("local SSD"), "{told}");
    Ok(())
}

async fn it_names_a_clock_that_is_off(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(asked) = ask_below("faketime", &["-f", "+1h"], &fit(g, &dir))? else {
        return Ok(());
    };
    let told = asked.ok()?;
    let found = finding(&told, "clock");
    let off = found.is_some_and(|(line, remedy)| {
        let apart = line
            .split(" are ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let apart = apart.and_then(|secs| secs.parse::<u64>().ok());
        line.starts_with("warn")
            && apart.is_some_and(|secs| (3590..3610).contains(&secs))
            && remedy.contains("timedatectl")
    });
    ensure!(off, "{told}");
    Ok(())
}

async fn it_names_a_lost_quorum(g: &mut Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fit = fit(g, &dir);
    let told = catena()?.run(&fit)?.ok()?;
    ensure!(
        told.contains("all 3 members that answer read by agreement"),
        "{told}"
    );
    for place in 0..2 {
        g.cluster.members[place].kill()?;
    }
    let told = catena()?.run(&fit)?.err()?;
    ensure!(
        told.matches("start the member there").count() == 2,
        "{told}"
    );
    let found = finding(&told, "quorum");
    let lost = found.is_some_and(|(line, remedy)| {
        line.starts_with("FAIL")
            && line.contains("none of the 1 members")
            && remedy.contains("a majority of the members must run")
    });
    ensure!(lost, "{told}");
    Ok(())
}
