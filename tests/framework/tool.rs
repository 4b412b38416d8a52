//! A command line program, run as a user would.

use std::{
    ffi::OsStr,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_until;

/// A line that a running program is expected to print comes by then.
const LINE_WITHIN: Duration = Duration::from_secs(60);

/// A program with its environment and the flags that it gets unless others are given.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    first: Vec<String>,
    defaults: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

/// What a program that ended has left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output, if the program succeeded.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.code == 0,
            "exit code {}: {}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }

    /// Both outputs, if the program failed.
    pub fn err(self) -> Result<String> {
        ensure!(self.code != 0, "it should have failed: {}", self.stdout);
        Ok(self.stdout + &self.stderr)
    }
}

impl Tool {
    /// A program without any flags of its own.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            first: Vec::new(),
            defaults: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The same with one more variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with an argument before all others.
    pub fn first(mut self, argument: &str) -> Self {
        self.first.push(argument.to_owned());
        self
    }

    /// The same with a flag that is added to every call that does not give it.
    pub fn default_flag(mut self, name: &str, value: &str) -> Self {
        self.defaults.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the program to its end.
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Finished> {
        self.run_with(args, "")
    }

    /// Runs the program to its end with a standard input.
    pub fn run_with<A: AsRef<OsStr>>(&self, args: &[A], input: &str) -> Result<Finished> {
        let mut child = self.spawn(args)?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts the program and follows what it prints.
    pub fn follow<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Running> {
        let mut child = self.spawn(args)?;
        let printed = Arc::new(Mutex::new(String::new()));
        let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        let readers = outputs
            .into_iter()
            .flatten()
            .map(|pipe| collect(pipe, &printed))
            .collect();
        Ok(Running {
            child,
            printed,
            readers,
        })
    }

    /// Starts the program with a first input; more can be typed in.
    pub fn follow_with<A: AsRef<OsStr>>(&self, args: &[A], input: &str) -> Result<Running> {
        let running = self.follow(args)?;
        running.type_in(input)?;
        Ok(running)
    }

    fn spawn<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Child> {
        let given = |flag: &str| args.iter().any(|arg| arg.as_ref() == flag);
        let defaults = self.defaults.iter().filter(|(flag, _)| !given(flag));
        Command::new(&self.program)
            .args(&self.first)
            .args(defaults.flat_map(|(flag, value)| [flag, value]))
            .args(args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{:?}", self.program))
    }
}

fn collect(
    mut pipe: Box<dyn std::io::Read + Send>,
    printed: &Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let printed = printed.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read) = pipe.read(&mut buffer) {
            if read == 0 {
                break;
            }
            if let Ok(mut printed) = printed.lock() {
                printed.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }
    })
}

/// A program that runs; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    printed: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Everything printed until now.
    pub fn printed(&self) -> String {
        self.printed
            .lock()
            .map(|printed| printed.clone())
            .unwrap_or_default()
    }

    /// Writes to the program's standard input.
    pub fn type_in(&self, input: &str) -> Result<()> {
        let mut stdin = self.child.stdin.as_ref().context("stdin is piped")?;
        Ok(stdin.write_all(input.as_bytes())?)
    }

    /// Ends the program's standard input.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until `text` has been printed; gives everything printed until then.
    pub async fn prints(&self, text: &str) -> Result<String> {
        wait_until(&format!("{text:?} is printed"), LINE_WITHIN, async || {
            Some(self.printed()).filter(|printed| printed.contains(text))
        })
        .await
        .with_context(|| format!("printed: {}", self.printed()))
    }

    /// SIGINT, as a user's Ctrl-C; gives the exit code and everything printed.
    pub async fn interrupt(mut self) -> Result<(i32, String)> {
        self.signal(Signal::INT)?;
        self.end().await
    }

    /// SIGTERM, as a service manager's stop; gives the exit code and everything printed.
    pub async fn terminate(mut self) -> Result<(i32, String)> {
        self.signal(Signal::TERM)?;
        self.end().await
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?).context("a process id is not 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end; gives the exit code and everything printed.
    pub async fn end(&mut self) -> Result<(i32, String)> {
        let status = wait_until("the program ends", LINE_WITHIN, async || {
            self.child.try_wait().transpose()
        })
        .await??;
        for reader in self.readers.drain(..) {
            reader.join().ok().context("the reader does not panic")?;
        }
        Ok((status.code().unwrap_or(-1), self.printed()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the program has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
