//! Where a configuration comes from.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use catena_client::Kv;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{AppName, Identity, Keyring, Layer, Result, SHARED, held::Scope, listener::Listener};

/// Where a configuration comes from. Layers that are left out are empty.
#[derive(Clone, Default)]
pub struct ConfigOptions {
    /// What the program itself brings: a map.
    pub defaults: Value,
    /// Files and directories, weakest first.
    pub files: Vec<PathBuf>,
    /// The store.
    pub store: Option<StoreOptions>,
    /// Paths and values from the environment; [`environment`] finds them.
    pub environment: Vec<(String, String)>,
    /// Paths and values from the command line.
    pub flags: Vec<(String, String)>,
    /// Paths that are read at the start only: documents that change them are reported so.
    pub restart: Vec<String>,
    /// What opens sealed values of the store's documents. One that does not open is a document that is refused.
    pub keys: Keyring,
}

/// Which of the store's documents a process gets.
#[derive(Clone)]
pub struct StoreOptions {
    /// The store.
    pub kv: Arc<dyn Kv>,
    /// The namespace.
    pub ns: String,
    /// The application.
    pub app: String,
    /// The profile, if there is one.
    pub profile: Option<String>,
    /// Who this instance is.
    pub identity: Identity,
    /// The file that keeps what held last, of this process alone.
    pub last_good: Option<PathBuf>,
    /// How long a store that does not answer is waited for at the start, if there is a last good configuration.
    pub patience: Duration,
    /// The same if there is none.
    pub cold_patience: Duration,
    /// Whether the process begins without the store's documents if the store does not answer in time, or if they are refused and there
    /// is no last good configuration either. The other layers hold then, and documents that were refused are reported so. Without it,
    /// such a start fails.
    pub begins_without: bool,
    /// Whether the instance is listed as a listener: not if it only looks.
    pub is_listed: bool,
    /// How long the instance is listed as a listener after it went without a word.
    pub listener_ttl: Duration,
}

impl StoreOptions {
    /// An application's documents, for one of its instances.
    pub fn new(kv: Arc<dyn Kv>, ns: &str, app: &str, instance: &str) -> Self {
        Self {
            kv,
            ns: ns.to_owned(),
            app: app.to_owned(),
            profile: None,
            identity: Identity {
                instance: instance.to_owned(),
                labels: BTreeMap::new(),
            },
            last_good: None,
            patience: Duration::from_secs(3),
            cold_patience: Duration::from_secs(30),
            begins_without: false,
            is_listed: true,
            listener_ttl: Duration::from_secs(10),
        }
    }

    /// Whose documents the process gets, weakest first.
    pub(crate) fn scope(&self) -> Result<Scope> {
        let mut apps = vec![
            (Layer::Shared, AppName::new(&self.ns, SHARED)?),
            (Layer::App, AppName::new(&self.ns, &self.app)?),
        ];
        if let Some(profile) = &self.profile {
            let name = format!("{}@{profile}", self.app);
            apps.push((Layer::Profile, AppName::new(&self.ns, &name)?));
        }
        Ok(Scope {
            apps,
            identity: self.identity.clone(),
        })
    }

    /// Who tells the store what became of them.
    pub(crate) fn listener(&self, closing: CancellationToken) -> Result<Listener> {
        let app = AppName::new(&self.ns, &self.app)?;
        Ok(Listener {
            kv: self.kv.clone(),
            key: app.listener(&self.identity.instance)?,
            app: self.app.clone(),
            // No store grants less than a second.
            ttl_secs: i64::try_from(self.listener_ttl.as_secs().max(1)).unwrap_or(i64::MAX),
            closing,
        })
    }
}

/// The variables `PREFIX__SECTION__KEY` as paths `section.key`, in their order. Those that are not UTF-8 are left out.
pub fn environment(
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, String)> {
    let variables = variables.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let path = name.strip_prefix(prefix)?.strip_prefix("__")?;
        let path = path.to_ascii_lowercase().replace("__", ".");
        (!path.is_empty()).then_some((path, value.into_string().ok()?))
    });
    let mut found: Vec<_> = variables.collect();
    found.sort();
    found
}
