//! Everything that one process runs, from its start to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use catena_client::Kv;
use catena_middleware::{lifecycle, serve::Serving};
use tokio::sync::oneshot;

use super::{
    gateway::Front,
    live::{Following, Levels},
    process::Process,
    settings::{Service, Settings},
    store::Store,
    user::{self, User},
};

/// The store, as far as it is here, and the services on it.
pub(crate) struct Running {
    store: Store,
    services: Services,
}

/// The services of one process.
pub(crate) struct Services {
    process: Process,
    user: Option<User>,
    gateway: Option<Front>,
    listeners: Vec<Serving>,
    following: Vec<Following>,
    propagation: Duration,
}

impl Services {
    async fn start(
        store: &Store,
        kv: Arc<dyn Kv>,
        settings: &Settings,
        levels: Levels,
    ) -> Result<Self> {
        let process = Process::new(kv, settings, levels, store.place()).await?;
        let runs = |service| settings.services.contains(&service);
        let (mut listeners, mut following) = (Vec::new(), Vec::new());
        let user = match runs(Service::User) {
            true => {
                let (user, serving, follows) = User::start(&process, &settings.user).await?;
                listeners.push(serving);
                following.push(follows);
                Some(user)
            }
            false => None,
        };
        let gateway = match runs(Service::Gateway) {
            true => {
                let (gateway, serving, follows) =
                    Front::start(&process, settings, user.as_ref()).await?;
                listeners.push(serving);
                following.push(follows);
                Some(gateway)
            }
            false => None,
        };
        Ok(Self {
            process,
            user,
            gateway,
            listeners,
            following,
            propagation: settings.propagation,
        })
    }

    /// Leaves in order: nobody is sent here before the doors close, and requests end before the database does.
    pub(crate) async fn leave(self) {
        let Self {
            process, mut user, ..
        } = self;
        process.closing.cancel();
        // What is announced is revoked later, by another step of the same leave-taking.
        let (announced, to_revoke) = oneshot::channel();
        let announce = async {
            let registration = match &mut user {
                Some(user) => user.announce(self.propagation).await,
                None => None,
            };
            // The receiver is the next step.
            let _kept = announced.send(registration);
        };
        let revoke = async { user::revoke(to_revoke.await.ok().flatten()).await };
        lifecycle::depart(
            &process.health,
            announce,
            Duration::ZERO,
            revoke,
            self.listeners,
        )
        .await;
        for following in self.following {
            following.ended().await;
        }
        if let Some(user) = user {
            user.close().await;
        }
        process.close().await;
    }
}

impl Running {
    /// Starts them. Nothing is waited for but what is on this machine: files and listeners.
    pub(crate) async fn start(settings: Settings, levels: Levels) -> Result<Self> {
        let (store, kv) = Store::open(settings.store.clone()).await?;
        match Services::start(&store, kv, &settings, levels).await {
            Ok(services) => Ok(Self { store, services }),
            Err(error) => {
                store.stop().await;
                Err(error)
            }
        }
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where the user service listens, if it is here.
    pub(crate) fn user(&self) -> Option<SocketAddr> {
        self.services.user.as_ref().map(User::address)
    }

    /// Where the gateway listens, if it is here.
    pub(crate) fn gateway(&self) -> Option<SocketAddr> {
        self.services.gateway.as_ref().map(Front::address)
    }

    /// The store, which goes last, and what goes before.
    pub(crate) fn into_parts(self) -> (Store, Services) {
        (self.store, self.services)
    }
}
