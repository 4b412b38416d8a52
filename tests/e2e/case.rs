//! A case, the cluster that it runs on and the etcdctl that it uses.

use std::time::Duration;

use anyhow::{Context, Result};
use framework::{
    Cluster, Left, Pool, Tool, leave_out,
    peers::{Missing, Release},
};
use futures_util::future::LocalBoxFuture;

/// The longest case kills members for some minutes.
const CASE_WITHIN: Duration = Duration::from_secs(400);

type Run = for<'a> fn(&'a mut Ground<'_>) -> LocalBoxFuture<'a, Result<()>>;

/// What a case stands on.
pub(crate) struct Ground<'a> {
    /// The cluster.
    pub(crate) cluster: &'a mut Cluster,
    /// etcdctl, with all members as endpoints.
    pub(crate) ctl: Tool,
    /// The release of etcdctl.
    pub(crate) release: Release,
}

/// One fact.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    run: Run,
    flags: Option<&'static [&'static str]>,
    members: usize,
    releases: &'static [Release],
    ours_only: bool,
}

/// Makes a [`Case`] of a function.
macro_rules! case {
    ($name:ident) => {
        $crate::case::Case::new(concat!(module_path!(), "::", stringify!($name)), |ground| {
            Box::pin($name(ground))
        })
    };
}
pub(crate) use case;

impl Case {
    /// A case for the present etcdctl and a shared cluster of one member.
    pub(crate) fn new(path: &'static str, run: Run) -> Self {
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        Self {
            name,
            run,
            flags: None,
            members: 1,
            releases: &[Release::V37],
            ours_only: false,
        }
    }

    /// The case is run with every etcdctl.
    pub(crate) fn every_release(mut self) -> Self {
        self.releases = &Release::ALL;
        self
    }

    /// The case needs a cluster that nobody has used, with these flags.
    pub(crate) fn fresh(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = Some(flags);
        self
    }

    /// The case is about our own program.
    pub(crate) fn ours(mut self) -> Self {
        self.ours_only = true;
        self
    }

    /// The case needs so many members.
    pub(crate) fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    pub(crate) fn runs_on(&self, pool: &Pool) -> bool {
        self.members == pool.members && (pool.target.is_catena() || !self.ours_only)
    }

    pub(crate) fn releases(&self) -> &'static [Release] {
        self.releases
    }

    /// The name in the output.
    pub(crate) fn title(&self, pool: &Pool, release: Release) -> String {
        let title = format!("{pool}::{}", self.name);
        match self.releases {
            [_] => title,
            _ => format!("{title}/{}", release.version()),
        }
    }

    /// Runs the case on a cluster of the pool.
    pub(crate) fn run(&self, pool: &Pool, release: Release) -> Result<()> {
        let programs = match release.programs() {
            Ok(programs) => programs,
            Err(missing) => return left_out(release, &missing),
        };
        pool.run(self.flags, CASE_WITHIN, async |cluster| {
            let ctl = Tool::new(programs.etcdctl.clone())
                .default_flag("--endpoints", &cluster.endpoints());
            let mut ground = Ground {
                cluster,
                ctl,
                release,
            };
            let ended = (self.run)(&mut ground).await;
            ended.with_context(|| format!("etcdctl {}", release.version()))
        })
    }
}

fn left_out(release: Release, missing: &Missing) -> Result<()> {
    let tests = format!("tests with etcdctl {}", release.version());
    leave_out(&tests, missing).map(|Left::Out| ())
}

impl Ground<'_> {
    /// Runs etcdctl, which must succeed; gives what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> Result<String> {
        let ran = self.ctl.run(args).and_then(framework::Finished::ok);
        ran.with_context(|| format!("etcdctl {}", args.join(" ")))
    }

    /// Runs etcdctl, which must fail; gives what it printed.
    pub(crate) fn fails(&self, args: &[&str]) -> Result<String> {
        let ran = self.ctl.run(args).and_then(framework::Finished::err);
        ran.with_context(|| format!("etcdctl {}", args.join(" ")))
    }

    /// Runs etcdctl with `-w json`; gives the document.
    pub(crate) fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let printed = self.ok(&[args, &["-w", "json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| printed)
    }

    /// The present revision.
    pub(crate) async fn revision(&self) -> Result<i64> {
        Ok(self.cluster.client(0)?.revision().await?)
    }
}
