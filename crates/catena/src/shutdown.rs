//! Why a member is asked to stop, and how the process ends then.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use signal_hook::low_level::emulate_default_handler;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Set by `catena up` in its members' environment: the member's stdin is a pipe that its supervisor holds open, and the member
/// stops when the pipe closes. So no member outlives a supervisor that was killed. A line on the pipe asks for the first half of that:
/// the services leave, and the member, which those of others may need to leave as well, stays until the pipe closes.
pub(crate) const SUPERVISED_VARIABLE: &str = "CATENA_SUPERVISED";

/// One press of Ctrl-C or one `timeout` may deliver its signal twice, to the process and to its group: that is one request.
const ECHO_WITHIN: Duration = Duration::from_millis(200);

/// Who asked the member to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The supervisor wants the services to leave.
    Drain,
    /// The supervisor closed the pipe, or died.
    Supervisor,
}

/// What the supervisor writes into the pipe.
pub(crate) const DRAIN: &[u8] = b"drain\n";

impl Request {
    /// As Go names the signal, which is how etcd logs it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Request::Interrupt => "interrupt",
            Request::Terminate => "terminated",
            Request::Drain => "supervisor drains",
            Request::Supervisor => "supervisor closed",
        }
    }

    /// Ends the process the way its parent expects: by the signal that asked for it, so that a shell sees 130 or 143 and systemd a
    /// clean stop. The first process of a container ends with 0, since signals without a handler do not reach it.
    pub(crate) fn end_process(self) -> ! {
        let number = match self {
            Request::Interrupt => SignalKind::interrupt().as_raw_value(),
            Request::Terminate => SignalKind::terminate().as_raw_value(),
            Request::Drain | Request::Supervisor => std::process::exit(0),
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
    supervisor: Option<mpsc::Receiver<Request>>,
    /// The last request, and when it came.
    last: Option<(Request, Instant)>,
}

impl Requests {
    /// From now on signals do not end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let supervised = Self::is_supervised();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            supervisor: supervised.then(watch_stdin),
            last: None,
        })
    }

    /// Whether a supervisor watches, who tells an end that was asked for from others by its signal.
    pub(crate) fn is_supervised() -> bool {
        std::env::var_os(SUPERVISED_VARIABLE).is_some()
    }

    /// The next request; an echo of the last one is none.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            let request = tokio::select! {
                _ = self.interrupt.recv() => Request::Interrupt,
                _ = self.terminate.recv() => Request::Terminate,
                request = supervised(&mut self.supervisor) => request,
            };
            let now = Instant::now();
            if !is_echo(self.last, request, now) {
                self.last = Some((request, now));
                return request;
            }
        }
    }
}

/// Whether a request that comes now is the last one, delivered again.
fn is_echo(last: Option<(Request, Instant)>, request: Request, now: Instant) -> bool {
    last.is_some_and(|(last, at)| last == request && now.duration_since(at) < ECHO_WITHIN)
}

/// What comes through the pipe; its end comes once.
async fn supervised(supervisor: &mut Option<mpsc::Receiver<Request>>) -> Request {
    let Some(pipe) = supervisor.as_mut() else {
        return std::future::pending().await;
    };
    match pipe.recv().await {
        Some(request) => request,
        // The thread that watches it has ended.
        None => {
            *supervisor = None;
            Request::Supervisor
        }
    }
}

/// Reads stdin to its end on a thread of its own, since that read cannot be cancelled.
fn watch_stdin() -> mpsc::Receiver<Request> {
    // One request there is, beside the end.
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(read) if read > 0) {
            // Full if it was asked before, closed if nobody listens any more.
            let _known = sender.try_send(Request::Drain);
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_request_at_once_is_an_echo() {
        let at = Instant::now();
        let last = Some((Request::Interrupt, at));
        let (soon, later) = (at + ECHO_WITHIN / 2, at + ECHO_WITHIN);
        assert!(is_echo(last, Request::Interrupt, soon));
        assert!(!is_echo(last, Request::Interrupt, later));
        assert!(!is_echo(last, Request::Terminate, soon));
        assert!(!is_echo(None, Request::Interrupt, soon));
    }
}
