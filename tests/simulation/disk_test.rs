//! The disk forgets what it should and nothing else.

use std::{path::Path, time::Duration};

use catena_runtime::{Disk, OpenMode};

use crate::{
    Case,
    disk::Crash,
    world::{self, Machine, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "disk::a_stalled_disk_ends_no_sync_until_it_moves_again",
            a_stalled_disk_ends_no_sync_until_it_moves_again,
        ),
        (
            "disk::a_bit_rots_in_what_was_durable",
            a_bit_rots_in_what_was_durable,
        ),
        (
            "disk::what_is_synced_survives_and_the_rest_is_a_torn_prefix",
            what_is_synced_survives_and_the_rest_is_a_torn_prefix,
        ),
        ("disk::a_kill_loses_nothing", a_kill_loses_nothing),
        (
            "disk::a_rename_is_all_or_nothing_until_its_directory_is_synced",
            a_rename_is_all_or_nothing_until_its_directory_is_synced,
        ),
        (
            "disk::a_failed_sync_leaves_what_no_platter_has",
            a_failed_sync_leaves_what_no_platter_has,
        ),
        (
            "disk::a_full_disk_takes_what_fits",
            a_full_disk_takes_what_fits,
        ),
        (
            "disk::handles_of_a_crashed_process_are_dead_and_its_locks_free",
            handles_of_a_crashed_process_are_dead_and_its_locks_free,
        ),
    ]
}

fn dir() -> &'static Path {
    Path::new("/member")
}

fn contents(disk: &dyn Disk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&dir().join(name), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn write(disk: &dyn Disk, name: &str, data: &[u8], sync: bool) {
    let file = disk.open(&dir().join(name), OpenMode::Create).unwrap();
    file.write_all_at(data, file.len().unwrap()).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

fn what_is_synced_survives_and_the_rest_is_a_torn_prefix() {
    with_seeds(
        "disk::what_is_synced_survives_and_the_rest_is_a_torn_prefix",
        50,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let disk = machine.boot().disk;
            disk.create_dir_all(dir()).unwrap();
            write(&*disk, "file", b"durable,", true);
            disk.sync_dir(dir()).unwrap();
            for _ in 0..3 {
                write(&*disk, "file", b"perhaps,", false);
            }
            machine.crash(Crash::Power);
            let after = contents(&*machine.boot().disk, "file").unwrap();
            let all = b"durable,perhaps,perhaps,perhaps,";
            assert!(
                all.starts_with(&after) && after.starts_with(b"durable,"),
                "{after:?}"
            );
        },
    );
}

fn a_kill_loses_nothing() {
    with_seeds("disk::a_kill_loses_nothing", 1, async |chance| {
        let machine = Machine::new("m1", &chance);
        let disk = machine.boot().disk;
        disk.create_dir_all(dir()).unwrap();
        write(&*disk, "file", b"not synced", false);
        machine.crash(Crash::Kill);
        let after = contents(&*machine.boot().disk, "file");
        assert_eq!(after.as_deref(), Some(&b"not synced"[..]));
    });
}

fn a_rename_is_all_or_nothing_until_its_directory_is_synced() {
    let seen = parking_lot::Mutex::new(std::collections::BTreeSet::new());
    with_seeds(
        "disk::a_rename_is_all_or_nothing_until_its_directory_is_synced",
        50,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let disk = machine.boot().disk;
            disk.create_dir_all(dir()).unwrap();
            write(&*disk, "old", b"new contents", true);
            write(&*disk, "name", b"old contents", true);
            disk.sync_dir(dir()).unwrap();
            disk.rename(&dir().join("old"), &dir().join("name"))
                .unwrap();
            machine.crash(Crash::Power);
            let disk = machine.boot().disk;
            let after = contents(&*disk, "name").unwrap();
            assert_eq!(disk.exists(&dir().join("old")), after == b"old contents");
            seen.lock().insert(after);
        },
    );
    assert_eq!(seen.lock().len(), 2, "both outcomes occur");
}

