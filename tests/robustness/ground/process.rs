//! The processes of the members: they are killed, end, and start again, and the history knows of it.

use std::process::ExitStatus;

use anyhow::{Context, Result};
use framework::history::{Proc, ProcEvent};

use super::Ground;

/// A member that was removed is given so many tenths of a second to end by itself.
const REMOVED_ENDS_LOOKS: usize = 100;

impl Ground {
    /// SIGKILL, and waits for the end; gives how the kernel says it ended.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<String> {
        let pid = i32::try_from(self.pid(place)?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id is not 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        self.reap(place).await
    }

    /// Waits for the end of a member that ends; gives how it ended.
    pub(crate) async fn reap(&mut self, place: usize) -> Result<String> {
        let status = self.cluster.members[place].ended().await?;
        self.note(place, ProcEvent::Exit, Some(status));
        Ok(status.to_string())
    }

    /// How a member ended that stopped by itself; nothing if it runs.
    pub(crate) async fn stopped(&mut self, place: usize) -> Result<Option<String>> {
        let pid = self.pid(place)?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        match stat.contains(") Z ") || stat.is_empty() {
            true => self.reap(place).await.map(Some),
            false => Ok(None),
        }
    }

    /// Starts a member again, without waiting until it answers.
    pub(crate) fn launch(&mut self, place: usize) -> Result<()> {
        self.cluster.members[place].start()?;
        *self.incarnations.entry(self.name(place)).or_default() += 1;
        self.note(place, ProcEvent::Start, None);
        Ok(())
    }

    /// Waits until a member answers.
    pub(crate) async fn ready(&mut self, place: usize) -> Result<()> {
        self.cluster.members[place].ready().await?;
        self.note(place, ProcEvent::Ready, None);
        Ok(())
    }

    /// Starts a member again and waits until it answers.
    pub(crate) async fn restart(&mut self, place: usize) -> Result<()> {
        self.launch(place)?;
        self.ready(place).await
    }

    /// Starts every member that does not run, and waits until all answer.
    pub(crate) async fn start_stopped(&mut self) -> Result<()> {
        for place in 0..self.size() {
            if !self.cluster.members[place].is_running() {
                self.launch(place)?;
            }
        }
        for place in 0..self.size() {
            self.ready(place).await?;
        }
        Ok(())
    }

    /// A member answers that was started without waiting for it.
    pub(crate) fn note_ready(&self, place: usize) {
        self.note(place, ProcEvent::Ready, None);
    }

    /// The name of the next member that joins.
    pub(crate) fn next_name(&self) -> String {
        format!("joined{}", self.ids.len() + 1)
    }

    /// A member has joined under this id.
    pub(crate) fn joined(&mut self, name: &str, id: u64) {
        self.ids.insert(name.to_owned(), id);
    }

    /// Ends a member that was removed from the cluster, if it does not end by itself, and removes its data.
    pub(crate) async fn forget(&mut self, place: usize) -> Result<()> {
        for _ in 0..REMOVED_ENDS_LOOKS {
            if !self.cluster.members[place].is_running() || self.stopped(place).await?.is_some() {
                break;
            }
            self.rest(100).await;
        }
        if self.cluster.members[place].is_running() {
            self.kill(place).await?;
        }
        self.cluster.members[place].wipe()?;
        self.cluster.members.remove(place);
        Ok(())
    }

    pub(super) fn note(&self, place: usize, event: ProcEvent, exit: Option<ExitStatus>) {
        let member = &self.cluster.members[place];
        let exit = exit.map(|status| {
            use std::os::unix::process::ExitStatusExt;
            let signal = status.signal().map_or(-1, |signal| signal + 128);
            i64::from(status.code().unwrap_or(signal))
        });
        self.recorder.process(Proc {
            ns: self.seats.now_ns(),
            name: member.name.clone(),
            member: self.ids.get(&member.name).copied(),
            event,
            pid: member.pid().unwrap_or_default().into(),
            incarnation: self.incarnations.get(&member.name).copied().unwrap_or(1),
            exit,
        });
    }
}
