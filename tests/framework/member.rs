//! One member as a real process, or of ours in the test's own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use catena_client::Kv;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{net::TcpStream, time::timeout};

use crate::{Client, Target, http, in_process::InProcess, ports, wait_until};

/// A member that is not ready by then will not become so: a debug build of three on two busy cores needs a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// A stopping member hands leadership over and closes its files; etcd allows itself about 10 s for that.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// One look at a member's health; a member without a leader answers only after its own time limit.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);
/// A process that was killed is gone by then, however busy the machine.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// How much of a log is shown when a test fails.
const LOG_SHOWN_LINES: usize = 40;

/// Where a member stands, if not on loopback and in the cluster's own directory.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The address of its host.
    pub host: Option<String>,
    /// The data directory.
    pub data_dir: Option<PathBuf>,
    /// What its program is started through: a command that replaces itself by the program, such as `nsenter` or `env`, so that the
    /// process id is the member's.
    pub through: Vec<String>,
    /// The program, if not the target's own.
    pub program: Option<PathBuf>,
}

/// One member: its place on the disk and on the network, and its process while it runs.
#[derive(Debug)]
pub struct Member {
    /// The member's name.
    pub name: String,
    target: Target,
    client_port: u16,
    peer_port: u16,
    dir: PathBuf,
    place: Place,
    flags: Vec<String>,
    process: Option<Child>,
    in_process: Option<InProcess>,
}

impl Member {
    /// A member that does not run yet. Its data and its log lie under `dir`.
    pub(crate) fn new(target: Target, name: &str, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            target,
            client_port: ports::free(),
            peer_port: ports::free(),
            dir: dir.join(name),
            place: Place::default(),
            flags: Vec::new(),
            process: None,
            in_process: None,
        }
    }

    /// The flags beyond name, URLs and data directory that the next start uses.
    pub fn set_flags(&mut self, flags: Vec<String>) {
        self.flags = flags;
    }

    /// Puts a member that does not run somewhere else.
    pub(crate) fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// What its program is started through.
    pub fn through(&self) -> &[String] {
        &self.place.through
    }

    /// What the next start goes through.
    pub fn set_through(&mut self, through: Vec<String>) {
        self.place.through = through;
    }

    fn host(&self) -> &str {
        self.place.host.as_deref().unwrap_or("127.0.0.1")
    }

    /// One more flag for the next starts. Of a flag that is given twice, the last counts.
    pub fn add_flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    /// `host:port` of the client URL.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host(), self.client_port)
    }

    /// The client URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The peer URL.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host(), self.peer_port)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        let placed = self.place.data_dir.clone();
        placed.unwrap_or_else(|| self.dir.join("data"))
    }

    /// The process id, while the process runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Whether the member runs, as far as is known without looking.
    pub fn is_running(&self) -> bool {
        self.process.is_some() || self.in_process.is_some()
    }

    /// A client of this member alone.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.endpoint())
    }

    /// The store of a member in the test's own process, without a connection, while it runs.
    pub fn embedded(&self) -> Option<Arc<dyn Kv>> {
        self.in_process.as_ref().map(InProcess::kv)
    }

    /// Starts the process. The log of earlier starts is kept.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} runs already", self.name);
        }
        if self.target == Target::InProcess {
            let ports = (self.client_port, self.peer_port);
            let member = InProcess::start(&self.name, ports, &self.data_dir(), &self.flags)?;
            self.in_process = Some(member);
            return Ok(());
        }
        fs::create_dir_all(&self.dir)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.command()?;
        command
            .args(["--name", &self.name])
            .args(["--listen-client-urls", &self.endpoint()])
            .args(["--advertise-client-urls", &self.endpoint()])
            .args(["--listen-peer-urls", &self.peer_url()])
            .args(["--initial-advertise-peer-urls", &self.peer_url()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let program = command.get_program().to_owned();
        self.process = Some(command.spawn().with_context(|| format!("{program:?}"))?);
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let direct = self.target.command(self.place.program.as_deref())?;
        let Some((first, rest)) = self.place.through.split_first() else {
            return Ok(direct);
        };
        let mut command = Command::new(first);
        command
            .args(rest)
            .arg(direct.get_program())
            .args(direct.get_args());
        Ok(command)
    }

    /// Waits until the member answers a linearizable read.
    pub async fn ready(&mut self) -> Result<()> {
        let (address, name) = (self.address(), self.name.clone());
        wait_until(&format!("{name} is ready"), READY_WITHIN, async || {
            if let Some(end) = self.exited() {
                return Some(Err(anyhow::anyhow!(
                    "{name} exited: {end}\n{}",
                    self.log_end()
                )));
            }
            let health = timeout(HEALTH_WITHIN, http::get(&address, "/health")).await;
            matches!(health, Ok(Ok(answer)) if answer.status == 200).then_some(Ok(()))
        })
        .await?
    }

    /// Waits until the client port takes connections, with or without a leader.
    pub async fn listening(&self) -> Result<()> {
        let address = self.address();
        wait_until(
            &format!("{} listens", self.name),
            READY_WITHIN,
            async || TcpStream::connect(&address).await.ok(),
        )
        .await?;
        Ok(())
    }

    /// How the process ended, if it ended by itself.
    pub fn exited(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        Some(status.to_string())
    }

    /// Waits for the end of a process that somebody ended, or that is to end by itself, and says how it ended.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        let process = self.process.as_mut().context("it does not run")?;
        let status = wait_until(&format!("{name} ends"), ENDED_WITHIN, async || {
            process.try_wait().transpose()
        })
        .await??;
        self.process = None;
        Ok(status)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        self.in_process.take().map_or(Ok(()), InProcess::kill)
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGTERM, and waits for the end, which must come within a bound.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(member) = self.in_process.take() {
            return member.stop();
        }
        self.terminate()?;
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let mut waited = Duration::ZERO;
        while process.try_wait()?.is_none() {
            if waited > STOPPED_WITHIN {
                process.kill()?;
                process.wait()?;
                bail!("{} did not stop within {STOPPED_WITHIN:?}", self.name);
            }
            thread::sleep(Duration::from_millis(10));
            waited += Duration::from_millis(10);
        }
        Ok(())
    }

    /// SIGSTOP: the process stands still, its connections stay open.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: ends a pause.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills the member and removes its data.
    pub fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        if self.data_dir().exists() {
            fs::remove_dir_all(self.data_dir())?;
        }
        Ok(())
    }

    /// Everything that the member has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Prints the end of the log.
    pub fn show_log(&self) {
        eprintln!("--- log of {}\n{}", self.name, self.log_end());
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_SHOWN_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let pid = Pid::from_raw(process.id().try_into()?).context("a process id is not 0")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Killing fails only if the process has ended already.
        let _ = self.kill();
        if thread::panicking() {
            self.show_log();
        }
    }
}
