//! What `catena up` says.

use std::{process::ExitStatus, time::Duration};

use super::{
    plan::{Member, Plan, Services, Store},
    watch::{Event, Stop},
};
use crate::{run, shutdown::Request};

pub(super) fn starting(plan: &Plan) -> String {
    let what = match plan.continues {
        true => "continuing",
        false => "starting a new cluster of",
    };
    let members = match plan.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    if let Store::Elsewhere(endpoints) = &plan.store {
        let dir = plan.data_dir.display();
        return format!("starting services on the store at {endpoints}, data and logs in {dir}");
    }
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
        Event::Drained { name } => format!("{name}: the services have left"),
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

/// The table of endpoints, and commands to paste. `out` names members that stay down.
pub(super) fn ready(plan: &Plan, out: &[String]) -> String {
    let is_up = |name: &String| !out.contains(name);
    let members: Vec<&Member> = plan.members.iter().filter(|one| is_up(&one.name)).collect();
    let who = match (out.is_empty(), &plan.store) {
        (true, Store::Catena) => "All members",
        (true, Store::Etcd(_) | Store::Elsewhere(_)) => "All processes",
        (false, _) => "The other members",
    };
    let endpoints = match &plan.store {
        Store::Elsewhere(endpoints) => endpoints.clone(),
        Store::Catena | Store::Etcd(_) => endpoints(members.iter().copied()),
    };
    let mut lines = vec![
        format!("etcdctl --endpoints={endpoints} put greeting hello"),
        format!("etcdctl --endpoints={endpoints} get greeting"),
        format!("etcdctl --endpoints={endpoints} endpoint status -w table"),
    ];
    if let Some(services) = serving(plan, out).next() {
        lines.extend(run::report::lines(
            &services.gateway_url(),
            &format!("127.0.0.1:{}", services.grpc_port),
            &endpoints,
        ));
    }
    format!(
        "\n{}\n{who} are ready. Try:\n\n  {}\n\nCtrl-C stops {}; the same command continues it.",
        table(&rows(plan, &members, out)),
        lines.join("\n  "),
        match plan.store {
            Store::Elsewhere(_) => "the services",
            Store::Catena | Store::Etcd(_) => "the cluster",
        }
    )
}

/// The services that run.
fn serving<'a>(plan: &'a Plan, out: &'a [String]) -> impl Iterator<Item = &'a Services> {
    let lives = |place: usize| match (&plan.store, plan.members.get(place)) {
        (Store::Catena, Some(member)) => !out.contains(&member.name),
        (Store::Catena | Store::Etcd(_) | Store::Elsewhere(_), _) => true,
    };
    let services = plan.services.iter().enumerate();
    services
        .filter(move |(place, _)| lives(*place))
        .map(|(_, services)| services)
}

/// A row for each process; the services of our members stand in the members' rows.
fn rows(plan: &Plan, members: &[&Member], out: &[String]) -> Vec<[String; 6]> {
    let heads = [
        "PROCESS",
        "CLIENTS",
        "PEERS",
        "GATEWAY",
        "USER SERVICE",
        "LOG",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    let none = || "-".to_owned();
    let inside = plan.store == Store::Catena;
    let mut services = serving(plan, out);
    for member in members {
        let own = if inside { services.next() } else { None };
        rows.push([
            member.name.clone(),
            member.client_url(),
            member.peer_url(),
            own.map_or_else(none, Services::gateway_url),
            own.map_or_else(none, Services::user_url),
            member.log.display().to_string(),
        ]);
    }
    rows.extend(services.map(|services| {
        [
            services.name.clone(),
            none(),
            none(),
            services.gateway_url(),
            services.user_url(),
            services.log.display().to_string(),
        ]
    }));
    rows
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate();
        let cells: Vec<String> = cells
            .map(|(column, cell)| format!("{cell:0$}", width(column)))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn stopping(stop: Stop, request: Request) -> String {
    match stop {
        Stop::Now => "killing what still runs".to_owned(),
        Stop::Run | Stop::Draining | Stop::Cleanly => {
            format!("\nreceived signal ({}); stopping", request.name())
        }
    }
}

pub(super) fn stopped(plan: &Plan) -> String {
    let what = match plan.store {
        Store::Elsewhere(_) => "the services are",
        Store::Catena | Store::Etcd(_) => "the cluster is",
    };
    let dir = plan.data_dir.display();
    format!("{what} stopped; data stays in {dir}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_table_are_straight() {
        let row = |texts: [&str; 6]| texts.map(str::to_owned);
        let rows = [
            row(["A", "BB", "C", "-", "-", "D"]),
            row(["AAA", "B", "CC", "-", "-", "DDDD"]),
        ];
        assert_eq!(
            table(&rows),
            "A    BB  C   -  -  D\nAAA  B   CC  -  -  DDDD\n"
        );
    }
}