fn a_failed_sync_leaves_what_no_platter_has() {
    with_seeds(
        "disk::a_failed_sync_leaves_what_no_platter_has",
        1,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let disk = machine.boot().disk;
            disk.create_dir_all(dir()).unwrap();
            write(&*disk, "file", b"one,", true);
            disk.sync_dir(dir()).unwrap();
            machine.drive().fail_sync_after(0);
            let file = disk.open(&dir().join("file"), OpenMode::Write).unwrap();
            file.write_all_at(b"two,", 4).unwrap();
            file.sync().unwrap_err();
            file.sync().unwrap();
            assert_eq!(contents(&*disk, "file").as_deref(), Some(&b"one,two,"[..]));
            machine.crash(Crash::Power);
            let after = contents(&*machine.boot().disk, "file");
            assert_eq!(after.as_deref(), Some(&b"one,"[..]));
        },
    );
}

fn a_full_disk_takes_what_fits() {
    with_seeds("disk::a_full_disk_takes_what_fits", 1, async |chance| {
        let machine = Machine::new("m1", &chance);
        let disk = machine.boot().disk;
        disk.create_dir_all(dir()).unwrap();
        let file = disk.open(&dir().join("file"), OpenMode::Create).unwrap();
        machine.drive().set_room(Some(3));
        let error = file.write_all_at(b"12345", 0).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(contents(&*disk, "file").as_deref(), Some(&b"123"[..]));
        file.write_all_at(b"abc", 0).unwrap();
        machine.drive().set_room(None);
        file.write_all_at(b"12345", 0).unwrap();
    });
}

fn handles_of_a_crashed_process_are_dead_and_its_locks_free() {
    with_seeds(
        "disk::handles_of_a_crashed_process_are_dead_and_its_locks_free",
        1,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let disk = machine.boot().disk;
            disk.create_dir_all(dir()).unwrap();
            let open = |disk: &dyn Disk| disk.open(&dir().join("lock"), OpenMode::Create).unwrap();
            let file = open(&*disk);
            assert!(file.try_lock().unwrap());
            assert!(!open(&*disk).try_lock().unwrap());
            machine.crash(Crash::Kill);
            file.write_all_at(b"late", 0).unwrap_err();
            assert!(disk.list(dir()).is_err());
            let disk = machine.boot().disk;
            let again = open(&*disk);
            assert!(again.try_lock().unwrap());
            drop(file);
            assert!(!open(&*disk).try_lock().unwrap());
            drop(again);
            assert!(open(&*disk).try_lock().unwrap());
        },
    );
}

fn a_stalled_disk_ends_no_sync_until_it_moves_again() {
    let name = "disk::a_stalled_disk_ends_no_sync_until_it_moves_again";
    with_seeds(name, 5, async |chance| {
        let machine = Machine::new("m1", &chance);
        let disk = machine.boot().disk;
        let drive = machine.drive().clone();
        drive.set_stalled(true);
        world::spawn(async move {
            world::sleep(Duration::from_secs(5)).await;
            drive.set_stalled(false);
        });
        disk.sync_delay().await;
        assert!(world::now() >= Duration::from_secs(5));
    });
}

fn a_bit_rots_in_what_was_durable() {
    with_seeds("disk::a_bit_rots_in_what_was_durable", 5, async |chance| {
        let machine = Machine::new("m1", &chance);
        let disk = machine.boot().disk;
        disk.create_dir_all(dir()).unwrap();
        assert_eq!(machine.drive().rot(dir()), None, "there is nothing to rot");
        write(&*disk, "file", b"durable", true);
        disk.sync_dir(dir()).unwrap();
        assert_eq!(machine.drive().rot(dir()), Some(dir().join("file")));
        machine.crash(Crash::Power);
        let after = contents(&*machine.boot().disk, "file").unwrap();
        let flipped = after
            .iter()
            .zip(b"durable")
            .map(|(one, other)| (one ^ other).count_ones());
        assert_eq!(flipped.sum::<u32>(), 1);
    });
}
