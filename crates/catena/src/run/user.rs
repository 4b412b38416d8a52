//! The user service, served and registered.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use catena_middleware::{
    Health, Outbound,
    serve::{ConnectionLimits, Serving, serve},
};
use catena_registry::{
    Endpoint, Instance, Readiness, RegState, RegisterOptions, Registrar, Registration, Registry,
    Scheme, ServiceName, Status,
};
use catena_services::user::{LocalUsers, UserOptions, UserService};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    live::{Following, Told},
    process::{FAREWELL_WITHIN, LOOK_EVERY, Process},
    settings::{Service, UserSettings},
};
use crate::config;

/// The name under which it is found.
pub(crate) const SERVICE: &str = "user";

/// The service, running.
pub(crate) struct User {
    service: UserService,
    address: SocketAddr,
    leaving: CancellationToken,
    registering: JoinHandle<Option<Registration>>,
}

impl User {
    /// Opens the database, listens, and registers, which goes on by itself.
    pub(crate) async fn start(
        process: &Process,
        settings: &UserSettings,
    ) -> Result<(Self, Serving, Following)> {
        let listener = process.bind("user-listen", &settings.listen).await?;
        let service = UserService::open(UserOptions {
            database: settings.database.clone(),
            age_min: settings.age_min,
            hosts: process.hosts(),
            health: process.health.clone(),
            registry: process.series.clone(),
            metrics: process.requests.clone(),
        });
        let service = service.await.context(
            "the database of the user service (--user-database: sqlite:FILE in a directory that can be written to, or the URL of a \
             server that runs)",
        )?;
        let address = listener.local_addr()?;
        let instance = instance(settings, address)?;
        let app = service.app();
        app.adjust(process.told.user.limits());
        let serving = serve(listener, app.clone(), ConnectionLimits::GRPC)?;
        let following = Following::start(process, (Service::User, &instance.id), move |told| {
            app.adjust(told.user.limits())
        });
        let leaving = CancellationToken::new();
        let registering = keep_registered(
            process.registry.clone(),
            instance,
            (following.first.clone(), process.told.user.ttl),
            process.health.clone(),
            leaving.clone(),
        );
        let user = Self {
            service,
            address,
            leaving,
            registering: tokio::spawn(registering),
        };
        Ok((user, serving, following))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What callers in this process call, for as long as `outbound` allows.
    pub(crate) fn local(&self, outbound: &Outbound) -> LocalUsers {
        self.service.local(outbound)
    }

    /// Says that no more calls are wanted, and waits for `propagation`, in which callers hear of it. Gives what is left to revoke.
    pub(crate) async fn announce(&mut self, propagation: Duration) -> Option<Registration> {
        self.leaving.cancel();
        let registration = match (&mut self.registering).await {
            Ok(registration) => registration?,
            Err(error) => {
                tracing::error!(%error, "the task that keeps the registration has failed");
                return None;
            }
        };
        let announced = registration.update(|instance| instance.status = Status::Draining);
        match timeout(FAREWELL_WITHIN, announced).await {
            Ok(Ok(())) => sleep(propagation).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the registry cannot be told that this instance is leaving");
            }
            Err(_) => {
                tracing::warn!("the registry does not answer; this instance leaves all the same")
            }
        }
        Some(registration)
    }

    /// Lets go of the database, after the last request.
    pub(crate) async fn close(self) {
        self.service.close().await;
    }
}

/// Takes the instance out of the registry.
pub(crate) async fn revoke(registration: Option<Registration>) {
    let Some(registration) = registration else {
        return;
    };
    match timeout(FAREWELL_WITHIN, registration.deregister()).await {
        Ok(Ok(())) => tracing::info!("deregistered"),
        Ok(Err(error)) => tracing::warn!(%error, "the registration stays until its lease ends"),
        Err(_) => {
            tracing::warn!("the registration stays until its lease ends: the store does not answer")
        }
    }
}

