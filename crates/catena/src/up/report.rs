//! What `catena up` says.

use std::{process::ExitStatus, time::Duration};

use super::{
    plan::{Member, Plan},
    watch::{Event, Stop},
};
use crate::shutdown::Request;

pub(super) fn starting(plan: &Plan) -> String {
    let what = match plan.continues {
        true => "continuing",
        false => "starting a new cluster of",
    };
    let members = match plan.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut text = format!(
        "{what} {members}, data and logs in {}",
        plan.data_dir.display()
    );
    if let Some(note) = &plan.note {
        text = format!("{text}\n{note}");
    }
    text
}

pub(super) fn event(plan: &Plan, event: &Event) -> String {
    match event {
        Event::Ready { name, pid, took } => {
            format!("{name} is ready (pid {pid}, after {})", seconds(*took))
        }
        Event::Died {
            name,
            status,
            log,
            error,
            pause,
        } => {
            let error = error.as_ref();
            format!(
                "{name} died ({}); its log is {}; starting it again in {}{}",
                ending(*status),
                log.display(),
                seconds(*pause),
                error.map_or_else(String::new, |error| format!("\n  its last error: {error}"))
            )
        }
        Event::Out { name, why } => out(plan, name, why),
        Event::NotStarted { name, error, pause } => {
            format!(
                "{name} was not started: {error}; trying again in {}",
                seconds(*pause)
            )
        }
        Event::Stopped {
            name,
            status: Some(status),
        } if !status.success() => {
            format!("{name} stopped ({})", ending(*status))
        }
        Event::Stopped { name, .. } => format!("{name} stopped"),
    }
}

/// Why a member stays down, and the way back.
fn out(plan: &Plan, name: &str, why: &str) -> String {
    let mut text = format!("{name} is out of the cluster and stays down: {why}");
    if let Some(member) = plan.members.iter().find(|member| member.name == name) {
        let others = plan.members.iter().filter(|other| other.name != name);
        let etcdctl = format!("etcdctl --endpoints={}", endpoints(others));
        text.push_str(&format!(
            "\n  To bring it back as a new member, without its data:\n    \
             {etcdctl} member list\n    \
             {etcdctl} member remove ID     (if {name} is still listed)\n    \
             {etcdctl} member add {name} --peer-urls={}\n    \
             rm -rf {}\n  \
             then Ctrl-C, and the same command again.",
            member.peer_url(),
            member.data_dir.display()
        ));
    }
    text
}

fn endpoints<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    let endpoints: Vec<String> = members
        .map(|member| format!("127.0.0.1:{}", member.client_port))
        .collect();
    endpoints.join(",")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `signal: 9 (SIGKILL)` or `exit status: 1`, as the standard library puts it.
fn ending(status: ExitStatus) -> String {
    status.to_string()
}

/// The table of endpoints, and three commands to paste. `out` names members that stay down.
pub(super) fn ready(plan: &Plan, out: &[String]) -> String {
    let mut rows = vec![["MEMBER", "CLIENTS", "PEERS", "LOG"].map(str::to_owned)];
    let up = || plan.members.iter().filter(|one| !out.contains(&one.name));
    for member in up() {
        rows.push([
            member.name.clone(),
            member.client_url(),
            member.peer_url(),
            member.log.display().to_string(),
        ]);
    }
    let endpoints = endpoints(up());
    let who = match out.is_empty() {
        true => "All members",
        false => "The other members",
    };
    format!(
        "\n{}\n{who} are ready. Try:\n\n  \
         etcdctl --endpoints={endpoints} put greeting hello\n  \
         etcdctl --endpoints={endpoints} get greeting\n  \
         etcdctl --endpoints={endpoints} endpoint status -w table\n\n\
         Ctrl-C stops the cluster; the same command continues it.",
        table(&rows)
    )
}

fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, clients, peers, log] in rows {
        text.push_str(&format!(
            "{name:0$}  {clients:1$}  {peers:2$}  {log}\n",
            widths[0], widths[1], widths[2]
        ));
    }
    text
}

pub(super) fn stopping(stop: Stop, request: Request) -> String {
    match stop {
        Stop::Now => "killing the members".to_owned(),
        Stop::Run | Stop::Cleanly => {
            format!(
                "\nreceived signal ({}); stopping the members",
                request.name()
            )
        }
    }
}

pub(super) fn stopped(plan: &Plan) -> String {
    format!(
        "the cluster is stopped; its data stays in {}",
        plan.data_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_table_are_straight() {
        let row = |texts: [&str; 4]| texts.map(str::to_owned);
        let rows = [row(["A", "BB", "C", "D"]), row(["AAA", "B", "CC", "DDDD"])];
        assert_eq!(table(&rows), "A    BB  C   D\nAAA  B   CC  DDDD\n");
    }
}
