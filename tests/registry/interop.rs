//! What programs on the libraries of others see of our registrations, and what we see of theirs: kratos, etcd's naming for grpc and
//! go-zero, each in its own language and by its own code.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catena_registry::{Change, Instance, Layout, RegisterOptions, Registrar, Registration};
use framework::{Running, Tool, peers::Library, wait_until};
use futures_util::future::LocalBoxFuture;
use tokio::runtime;

use crate::{
    cases,
    ground::{Ground, PATIENCE, SHORT_TTL, standing, until_change, until_ids},
};

/// A case, and its name.
pub(crate) type Case = (
    &'static str,
    for<'a> fn(&'a Meeting) -> LocalBoxFuture<'a, Result<()>>,
);

pub(crate) const CASES: &[Case] = cases![
    they_follow_ours,
    they_see_the_end_of_our_lease,
    they_see_us_come_back_on_another_lease,
    we_follow_theirs,
    we_see_the_end_of_their_lease,
    both_stand_side_by_side,
];

/// A store, and a program on a library of others.
pub(crate) struct Meeting {
    pub(crate) ground: Ground,
    pub(crate) library: Library,
    pub(crate) program: Tool,
}

/// Where their programs say that they listen.
const THEIRS: &str = "10.9.9.9:7000";
const THEIRS_THEN: &str = "10.9.9.9:7001";

impl Meeting {
    fn layout(&self) -> Layout {
        match self.library {
            Library::Kratos => Layout::Kratos,
            Library::GrpcNaming => Layout::GrpcNaming,
            Library::GoZero => Layout::GoZero,
        }
    }

    async fn register(&self) -> Result<Registration> {
        self.ground.register(1, &[self.layout()]).await
    }

    /// Their discovery of our service.
    fn discover(&self) -> Result<Running> {
        self.run(&["discover", self.ground.service.as_str()])
    }

    /// An instance that they register.
    async fn offer(&self) -> Result<Running> {
        let theirs = self.run(&["register", self.ground.service.as_str(), THEIRS])?;
        until_line(&theirs, &format!("{THEIRS:?}")).await?;
        Ok(theirs)
    }

    fn run(&self, args: &[&str]) -> Result<Running> {
        let args = [&[self.ground.endpoint.as_str()], args].concat();
        self.program.follow(&args)
    }

    /// The line that their discovery prints when these are all instances.
    fn line(&self, instances: &[&Instance]) -> String {
        let shown = |instance: &&Instance| match self.library {
            // Read into their type and written by their encoder: equal only if every byte of ours is as they would write it.
            Library::Kratos => Layout::Kratos.value(instance),
            Library::GrpcNaming | Library::GoZero => {
                format!("{:?}", instance.endpoints[0].address())
            }
        };
        let shown: Vec<_> = instances.iter().map(shown).collect();
        format!("[{}]", shown.join(","))
    }
}

/// Waits until the last line that a program printed is as expected.
async fn until_line(program: &Running, expected: &str) -> Result<()> {
    wait_until(&format!("{expected} is printed"), PATIENCE, async || {
        let printed = program.printed();
        let last = printed.strip_suffix('\n')?.lines().next_back()?;
        (last == expected).then_some(())
    })
    .await
    .with_context(|| format!("printed:\n{}", program.printed()))
}

fn address(change: &Change) -> Option<String> {
    match &*change.all {
        [only] => only.endpoints.first().map(ToString::to_string),
        _ => None,
    }
}

async fn they_follow_ours(meeting: &Meeting) -> Result<()> {
    let registration = meeting.register().await?;
    let theirs = meeting.discover()?;
    until_line(&theirs, &meeting.line(&[&registration.instance()])).await?;
    registration
        .update(|instance| {
            instance.endpoints = vec!["grpc://10.0.0.77:50051".parse().expect("an endpoint")];
            instance.weight = 7;
            instance.metadata.insert("k".to_owned(), "<v>".to_owned());
        })
        .await?;
    until_line(&theirs, &meeting.line(&[&registration.instance()])).await?;
    // They know no instance that wants no calls: it is gone for them.
    registration.drain(Duration::ZERO).await?;
    until_line(&theirs, "[]").await?;
    registration
        .update(|instance| instance.status = catena_registry::Status::Up)
        .await?;
    until_line(&theirs, &meeting.line(&[&registration.instance()])).await?;
    registration.deregister().await?;
    until_line(&theirs, "[]").await
}

async fn they_see_the_end_of_our_lease(meeting: &Meeting) -> Result<()> {
    let (registration, process) = stand_in_a_process(meeting)?;
    let theirs = meeting.discover()?;
    until_line(&theirs, &meeting.line(&[&registration.instance()])).await?;
    // Everything that would say goodbye ends first, as with a process that is killed.
    process.shutdown_background();
    until_line(&theirs, "[]").await
}

