//! Why a member is asked to stop, and how the process ends then.

use std::io::{self, Read};

use signal_hook::low_level::emulate_default_handler;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// Set by `catena up` in its members' environment: the member's stdin is a pipe that its supervisor holds open, and the member
/// stops when the pipe closes. So no member outlives a supervisor that was killed.
pub(crate) const SUPERVISED_VARIABLE: &str = "CATENA_SUPERVISED";

/// Who asked the member to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The supervisor closed the pipe, or died.
    Supervisor,
}

impl Request {
    /// As Go names the signal, which is how etcd logs it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Request::Interrupt => "interrupt",
            Request::Terminate => "terminated",
            Request::Supervisor => "supervisor closed",
        }
    }

    /// Ends the process the way its parent expects: by the signal that asked for it, so that a shell sees 130 or 143 and systemd a
    /// clean stop. The first process of a container ends with 0, since signals without a handler do not reach it.
    pub(crate) fn end_process(self) -> ! {
        let number = match self {
            Request::Interrupt => SignalKind::interrupt().as_raw_value(),
            Request::Terminate => SignalKind::terminate().as_raw_value(),
            Request::Supervisor => std::process::exit(0),
        };
        if std::process::id() == 1 {
            std::process::exit(0);
        }
        if let Err(error) = emulate_default_handler(number) {
            tracing::warn!(%error, "cannot end by signal");
        }
        std::process::exit(128 + number)
    }
}

/// Waits for requests to stop.
#[derive(Debug)]
pub(crate) struct Requests {
    interrupt: Signal,
    terminate: Signal,
    /// Absent: nobody supervises, or the pipe is closed already.
    supervisor: Option<oneshot::Receiver<()>>,
}

impl Requests {
    /// From now on signals do not end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let supervised = std::env::var_os(SUPERVISED_VARIABLE).is_some();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            supervisor: supervised.then(watch_stdin),
        })
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::Terminate,
            () = closed(&mut self.supervisor) => Request::Supervisor,
        }
    }
}

/// Completes once, when the pipe has closed.
async fn closed(supervisor: &mut Option<oneshot::Receiver<()>>) {
    match supervisor.as_mut() {
        Some(pipe) => {
            // The thread that watches it ends by dropping the sender.
            let _dropped = pipe.await;
            *supervisor = None;
        }
        None => std::future::pending().await,
    }
}

/// Reads stdin to its end on a thread of its own, since that read cannot be cancelled.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(read) if read > 0) {}
        drop::<oneshot::Sender<()>>(sender);
    });
    receiver
}
