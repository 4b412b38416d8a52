//! Registration: an instance that stays registered.
//!
//! ```text
//!                     ┌──────────────┐ foreign epoch ┌──────────┐
//!   register() ─────► │ Registering  │ ────────────► │ Conflict │
//!                     └──────┬───────┘ ◄──────────── └──────────┘
//!                    granted │  ▲        key is free      ▲
//!                   and put  ▼  │ every try, for ever     │ taken over
//!                     ┌──────────────┐                    │
//!                     │  Registered  │ ───────────────────┘
//!                     └─┬──────────▲─┘
//!       lease gone, or  │          │ new lease, same transaction
//!       silent for TTL  ▼          │
//!                     ┌──────────────┐
//!                     │     Lost     │        any ──► Draining ──► Deregistered
//!                     └──────────────┘
//! ```
//!
//! Each registration owns one lease and one task (`machine`), which never gives up: whatever happens to the store, the instance is
//! back when the store is. The transactions that it writes with, and how it knows its own keys again, are in `claim`. Operators
//! who want an instance out of the way override it: a key that is deleted by hand is back within a second.

mod claim;
#[cfg(test)]
mod fake_store;
#[cfg(test)]
mod hour_down_tests;
mod machine;
mod slot;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

pub use self::slot::{ClientSlot, Subscriber};
pub(crate) use self::{
    machine::{Counters, Machine, Store},
    slot::{claim as claim_slot, subscribers},
};
use crate::{Error, Instance, Layout, Registry, Result, Status, Ulid};

/// Who registers instances.
#[async_trait]
pub trait Registrar: Send + Sync {
    /// Registers an instance and keeps it registered until the registration is dropped.
    ///
    /// Answers once the first attempt is decided: registered, held by somebody else, or failed. A store that cannot be reached is
    /// no error: the registration goes on by itself, and its state tells. [`OnConflict::Fail`] makes a name that is held an error.
    async fn register(&self, instance: Instance, options: RegisterOptions) -> Result<Registration>;
}

/// What to do when another process holds the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Wait until it is free; the state is [`RegState::Conflict`] meanwhile.
    #[default]
    Wait,
    /// Refuse to register. A conflict that arises later is waited for.
    Fail,
    /// Take the name. Whoever loses a name so waits until it is free, whatever its options say: two that both take over would
    /// never rest.
    Takeover,
}

/// How an instance is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterOptions {
    /// The lease's TTL to ask for: 10 seconds. The store may grant more.
    pub ttl: Duration,
    /// What to do when the name is held.
    pub on_conflict: OnConflict,
    /// The layouts to write, all on one lease and in one transaction: native alone.
    pub layouts: Vec<Layout>,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            on_conflict: OnConflict::Wait,
            layouts: vec![Layout::Native],
        }
    }
}

/// Where a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegState {
    /// It has never stood yet.
    Registering {
        /// Since when.
        since: Instant,
        /// Failed attempts.
        attempt: u64,
        /// Why the last one failed.
        last_error: Option<Error>,
    },
    /// It stands.
    Registered {
        /// The lease.
        lease: i64,
        /// The revision at which it was written.
        revision: i64,
        /// Since when.
        since: Instant,
    },
    /// It stood, and is being brought back.
    Lost {
        /// Since when.
        since: Instant,
        /// Failed attempts.
        attempt: u64,
        /// Why the last one failed, or why it was lost.
        last_error: Option<Error>,
    },
    /// Somebody else holds the name.
    Conflict {
        /// Since when.
        since: Instant,
        /// The key that is held.
        key: String,
        /// The other's epoch, if its layout carries one.
        holder_epoch: Option<Ulid>,
    },
    /// It stands and wants no more calls.
    Draining,
    /// It is over.
    Deregistered,
}

impl RegState {
    /// The state in one word, as metrics and pages show it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Registering { .. } => "registering",
            Self::Registered { .. } => "registered",
            Self::Lost { .. } => "lost",
            Self::Conflict { .. } => "conflict",
            Self::Draining => "draining",
            Self::Deregistered => "deregistered",
        }
    }
}

/// What the owner asks of the machine.
pub(crate) enum Command {
    /// Write this from now on.
    Update(Box<Instance>, oneshot::Sender<Result<()>>),
    /// Leave the registry.
    Deregister(oneshot::Sender<Result<()>>),
}

/// Commands that wait: an owner awaits each one's answer.
pub(crate) const COMMANDS_MAX: usize = 16;

/// An instance that is kept registered. Dropping it takes the instance out of the registry in the background, as far as the store
/// can be reached; [`deregister`](Self::deregister) says whether that succeeded.
pub struct Registration {
    instance: Mutex<Instance>,
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<RegState>,
    /// Keeps the tasks of the registry alive.
    _registry: Registry,
}

impl Registration {
    pub(crate) fn new(
        instance: Instance,
        commands: mpsc::Sender<Command>,
        state: watch::Receiver<RegState>,
        registry: Registry,
    ) -> Self {
        Self {
            instance: Mutex::new(instance),
            commands,
            state,
            _registry: registry,
        }
    }

    /// The instance as it is, or will be, written.
    pub fn instance(&self) -> Instance {
        self.instance.lock().clone()
    }

    /// Where the registration stands, and its changes.
    pub fn state(&self) -> watch::Receiver<RegState> {
        self.state.clone()
    }

    /// Changes the instance. Answers when the change is written; or at once if the registration does not stand: then the change is
    /// written when it comes back. Id, service and epoch stay as they are.
    pub async fn update(&self, change: impl FnOnce(&mut Instance)) -> Result<()> {
        let instance = {
            let mut current = self.instance.lock();
            let mut changed = current.clone();
            change(&mut changed);
            changed.id.clone_from(&current.id);
            changed.service = current.service.clone();
            changed.epoch = current.epoch;
            changed.check()?;
            *current = changed.clone();
            changed
        };
        self.ask(|answer| Command::Update(Box::new(instance), answer))
            .await
    }

    /// Says that no more calls are wanted, then waits for `grace`, in which callers take notice. Other layouts know no such status:
    /// their keys are deleted. Ends early if the store cannot be told, with the error; calls go on either way.
    pub async fn drain(&self, grace: Duration) -> Result<()> {
        self.update(|instance| instance.status = Status::Draining)
            .await?;
        tokio::time::sleep(grace).await;
        Ok(())
    }

    /// Takes the instance out of the registry. After an error its keys last until the lease runs out.
    pub async fn deregister(self) -> Result<()> {
        self.ask(Command::Deregister).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command,
    ) -> Result<()> {
        let (tx, rx) = oneshot::channel();
        let sent = self.commands.send(command(tx)).await;
        sent.map_err(|_ended| Error::Closed)?;
        rx.await.map_err(|_ended| Error::Closed)?
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("instance", &self.instance())
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
