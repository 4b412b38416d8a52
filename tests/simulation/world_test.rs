//! The world itself: seeds replay, and the command line says which.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{
    Case,
    world::{
        self, Chance, a_panic_of_a_task_fails_the_run, a_run_that_hangs_fails,
        arguments_are_told_apart, runs_that_part_are_told_apart, with_seeds,
    },
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "world::runs_that_part_are_told_apart",
            runs_that_part_are_told_apart,
        ),
        (
            "world::a_panic_of_a_task_fails_the_run",
            a_panic_of_a_task_fails_the_run,
        ),
        ("world::a_run_that_hangs_fails", a_run_that_hangs_fails),
        ("world::arguments_are_told_apart", arguments_are_told_apart),
        (
            "world::equal_times_keep_their_order",
            equal_times_keep_their_order,
        ),
    ]
}

/// Tasks that wake at the same instant run in the order in which they went to sleep.
fn equal_times_keep_their_order() {
    with_seeds(
        "world::equal_times_keep_their_order",
        3,
        async |chance: Chance| {
            let order = std::sync::Arc::new(Mutex::new(Vec::new()));
            let until = chance.micros(1000);
            for number in 0..20 {
                let order = order.clone();
                world::spawn(async move {
                    world::sleep(until).await;
                    order.lock().push(number);
                });
            }
            world::sleep(until + Duration::from_micros(1)).await;
            assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
        },
    );
}
