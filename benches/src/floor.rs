//! The floor: a bare tonic server that answers each call with a fixed message. No server that speaks gRPC in Rust costs less.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use catena_api::etcd::etcdserverpb::{
    self as pb,
    kv_server::{Kv, KvServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Pending, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

/// A floor in a process of its own; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Floor {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Floor {
    /// Starts this program anew as a floor and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("floor")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("the floor did not start")?;
        Ok(Self { process, address })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Both fail only if the process has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until the process is ended; the first line of its output is its address. One thread does all, the cheapest there is.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", listener.local_addr()?)?;
        stdout.flush()?;
        let connections = TcpListenerStream::new(listener);
        Server::builder()
            .tcp_nodelay(true)
            .add_service(KvServer::new(Fixed))
            .serve_with_incoming(connections)
            .await?;
        Ok(())
    })
}

/// The answers.
#[derive(Debug)]
struct Fixed;

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: u64::MAX,
        revision: 1 << 20,
        raft_term: 2,
    })
}

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the floor has no answer for it"))
}

#[tonic::async_trait]
impl Kv for Fixed {
    type RangeStreamStream = Pending<Result<pb::RangeStreamResponse, Status>>;

    async fn range(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(pb::RangeResponse {
            header: header(),
            ..Default::default()
        }))
    }

    async fn put(&self, _: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(pb::PutResponse {
            header: header(),
            prev_kv: None,
        }))
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Ok(Response::new(pb::TxnResponse {
            header: header(),
            succeeded: true,
            responses: Vec::new(),
        }))
    }

    async fn range_stream(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        absent()
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        absent()
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        absent()
    }
}
