//! The watch over one process: starting it, hearing that it is ready, starting it again when it dies, stopping it.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncWriteExt,
    net::UnixDatagram,
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    last_words::{self, LastWords},
    plan::Process,
};
use crate::{
    notify,
    shutdown::{DRAIN, SUPERVISED_VARIABLE},
};

/// First pause before a member that died is started again: short enough that a cluster is whole again before anybody looks.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Longest pause, so that a member whose trouble has passed is back within a moment.
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// A member that has run this long was well: the next pause is the first one again.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// Time that a member has for a clean stop, which includes handing leadership over, and that its services have for leaving.
pub(super) const STOP_MAX: Duration = Duration::from_secs(15);

/// A log larger than this is set aside when its member starts, in place of the one set aside before: so logs take at most twice
/// this and what one run writes.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// What a watch is told; it never becomes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// Nothing: go on.
    Run,
    /// Let the services leave, and start nothing again.
    Draining,
    /// Stop the member and wait for it.
    Cleanly,
    /// Kill it.
    Now,
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Event {
    /// The member serves.
    Ready {
        name: String,
        pid: u32,
        took: Duration,
    },
    /// The services in the member have left.
    Drained { name: String },
    /// The member ended unasked.
    Died {
        name: String,
        status: ExitStatus,
        log: PathBuf,
        error: Option<String>,
        pause: Duration,
    },
    /// The cluster does not have the member any more, or not this one: another start would end the same way.
    Out { name: String, why: String },
    /// The member cannot be started.
    NotStarted {
        name: String,
        error: String,
        pause: Duration,
    },
    /// The member ended as asked.
    Stopped {
        name: String,
        status: Option<ExitStatus>,
    },
}

/// The watch over one process.
#[derive(Debug)]
pub(super) struct Watch {
    process: Process,
    /// Where the process says that it is ready.
    socket: UnixDatagram,
    socket_path: PathBuf,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<Stop>,
    /// Whether the cluster is known to exist: from its data, or since this member was ready.
    founded: bool,
}

/// How a run of the member ended.
enum End {
    Died(ExitStatus),
    Stopped(Option<ExitStatus>),
}

impl Watch {
    pub(super) fn new(
        process: Process,
        socket_path: &Path,
        events: mpsc::Sender<Event>,
        stop: watch::Receiver<Stop>,
        founded: bool,
    ) -> Result<Self> {
        let socket = UnixDatagram::bind(socket_path)
            .with_context(|| format!("cannot listen on {}", socket_path.display()))?;
        let socket_path = socket_path.to_owned();
        Ok(Self {
            process,
            socket,
            socket_path,
            events,
            stop,
            founded,
        })
    }

