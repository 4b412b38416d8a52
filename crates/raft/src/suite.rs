//! openraft's own suite of what log and state machine must do, on our log and on each engine.

use std::sync::Arc;

use catena_runtime::{Runtime, Task};
use catena_store::{
    Store,
    backend::{self, Engine},
};
use catena_wal::Wal;
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};

use crate::{
    log::Log,
    machine::{LogBounds, LogMeter, Machine, Parts, StateMachine},
    observer::Blind,
    stop::StopCell,
    transport::AddressBook,
    types::Prod,
};

struct Builder {
    engine: Engine,
}

/// Dropped after each case.
struct Guard {
    _commit: Task,
    _dir: tempfile::TempDir,
}

impl StoreBuilder<Prod, Log, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, StateMachine), StorageError<Prod>> {
        let runtime = Runtime::system();
        let dir = tempfile::tempdir().unwrap();
        let options = catena_wal::Options {
            segment_bytes: 1 << 20,
            ..Default::default()
        };
        let (wal, _) = Wal::open(&runtime, &dir.path().join("wal"), options).unwrap();
        let snap_dir = dir.path().join("snap");
        let backend = backend::open(self.engine, &runtime.disk, &snap_dir).unwrap();
        let bounds = LogBounds {
            proposals_max: u64::MAX,
            bytes_max: u64::MAX,
            proposals_keep: u64::MAX,
        };
        let (machine, work) = Machine::new(Parts {
            runtime: runtime.clone(),
            wal: wal.clone(),
            store: Store::open(backend.clone(), Default::default()).unwrap(),
            stop: StopCell::new(),
            member_id: 0,
            addresses: AddressBook::default(),
            meter: LogMeter::new(bounds, 0),
            engine: self.engine,
            backend,
            snap_dir,
            observer: std::sync::Arc::new(Blind),
        })
        .unwrap();
        let commit = machine.clone().commit_loop(work);
        let guard = Guard {
            _commit: runtime.tasks.spawn("commit", Box::pin(commit)),
            _dir: dir,
        };
        Ok((
            guard,
            Log::new(runtime, wal, Arc::new(Blind)),
            StateMachine::new(machine),
        ))
    }
}

fn run(engine: Engine) {
    Prod::run(async move {
        Suite::<Prod, Log, StateMachine, Builder, Guard>::test_all(Builder { engine })
            .await
            .unwrap();
    });
}

#[test]
fn memory_passes() {
    run(Engine::Memory);
}

#[test]
fn redb_passes() {
    run(Engine::Redb);
}

#[test]
fn sled_passes() {
    run(Engine::Sled);
}
