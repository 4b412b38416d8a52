//! The store behind the registry: a member in this process, or endpoints.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use catena_client::{Kv, Remote};
use catena_server::{Member, ServerConfig, StopReason};

use super::settings::StoreSettings;
use crate::{advice, member};

/// The store as one process holds it.
pub(crate) enum Store {
    /// In this process.
    Embedded {
        member: Box<Member>,
        config: Box<ServerConfig>,
    },
    /// Behind a network, which needs no care.
    Remote { endpoints: String },
}

impl Store {
    /// Opens the store. A store behind a network need not be there yet, nor the other members of an embedded one.
    pub(crate) async fn open(settings: StoreSettings) -> Result<(Self, Arc<dyn Kv>)> {
        match settings {
            StoreSettings::Embedded(settings) => {
                let config = Box::new(settings.server.clone());
                match member::start(*settings).await {
                    Ok(member) => {
                        let (kv, member) = (member.kv(), Box::new(member));
                        Ok((Self::Embedded { member, config }, kv))
                    }
                    Err(failure) => Err(anyhow!("{}", member::told(failure, &config).await)),
                }
            }
            StoreSettings::Etcd(urls) => {
                let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
                let endpoints = urls.join(",");
                let kv = Remote::connect(&urls, catena_client::Options::default());
                let kv = kv.with_context(|| format!("--endpoints {endpoints}"))?;
                Ok((Self::Remote { endpoints }, Arc::new(kv)))
            }
        }
    }

    /// What people are told of it: where it is.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Embedded { config, .. } => config.advertise_client.join(","),
            Self::Remote { endpoints } => endpoints.clone(),
        }
    }

    /// Whether it is in this process.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded { .. })
    }

    /// Completes when a member in this process serves; at once for any other store.
    pub(crate) async fn ready(&self) {
        match self {
            Self::Embedded { member, .. } => member.ready().await,
            Self::Remote { .. } => {}
        }
    }

    /// Completes when a member in this process must not go on: well if it was removed from its cluster, as with etcd.
    pub(crate) async fn ended(&self) -> Result<()> {
        let Self::Embedded { member, config } = self else {
            return std::future::pending().await;
        };
        match member.stopped().await {
            StopReason::Asked => Ok(()),
            reason @ StopReason::Removed => {
                tracing::warn!("{reason}");
                tracing::warn!("the data-dir used by this member must be removed");
                Ok(())
            }
            StopReason::Failed { why, remedy } => {
                let next = advice::next(remedy, config).await;
                let next = next.map(|next| format!(": {next}")).unwrap_or_default();
                Err(anyhow!("{why}{next}").context("the member cannot go on"))
            }
        }
    }

    /// Stops a member in this process, in order.
    pub(crate) async fn stop(self) {
        match self {
            Self::Embedded { member, .. } => member.stop().await,
            Self::Remote { .. } => {}
        }
    }
}