    /// Keeps the member running until told to stop, or until it is out of the cluster.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let started = Instant::now();
            let name = self.process.name.clone();
            let event = match self.start() {
                Ok((child, log_from)) => match self.run_once(child, started).await {
                    End::Stopped(status) => {
                        return self.tell(Event::Stopped { name, status }).await;
                    }
                    End::Died(status) => {
                        let error = match last_words::of(&self.process.log, log_from, status) {
                            // Only a member can be out of the cluster.
                            LastWords::Out(why) if self.process.member_dir.is_some() => {
                                return self.tell(Event::Out { name, why }).await;
                            }
                            LastWords::Out(error) | LastWords::Error(error) => Some(error),
                            LastWords::None => None,
                        };
                        if started.elapsed() >= WELL_AFTER {
                            pause = PAUSE_MIN;
                        }
                        Event::Died {
                            name,
                            status,
                            log: self.process.log.clone(),
                            error,
                            pause,
                        }
                    }
                },
                Err(error) => Event::NotStarted {
                    name,
                    error: format!("{error:#}"),
                    pause,
                },
            };
            self.tell(event).await;
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&self.stop, Stop::Draining) => {
                    let name = self.process.name.clone();
                    return self.tell(Event::Stopped { name, status: None }).await;
                }
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn tell(&self, event: Event) {
        // The receiver lives as long as any watch does, unless the program is ending.
        let _ending = self.events.send(event).await;
    }

    /// Starts the member; also gives the length of its log before.
    fn start(&self) -> Result<(Child, u64)> {
        let program = match &self.process.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("cannot find this program's own file")?,
        };
        let log = open_log(&self.process.log)?;
        let log_from = log.metadata().map_or(0, |log| log.len());
        let mut command = Command::new(program);
        // A variable that sets one of the words below would be in conflict with it, or change what was not asked for.
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("ETCD_") || name.starts_with("CATENA_") {
                command.env_remove(variable);
            }
        }
        command
            .args(&self.process.words)
            .args(self.process.cluster_state(self.founded))
            .env(SUPERVISED_VARIABLE, "1")
            .env(notify::SOCKET_VARIABLE, &self.socket_path)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().context("cannot start the process")?;
        Ok((child, log_from))
    }

    /// Our own program stops when its pipe closes; others know only the signal.
    fn ask_to_stop(&self, child: &Child) {
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let (Some(_), Some(pid)) = (&self.process.program, pid) {
            // An error means that it has ended by itself.
            let _ended = kill_process(pid, Signal::TERM);
        }
    }

    async fn run_once(&mut self, mut child: Child, started: Instant) -> End {
        // Taken out of the child, since waiting for a child closes a stdin that is still in it.
        let mut stdin = child.stdin.take();
        let mut is_ready = false;
        let mut is_told = false;
        loop {
            let mut state = [0; 64];
            tokio::select! {
                status = child.wait() => return match (status, *self.stop.borrow()) {
                    (Ok(status), Stop::Run) => End::Died(status),
                    (status, _) => End::Stopped(status.ok()),
                },
                received = self.socket.recv(&mut state) => {
                    let state = received.map_or(&[][..], |length| &state[..length]);
                    if state == notify::DRAINED.as_bytes() {
                        let name = self.process.name.clone();
                        self.tell(Event::Drained { name }).await;
                    } else if state == notify::READY.as_bytes() && !is_ready {
                        is_ready = true;
                        self.founded = true;
                        let name = self.process.name.clone();
                        let (pid, took) = (child.id().unwrap_or(0), started.elapsed());
                        self.tell(Event::Ready { name, pid, took }).await;
                    }
                }
                () = told(&self.stop, Stop::Draining), if !is_told => {
                    is_told = true;
                    if self.process.has_services && self.process.member_dir.is_none() {
                        drop(stdin);
                        return End::Stopped(stop_child(child, &self.stop).await);
                    }
                    if let Some(pipe) = stdin.as_mut().filter(|_| self.process.has_services) {
                        // An error means that it has ended by itself.
                        let _ended = pipe.write_all(DRAIN).await;
                    }
                }
                () = told(&self.stop, Stop::Cleanly) => {
                    drop(stdin);
                    self.ask_to_stop(&child);
                    return End::Stopped(stop_child(child, &self.stop).await);
                }
            }
        }
    }
}

/// Completes when the watch is told `stop`, or more.
async fn told(channel: &watch::Receiver<Stop>, stop: Stop) {
    let mut channel = channel.clone();
    // A sender that is gone means that the program is ending.
    let _ending = channel.wait_for(|told| *told >= stop).await;
}

/// Waits for a member whose stdin was closed; kills it when told to, or when it takes too long.
async fn stop_child(mut child: Child, stop: &watch::Receiver<Stop>) -> Option<ExitStatus> {
    tokio::select! {
        status = timeout(STOP_MAX, child.wait()) => {
            if let Ok(status) = status {
                return status.ok();
            }
        }
        () = told(stop, Stop::Now) => {}
    }
    // An error means that the member has ended by itself meanwhile.
    let _ended = child.start_kill();
    child.wait().await.ok()
}

fn open_log(path: &Path) -> Result<File> {
    let shown = path.display();
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.old"))
            .with_context(|| format!("cannot set {shown} aside"))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options
        .open(path)
        .with_context(|| format!("cannot open {shown}"))
}
