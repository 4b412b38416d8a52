//! One row of the table: a member under attack, watched from three sides.
//!
//! ```text
//!   attack ──────► member ◄────── bystander: puts and gets, one after another, all the time
//!                    ▲
//!                    └── peak of its resident memory, from /proc
//! ```
//!
//! The row holds if the attack's own expectations hold (what the member answers or logs), the process lives, its memory grew by no
//! more than the row's bound, and the bystander met no error and went on during and after.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use framework::{Client, Cluster, Member, Setup, Target};
use futures_util::future::LocalBoxFuture;
use tokio::{runtime, time::timeout};

use crate::{bystander::Bystander, memory};

/// A case that takes longer hangs; the slowest takes a tenth of it on a machine that is not busy.
const CASE_WITHIN: Duration = Duration::from_secs(150);

/// What a member may grow by in a case that asks nothing unusual of its memory: four megabytes of receive window and one of send
/// buffer for each of some connections, a few kilobytes for each of a thousand streams, and what the allocator keeps.
pub(crate) const GROWTH_MIB: u64 = 128;

type Run = for<'a> fn(&'a Stand) -> LocalBoxFuture<'a, Result<()>>;

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `chapter::fact`.
    pub(crate) name: &'static str,
    run: Run,
    members: usize,
    flags: &'static [&'static str],
    growth_mib: u64,
}

/// Makes a [`Case`] of a function.
macro_rules! case {
    ($name:ident) => {
        $crate::case::Case::new(concat!(module_path!(), "::", stringify!($name)), |stand| {
            Box::pin($name(stand))
        })
    };
}
pub(crate) use case;

impl Case {
    pub(crate) fn new(path: &'static str, run: Run) -> Self {
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        Self {
            name,
            run,
            members: 1,
            flags: &[],
            growth_mib: GROWTH_MIB,
        }
    }

    /// The members run with these flags.
    pub(crate) fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    /// The case needs so many members; the first is attacked.
    pub(crate) fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// The member may grow by so much; the caller says why.
    pub(crate) fn growth_mib(mut self, growth_mib: u64) -> Self {
        self.growth_mib = growth_mib;
        self
    }

    /// Runs the case on members of its own.
    pub(crate) fn run(&self) -> Result<()> {
        // Two threads: an attack that is busy must not starve the bystander.
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let result = runtime.block_on(async {
            let setup = Setup::new(Target::Catena, self.members).flags(self.flags);
            let cluster = Cluster::start(setup).await?;
            let mut stand = Stand { cluster };
            let result = self.judge(&mut stand).await;
            if result.is_err() {
                stand.cluster.show_logs();
            }
            result
        });
        // Connections that an attack left to itself end with the runtime, without being waited for.
        runtime.shutdown_background();
        result
    }

    async fn judge(&self, stand: &mut Stand) -> Result<()> {
        let pid = stand.member().pid().context("the member runs")?;
        let bystander = Bystander::start(&stand.cluster);
        bystander.goes_on("before the attack").await?;
        let before = memory::resident_kib(pid)?;
        memory::forget_peak(pid);
        let attacked = timeout(CASE_WITHIN, (self.run)(stand)).await;
        attacked.context("the attack takes too long")??;
        bystander.goes_on("after the attack").await?;
        bystander.stop().await?;
        for member in &mut stand.cluster.members {
            if let Some(end) = member.exited() {
                bail!("{} ended: {end}", member.name);
            }
        }
        let peak = memory::peak_kib(pid)?;
        let grown_mib = peak.saturating_sub(before) / 1024;
        println!(
            "{}: grew by {grown_mib} MiB (bound {} MiB)",
            self.name, self.growth_mib
        );
        ensure!(
            grown_mib <= self.growth_mib,
            "the member grew by {grown_mib} MiB: from {before} to {peak} KiB"
        );
        Ok(())
    }
}

/// The members of a case.
pub(crate) struct Stand {
    /// The first of them is attacked.
    pub(crate) cluster: Cluster,
}

impl Stand {
    /// The member that is attacked.
    pub(crate) fn member(&self) -> &Member {
        &self.cluster.members[0]
    }

    /// `host:port` of its client URL.
    pub(crate) fn address(&self) -> String {
        self.member().address()
    }

    /// `host:port` of its peer URL.
    pub(crate) fn peer_address(&self) -> String {
        self.member().peer_url().replace("http://", "")
    }

    /// A client of it, on a connection of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        self.member().client()
    }

    /// Demands that the member has logged `text` by now or does so soon.
    pub(crate) async fn logs(&self, text: &str) -> Result<()> {
        framework::wait_until(&format!("{text:?} is logged"), LOGGED_WITHIN, async || {
            self.member().log().contains(text).then_some(())
        })
        .await
    }
}

/// A line that is due comes by then.
const LOGGED_WITHIN: Duration = Duration::from_secs(20);
