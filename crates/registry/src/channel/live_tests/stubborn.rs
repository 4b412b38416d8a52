//! Servers that take a request and do not answer it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::Instance;

/// What it does with a request.
#[derive(Clone, Copy)]
pub(super) enum Conduct {
    /// Resets its stream as refused.
    RefuseStream,
    /// Closes the connection.
    HangUp,
    /// Closes the connection, speaking HTTP/1.1.
    HangUpHttp,
}

pub(super) struct Stubborn {
    instance: Instance,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Stubborn {
    pub(super) async fn start(id: &str, conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, conduct, Arc::clone(&counted)));
            }
        });
        Self {
            instance: super::instance(id, &format!("grpc://{address}")),
            requests,
            _tasks: tasks,
        }
    }

    pub(super) fn instance(&self) -> Instance {
        self.instance.clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, conduct: Conduct, requests: Arc<AtomicUsize>) {
    if let Conduct::HangUpHttp = conduct {
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_ok_and(|count| count > 0) {
            requests.fetch_add(1, Ordering::SeqCst);
        }
        return;
    }
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        requests.fetch_add(1, Ordering::SeqCst);
        match conduct {
            Conduct::RefuseStream => respond.send_reset(h2::Reason::REFUSED_STREAM),
            Conduct::HangUp | Conduct::HangUpHttp => return,
        }
    }
}

/// An address where nobody listens, and nobody can who is not root: a port that was just free may be another test's next.
pub(super) fn dead_address(number: u16) -> String {
    assert!((1..7).contains(&number), "of the first ports");
    format!("127.0.0.1:{number}")
}
