//! `catena ctl svc`: services and their instances.

use anyhow::{Result, bail, ensure};
use catena_registry::{Discovery, Instance, Override, Registry, ServiceName, Status};

use crate::run::report::table;

/// What can be done with services.
#[derive(clap::Subcommand, Clone, Debug)]
pub(super) enum Verb {
    /// List services, or the instances of one
    Ls {
        /// The service; all if none is named
        service: Option<String>,
    },
    /// Print how a service changes, until Ctrl-C
    Watch {
        /// The service
        service: String,
    },
    /// Set what holds for an instance instead of its own word; it stays until it is cleared
    ///
    /// An override outlives restarts of the instance. What is not said here is left to the instance itself; a new override takes the
    /// place of the one before.
    Override {
        /// The service
        service: String,
        /// The instance, as `catena ctl svc ls SERVICE` names it
        id: String,
        /// Whether it may be called
        #[arg(long, value_name = "BOOL")]
        enabled: Option<bool>,
        /// Its share of the calls beside the others' weights
        #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(0..=10_000))]
        weight: Option<u32>,
        /// What counts as its status
        #[arg(long, value_name = "STATUS", value_parser = ["starting", "up", "draining", "down"])]
        status: Option<String>,
        /// Let the instance's own word hold again
        #[arg(long, conflicts_with_all = ["enabled", "weight", "status"])]
        clear: bool,
    },
}

/// Does it.
pub(super) async fn run(registry: &Registry, verb: Verb) -> Result<()> {
    match verb {
        Verb::Ls { service: None } => services(registry).await,
        Verb::Ls {
            service: Some(service),
        } => instances(registry, &ServiceName::new(&service)?).await,
        Verb::Watch { service } => watch(registry, &ServiceName::new(&service)?).await,
        Verb::Override {
            service,
            id,
            clear: true,
            ..
        } => {
            registry
                .clear_override(&ServiceName::new(&service)?, &id)
                .await?;
            crate::print(&format!("{service}/{id}: its own word holds"));
            Ok(())
        }
        Verb::Override {
            service,
            id,
            enabled,
            weight,
            status,
            clear: false,
        } => {
            let status = status.as_deref().map(status_of).transpose()?;
            let over = Override {
                enabled,
                weight,
                status,
            };
            set(registry, &ServiceName::new(&service)?, &id, over).await
        }
    }
}

async fn services(registry: &Registry) -> Result<()> {
    let mut rows = vec![row(["SERVICE", "INSTANCES", ""])];
    for service in registry.services().await? {
        let snapshot = registry.instances(&service.name).await?;
        let count = snapshot.instances.len().to_string();
        rows.push(row([service.name.as_str(), &count, ""]));
    }
    crate::print(table(&rows).trim_end());
    Ok(())
}

async fn instances(registry: &Registry, service: &ServiceName) -> Result<()> {
    let snapshot = registry.instances(service).await?;
    let mut rows = vec![row(["ID", "ENDPOINTS", "STATE"])];
    rows.extend(snapshot.instances.iter().map(|instance| {
        let endpoints: Vec<String> = instance.endpoints.iter().map(ToString::to_string).collect();
        row([&instance.id, &endpoints.join(","), &state(instance)])
    }));
    crate::print(table(&rows).trim_end());
    Ok(())
}

async fn watch(registry: &Registry, service: &ServiceName) -> Result<()> {
    let mut changes = registry.watch(service).await?;
    loop {
        let change = tokio::select! {
            change = changes.next() => change?,
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        };
        let line = |sign: &str, instance: &Instance| {
            let endpoints: Vec<String> =
                instance.endpoints.iter().map(ToString::to_string).collect();
            let (id, endpoints) = (&instance.id, endpoints.join(","));
            crate::print(&format!("{sign} {id}  {endpoints}  {}", state(instance)));
        };
        change.added.iter().for_each(|instance| line("+", instance));
        change
            .updated
            .iter()
            .for_each(|(_, instance)| line("~", instance));
        change
            .removed
            .iter()
            .for_each(|instance| line("-", instance));
        let stale = if change.stale {
            ", kept from before"
        } else {
            ""
        };
        crate::print(&format!(
            "= {} instances at revision {}{stale}",
            change.all.len(),
            change.revision
        ));
    }
}

async fn set(registry: &Registry, service: &ServiceName, id: &str, over: Override) -> Result<()> {
    ensure!(
        over != Override::default(),
        "nothing to override: give --enabled, --weight or --status, or --clear to end an override"
    );
    let snapshot = registry.instances(service).await?;
    let found = snapshot.instances.iter().find(|instance| instance.id == id);
    let Some(found) = found else {
        bail!(
            "no instance {id:?} of {service:?} is registered: `catena ctl svc ls {service}` lists them"
        );
    };
    registry.set_override(service, id, over).await?;
    let mut seen = (**found).clone();
    over.apply(&mut seen);
    crate::print(&format!("{service}/{id}: callers see {}", state(&seen)));
    Ok(())
}

/// What callers go by.
fn state(instance: &Instance) -> String {
    let enabled = if instance.enabled { "" } else { ", disabled" };
    format!(
        "{}, weight {}{enabled}",
        status_word(instance.status),
        instance.weight
    )
}

const STATUSES: [(&str, Status); 4] = [
    ("starting", Status::Starting),
    ("up", Status::Up),
    ("draining", Status::Draining),
    ("down", Status::Down),
];

fn status_word(status: Status) -> &'static str {
    let found = STATUSES.iter().find(|(_, known)| *known == status);
    found.map_or("", |(word, _)| word)
}

fn status_of(word: &str) -> Result<Status> {
    let found = STATUSES.iter().find(|(known, _)| *known == word);
    found.map_or_else(|| bail!("{word:?} is no status"), |(_, status)| Ok(*status))
}

fn row(cells: [&str; 3]) -> [String; 3] {
    cells.map(str::to_owned)
}