/// The instance that is registered.
fn instance(settings: &UserSettings, listening: SocketAddr) -> Result<Instance> {
    let address = match &settings.advertise {
        Some(address) => address.clone(),
        None => advertised(listening)?,
    };
    let endpoint = Endpoint::at(Scheme::Grpc, &address).context("--user-advertise")?;
    let id = match &settings.id {
        Some(id) => id.clone(),
        None => id_of(&address),
    };
    // Ids have the grammar of names.
    ServiceName::new(&id).context("--user-id")?;
    Ok(Instance::new(
        ServiceName::new(SERVICE)?,
        &id,
        vec![endpoint],
    ))
}

/// Nobody can call 0.0.0.0: what is told is the address under which this machine reaches others.
fn advertised(listening: SocketAddr) -> Result<String> {
    if !listening.ip().is_unspecified() {
        return Ok(listening.to_string());
    }
    let host = config::of_default_route().context(
        "this machine has no address to tell callers of the user service: give one with --user-advertise HOST:PORT",
    )?;
    Ok(match host.contains(':') {
        true => format!("[{host}]:{}", listening.port()),
        false => format!("{host}:{}", listening.port()),
    })
}

/// Host and port as a name.
pub(super) fn id_of(address: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let id: String = address.chars().map(plain).collect();
    id.trim_matches('-').to_owned()
}

/// Registers, and keeps the check of it, until the process leaves; gives the registration back for that.
async fn keep_registered(
    registry: Registry,
    instance: Instance,
    (mut first, ttl): (watch::Receiver<Option<Told>>, Duration),
    health: Health,
    leaving: CancellationToken,
) -> Option<Registration> {
    health.set(Readiness::NAME, Err("not registered yet".to_owned()));
    // Registering needs the store too, so nothing is lost by hearing first what it says of the time to live.
    let registering = async {
        let told = first.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|told| Some(told.as_ref()?.user.ttl));
        let options = RegisterOptions {
            ttl: told.unwrap_or(ttl),
            ..RegisterOptions::default()
        };
        registry.register(instance, options).await
    };
    let registration = tokio::select! {
        registration = registering => registration,
        () = leaving.cancelled() => return None,
    };
    let registration = match registration {
        Ok(registration) => registration,
        Err(error) => {
            tracing::error!(%error, "cannot register");
            health.set(Readiness::NAME, Err(error.to_string()));
            return None;
        }
    };
    let mut state = registration.state();
    while !leaving.is_cancelled() {
        let check = standing(&state.borrow_and_update()).and_then(|()| {
            let Readiness { reasons } = registry.readiness();
            if reasons.is_empty() {
                Ok(())
            } else {
                Err(reasons.join("; "))
            }
        });
        health.set(Readiness::NAME, check);
        tokio::select! {
            // The sender lives as long as the registration, which is held here.
            _changed = state.changed() => {}
            () = sleep(LOOK_EVERY) => {}
            () = leaving.cancelled() => {}
        }
    }
    Some(registration)
}

/// One that has never stood is not ready, from the first moment; one that is lost is borne for a while, as the registry sees it.
fn standing(state: &RegState) -> Result<(), String> {
    match state {
        RegState::Registering { last_error, .. } => Err(match last_error {
            Some(error) => format!("not registered yet: {error}"),
            None => "not registered yet".to_owned(),
        }),
        RegState::Registered { .. }
        | RegState::Lost { .. }
        | RegState::Conflict { .. }
        | RegState::Draining
        | RegState::Deregistered => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_makes_an_id() {
        for (address, id) in [
            ("127.0.0.1:50051", "127.0.0.1-50051"),
            ("[::1]:7", "1--7"),
            ("Host.Example:7", "host.example-7"),
        ] {
            assert_eq!(id_of(address), id);
            assert!(ServiceName::new(id).is_ok(), "{id}");
        }
    }
}
