//! What becomes of a panic: it ends the process, unless a request alone pays for it.
//!
//! A store must not go on after a panic: what it left half done is not known. A request's handler may cost its own request and no
//! more. Both live in one process, so the release profile unwinds and the hook decides: a panic while a part of a request is polled
//! ([`cover`]) is the caller's to catch, and any other one ends the process before anything is unwound, as `panic = "abort"` does. A
//! store that is called within a request, in the same process, takes the cover off for that time ([`uncovered`]).
//!
//! ```text
//!   hyper ─ cover( handler ─ uncovered( store ) )      task, thread, worker of a database
//!             500, goes on     the process ends           the process ends
//! ```

use std::{
    any::Any,
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    process,
};

thread_local! {
    static COVERED: Cell<bool> = const { Cell::new(false) };
}

/// Says for its lifetime whether this thread works for a request.
struct Cover {
    before: bool,
}

impl Cover {
    fn set(covered: bool) -> Self {
        Self {
            before: COVERED.replace(covered),
        }
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        COVERED.set(self.before);
    }
}

/// Makes every panic that is not covered the end of the process. To be called once, before anything else is started.
pub fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if !COVERED.get() {
            process::abort();
        }
    }));
}

/// Runs a part of a request, or says why it panicked. What it was working on is lost with it: `part` must not be used again.
pub fn cover<T>(part: impl FnOnce() -> T) -> Result<T, String> {
    let covered = AssertUnwindSafe(|| {
        let _cover = Cover::set(true);
        part()
    });
    catch_unwind(covered).map_err(|panic| text(panic.as_ref()))
}

/// Work that is done within a request and is not its own: its panics end the process.
pub async fn uncovered<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _cover = Cover::set(false);
        work.as_mut().poll(cx)
    })
    .await
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", said.as_deref().unwrap_or("without a text"))
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{Command, ExitStatus},
        task::{Context, Poll, Waker},
        thread,
    };

    use super::*;

    /// Says to this program, started again, how it shall panic.
    const CONDUCT: &str = "CATENA_TEST_PANIC";

    /// What `abort` sends.
    const SIGABRT: i32 = 6;

    /// Polls work that never waits.
    fn poll<T>(work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => unreachable!("it waits for nothing"),
        }
    }

    #[test]
    fn the_cover_ends_with_its_part() {
        assert_eq!(cover(|| COVERED.get()), Ok(true));
        let inner = cover(|| (poll(uncovered(async { COVERED.get() })), COVERED.get()));
        assert_eq!(inner, Ok((false, true)));
        let said = cover(|| panic!("index {} is out", 7));
        assert_eq!(said, Err::<(), _>("panic: index 7 is out".to_owned()));
        assert!(!COVERED.get());
    }

    /// Not a test of its own: what the next one starts, in a process that may end.
    #[test]
    fn conduct() {
        let Ok(conduct) = env::var(CONDUCT) else {
            return;
        };
        install_hook();
        match conduct.as_str() {
            "covered" => assert!(cover(|| panic!("a handler's")).is_err()),
            "thread" => {
                let _ended = thread::spawn(|| panic!("a store's")).join();
            }
            "thread beside a request" => {
                let beside = || thread::spawn(|| panic!("a store's")).join();
                let _ended = cover(beside);
            }
            "store within a request" => {
                let _ended = cover(|| poll(uncovered(async { panic!("a store's") })));
            }
            other => unreachable!("nobody asks for {other}"),
        }
        // Only who is still there comes so far.
        process::exit(0);
    }

    fn run(conduct: &str) -> ExitStatus {
        let program = env::current_exe().unwrap();
        Command::new(program)
            .args(["--exact", "panic::tests::conduct", "--nocapture"])
            .env(CONDUCT, conduct)
            .output()
            .unwrap()
            .status
    }

    #[test]
    fn a_panic_that_no_request_pays_for_ends_the_process() {
        assert_eq!(run("covered").code(), Some(0));
        for conduct in [
            "thread",
            "thread beside a request",
            "store within a request",
        ] {
            assert_eq!(run(conduct).signal(), Some(SIGABRT), "{conduct}");
        }
    }
}
