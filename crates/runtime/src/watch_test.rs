//! The order of waking, and the edges: nothing lost, nothing seen twice, the end after the last change.

use std::task::Wake;

use super::*;

/// Notes its number when it is woken.
struct Noting(u32, Arc<Mutex<Vec<u32>>>);

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        self.1.lock().push(self.0);
    }
}

#[derive(Default)]
struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    fn waker(&self, number: u32) -> Waker {
        Waker::from(Arc::new(Noting(number, self.0.clone())))
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock())
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn waiters_wake_in_the_order_in_which_they_came() {
    let (log, sender) = (Log::default(), Sender::new(0));
    let mut receivers: Vec<_> = (0..20).map(|_| sender.subscribe()).collect();
    let mut waits: Vec<_> = receivers.iter_mut().map(Receiver::changed).collect();
    let order: Vec<u32> = (0..20).map(|number| number * 7 % 20).collect();
    for number in &order {
        assert!(poll(&mut waits[*number as usize], &log.waker(*number)).is_pending());
    }
    sender.send_replace(1);
    assert_eq!(log.take(), order);
    sender.send_replace(2);
    assert_eq!(log.take(), [], "who was woken waits no more");
}

#[test]
fn a_second_poll_keeps_the_place_and_takes_the_new_waker() {
    let (log, sender) = (Log::default(), Sender::new(0));
    let (mut one, mut other) = (sender.subscribe(), sender.subscribe());
    let (mut one, mut other) = (one.changed(), other.changed());
    assert!(poll(&mut one, &log.waker(1)).is_pending());
    assert!(poll(&mut other, &log.waker(2)).is_pending());
    assert!(poll(&mut one, &log.waker(3)).is_pending());
    sender.send_replace(1);
    assert_eq!(log.take(), [3, 2]);
}

#[test]
fn a_dropped_wait_is_not_woken_and_loses_nothing() {
    let (log, sender) = (Log::default(), Sender::new(0));
    let mut receiver = sender.subscribe();
    let mut wait = receiver.changed();
    assert!(poll(&mut wait, &log.waker(1)).is_pending());
    drop(wait);
    sender.send_replace(1);
    assert_eq!(log.take(), []);
    assert_eq!(
        poll(&mut receiver.changed(), Waker::noop()),
        Poll::Ready(Ok(()))
    );
    assert!(poll(&mut receiver.changed(), Waker::noop()).is_pending());
}

#[test]
fn the_last_change_comes_before_the_end() {
    let (sender, mut receiver) = channel(0);
    let other = sender.clone();
    sender.send_replace(1);
    drop(sender);
    assert_eq!(
        poll(&mut receiver.changed(), Waker::noop()),
        Poll::Ready(Ok(()))
    );
    assert!(poll(&mut receiver.changed(), Waker::noop()).is_pending());
    let log = Log::default();
    let mut wait = receiver.changed();
    assert!(poll(&mut wait, &log.waker(1)).is_pending());
    drop(other);
    assert_eq!(log.take(), [1]);
    assert_eq!(poll(&mut wait, Waker::noop()), Poll::Ready(Err(Closed)));
}

#[test]
fn a_change_that_is_none_wakes_nobody() {
    let (log, sender) = (Log::default(), Sender::new(0));
    let mut receiver = sender.subscribe();
    let mut wait = receiver.changed();
    assert!(poll(&mut wait, &log.waker(1)).is_pending());
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(log.take(), []);
    assert!(poll(&mut wait, &log.waker(1)).is_pending());
}

#[test]
fn what_counts_as_seen() {
    let (sender, mut receiver) = channel(0);
    sender.send_modify(|value| *value += 1);
    assert_eq!(*receiver.borrow(), 1);
    assert!(poll(&mut receiver.changed(), Waker::noop()).is_ready());
    sender.send_modify(|value| *value += 1);
    assert_eq!(*receiver.borrow_and_update(), 2);
    assert!(poll(&mut receiver.changed(), Waker::noop()).is_pending());
    assert_eq!(sender.send_replace(9), 2);
    receiver.mark_unchanged();
    assert!(poll(&mut receiver.changed(), Waker::noop()).is_pending());
    assert_eq!(*sender.borrow(), 9);
}

#[test]
fn waiting_for_a_value_skips_the_others() {
    let (sender, mut receiver) = channel(0);
    {
        let mut wait = std::pin::pin!(receiver.wait_for(|value| *value >= 2));
        assert!(poll(&mut wait, Waker::noop()).is_pending());
        sender.send_replace(1);
        assert!(poll(&mut wait, Waker::noop()).is_pending());
        sender.send_replace(3);
        let Poll::Ready(Ok(value)) = poll(&mut wait, Waker::noop()) else {
            panic!("the value is there");
        };
        assert_eq!(*value, 3);
    }
    drop(sender);
    let mut again = std::pin::pin!(receiver.wait_for(|value| *value == 3));
    let Poll::Ready(found) = poll(&mut again, Waker::noop()) else {
        panic!("the value is still there");
    };
    assert_eq!(found.map(|value| *value), Ok(3));
}

#[test]
fn an_end_that_never_fits_is_an_error() {
    let (sender, mut receiver) = channel(0);
    drop(sender);
    let mut wait = std::pin::pin!(receiver.wait_for(|value| *value == 1));
    let Poll::Ready(found) = poll(&mut wait, Waker::noop()) else {
        panic!("nobody can send any more");
    };
    assert_eq!(found.map(|value| *value), Err(Closed));
}

#[test]
fn no_change_is_lost_between_threads() {
    const CHANGES: u64 = 20_000;
    let (sender, receiver) = channel(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut receiver = receiver.clone();
            scope.spawn(move || {
                futures_executor::block_on(async {
                    let end = receiver.wait_for(|value| *value == CHANGES).await;
                    assert_eq!(end.map(|value| *value), Ok(CHANGES));
                });
            });
        }
        for _ in 0..CHANGES {
            sender.send_modify(|value| *value += 1);
        }
    });
}
