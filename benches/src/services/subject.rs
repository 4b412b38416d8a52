//! A server in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::{net::TcpListener, runtime::Runtime};

use super::{bare, ours};
use crate::process::Servers;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Bare axum and tonic.
    Bare,
    /// The gateway and the user service.
    Ours,
}

/// A server that runs; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Subject {
    process: Child,
    /// Where it speaks HTTP.
    pub(crate) rest: SocketAddr,
    /// Where it speaks gRPC.
    pub(crate) grpc: SocketAddr,
}

impl Subject {
    /// Starts this program anew in a role, and waits until it listens. Its log goes nowhere, but is written.
    pub(crate) fn start(role: Role, database: &str) -> Result<Self> {
        let role = role.to_possible_value().context("every role has a name")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["services-subject", role.get_name(), database])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = process.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addresses = line.trim().split_once(' ');
        let (rest, grpc) = addresses.context("the subject did not start")?;
        Ok(Self {
            process,
            rest: rest.parse()?,
            grpc: grpc.parse()?,
        })
    }

    /// Its process.
    pub(crate) fn servers(&self) -> Servers {
        Servers::new(vec![self.process.id()])
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Both fail only if the process has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves in a role until the process is ended; the first line of its output are its two addresses.
pub(crate) fn serve(role: Role, database: &str) -> Result<()> {
    Runtime::new()?.block_on(async {
        let rest = TcpListener::bind("127.0.0.1:0").await?;
        let grpc = TcpListener::bind("127.0.0.1:0").await?;
        let line = format!("{} {}", rest.local_addr()?, grpc.local_addr()?);
        let listening = || {
            let mut stdout = std::io::stdout();
            writeln!(stdout, "{line}")?;
            stdout.flush()
        };
        match role {
            Role::Bare => bare::serve(rest, grpc, database, listening).await,
            Role::Ours => ours::serve(rest, grpc, database, listening).await,
        }
    })
}
