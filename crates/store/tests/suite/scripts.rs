//! One test for each script.

use crate::script::run;

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_script_is_run() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
            let files = std::fs::read_dir(directory).unwrap();
            let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
            files.sort();
            let mut named = vec![$(stringify!($name)),*];
            named.sort_unstable();
            assert_eq!(files, named);
        }
    };
}

scripts! {
    alarm_corrupt
    alarms
    compact
    compact_restart
    compact_revision_stays
    compact_tombstone
    compact_zero
    delete_range
    hash_compacted
    hash_left
    hash_left_zero
    hash_vectors
    lease_attach
    lease_checkpoint
    lease_feed
    lease_grant
    lease_revoke
    members
    put
    put_ignore
    quota
    range_checks
    range_filters
    range_interval
    range_keys_only
    range_limit
    range_revision
    range_sort
    range_stream
    restart
    snapshot
    txn_checks
    txn_compare
    txn_compare_range
    txn_duplicates
    txn_gap
    txn_headers
    txn_order
    txn_prestate
    txn_read_only
    txn_validate
    txn_validate_negative
    watch_cancel
    watch_compacted
    watch_create
    watch_events
    watch_filters
    watch_fragments
    watch_future
    watch_ids
    watch_past
    watch_prev_kv
    watch_progress
    watch_slow
    watch_small_polls
    watch_snapshot
    watch_tick
}
