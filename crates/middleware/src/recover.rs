//! A handler that panics costs its own request and no more.
//!
//! This stands outside of everything else that answers. What it catches are panics of this one future, so the connection and its
//! other requests go on; line and count of the request are written as its future is dropped. The store lives in the same process
//! and must not go on after a panic: [`install_hook`] ends the process for every panic that is not a request's.

use std::{cell::Cell, future::Future, panic::AssertUnwindSafe, pin::pin, task::Poll};

use futures_util::FutureExt;

use crate::error::{Error, Result};

thread_local! {
    static COVERED: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread while a request's future is polled.
struct Covered(bool);

impl Covered {
    fn begin() -> Self {
        Self(COVERED.replace(true))
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        COVERED.set(self.0);
    }
}

/// What `work` gives, or the error that stands for its panic.
pub async fn catch<F: Future>(work: F) -> Result<F::Output> {
    let covered = async {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| -> Poll<F::Output> {
            let _covered = Covered::begin();
            work.as_mut().poll(cx)
        })
        .await
    };
    AssertUnwindSafe(covered)
        .catch_unwind()
        .await
        .map_err(|panic| Error::internal(text(panic.as_ref())))
}

/// What a panic says.
fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", said.as_deref().unwrap_or("without a text"))
}

/// Makes every panic outside of a request the end of the process, as `panic = "abort"` would.
pub fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if !COVERED.get() {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_says_why_to_the_log() {
        let panics = async { panic!("index {} is out", 7) };
        let caught: Result<()> = catch(panics).await;
        let error = caught.unwrap_err();
        assert_eq!(error.code(), 500);
        assert_eq!(error.causes().unwrap(), "panic: index 7 is out");
        assert!(!COVERED.get());
    }

    #[tokio::test]
    async fn a_request_is_covered_while_it_runs_and_no_longer() {
        let seen = catch(async {
            tokio::task::yield_now().await;
            COVERED.get()
        });
        assert!(seen.await.unwrap());
        assert!(!COVERED.get());
    }
}