/// A registration whose tasks all live in a runtime of their own.
fn stand_in_a_process(meeting: &Meeting) -> Result<(Registration, runtime::Runtime)> {
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let process = runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let options = RegisterOptions {
                ttl: SHORT_TTL,
                layouts: vec![meeting.layout()],
                ..RegisterOptions::default()
            };
            let registration = process.block_on(async {
                let registration = meeting
                    .ground
                    .registry()?
                    .register(meeting.ground.instance(1), options)
                    .await?;
                standing(&registration).await?;
                anyhow::Ok(registration)
            })?;
            Ok((registration, process))
        });
        started.join().ok().context("registering does not panic")?
    })
}

async fn they_see_us_come_back_on_another_lease(meeting: &Meeting) -> Result<()> {
    let registration = meeting.register().await?;
    let (lease, _) = standing(&registration).await?;
    let theirs = meeting.discover()?;
    let there = meeting.line(&[&registration.instance()]);
    until_line(&theirs, &there).await?;
    let before = theirs.printed().lines().count();
    meeting.ground.kv.lease_revoke(lease).await?;
    wait_until("they saw it go and come", PATIENCE, async || {
        // Both may reach them in one answer of the watch; then they tell of a change, and of the same instance as before.
        let printed = theirs.printed();
        let since: Vec<_> = printed.lines().skip(before).collect();
        let (now, _) = standing(&registration).await.ok()?;
        (now != lease && since.last() == Some(&there.as_str())).then_some(())
    })
    .await
    .with_context(|| format!("printed:\n{}", theirs.printed()))
}

async fn we_follow_theirs(meeting: &Meeting) -> Result<()> {
    let mut watcher = meeting.ground.watch().await?;
    until_ids(&mut watcher, &[]).await?;
    let mut theirs = meeting.offer().await?;
    let at = |address: &str| {
        let expected = format!("grpc://{address}");
        move |change: &Change| self::address(change).as_ref() == Some(&expected)
    };
    let change = until_change(&mut watcher, THEIRS, at(THEIRS)).await?;
    ensure_theirs(meeting, &change.all[0])?;
    theirs.type_in(&format!("{THEIRS_THEN}\n"))?;
    let change = until_change(&mut watcher, THEIRS_THEN, at(THEIRS_THEN)).await?;
    ensure_theirs(meeting, &change.all[0])?;
    theirs.end_input();
    until_ids(&mut watcher, &[]).await?;
    let (code, printed) = theirs.end().await?;
    ensure!(code == 0, "{code}: {printed}");
    Ok(())
}

/// What their library writes beside the address is understood.
fn ensure_theirs(meeting: &Meeting, theirs: &Instance) -> Result<()> {
    let metadata = |key: &str| theirs.metadata.get(key).map(String::as_str);
    let understood = match meeting.library {
        Library::Kratos => {
            let told = (theirs.id.as_str(), theirs.version.as_str(), theirs.weight);
            told == ("Host-7", "v2", 30) && metadata("k") == Some("<v>")
        }
        Library::GrpcNaming => {
            theirs.id == theirs.endpoints[0].address() && metadata("zone") == Some("a")
        }
        Library::GoZero => theirs.id.parse::<i64>().is_ok_and(|lease| lease != 0),
    };
    ensure!(understood, "{theirs:?}");
    Ok(())
}

async fn we_see_the_end_of_their_lease(meeting: &Meeting) -> Result<()> {
    let mut watcher = meeting.ground.watch().await?;
    let theirs = meeting.offer().await?;
    until_change(&mut watcher, THEIRS, |change| change.all.len() == 1).await?;
    // Killed.
    drop(theirs);
    let change = until_ids(&mut watcher, &[]).await?;
    ensure!(!change.stale);
    Ok(())
}

async fn both_stand_side_by_side(meeting: &Meeting) -> Result<()> {
    let registration = meeting.register().await?;
    let _offered = meeting.offer().await?;
    let theirs = meeting.discover()?;
    let mut watcher = meeting.ground.watch().await?;
    let two = |change: &Change| change.all.len() == 2;
    let both = until_change(&mut watcher, "both", two).await?.all;
    let is_theirs = |instance: &Instance| instance.endpoints[0].address() == THEIRS;
    let other = both.iter().find(|instance| is_theirs(instance));
    let other = other.context("theirs is one of them")?;
    // Each list is in the order of addresses or ids, in which ours comes first.
    until_line(&theirs, &meeting.line(&[&registration.instance(), other])).await
}
