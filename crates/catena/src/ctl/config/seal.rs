//! Secrets: keys, and values sealed with them. Nothing here needs the store.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use anyhow::{Context, Result, ensure};
use catena_registry::config::Keyring;

use super::{Name, read};
use crate::run::settings::{self, CONFIG_KEY};

/// The longest secret that is read, and its line feed.
const SECRET_BYTES_MAX: usize = 64 * 1024 + 1;

/// What can be done with secrets.
#[derive(clap::Subcommand, Clone, Debug)]
pub(in crate::ctl) enum Verb {
    /// Make a key, in a new file that only its owner reads
    ///
    /// Processes open what was sealed with it if they are told the file with --config-keys or CATENA_CONFIG_KEYS. A file may hold
    /// several keys, one in a line: the first one seals, all of them open. Whoever loses it loses what was sealed.
    Key {
        /// The file, which must not exist yet
        file: PathBuf,
    },
    /// Seal a secret for one place of a document, and print what to write there
    ///
    /// It opens at that path of that document in that namespace only, in processes that have the key. Everybody else sees that
    /// something is sealed there.
    Seal {
        #[command(flatten)]
        name: Name,
        /// The place in it, such as db.password; of a document that is text, the document's own name
        path: String,
        /// The file with the secret; - for standard input. A line feed at its end is not part of it
        #[arg(default_value = "-")]
        file: PathBuf,
        /// The file with the keys; CATENA_CONFIG_KEY may hold one itself
        #[arg(long, value_name = "FILE", env = "CATENA_CONFIG_KEYS")]
        config_keys: Option<String>,
    },
}

/// Does it.
pub(in crate::ctl) fn run(namespace: &str, verb: Verb) -> Result<()> {
    match verb {
        Verb::Key { file } => {
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file);
            let mut opened = opened.with_context(|| {
                format!(
                    "cannot make {}: a key is only written to a new file",
                    file.display()
                )
            })?;
            let key = Keyring::draw();
            writeln!(opened, "{key}")
                .and_then(|()| opened.sync_all())
                .with_context(|| format!("cannot write {}", file.display()))?;
            let id = key.split(':').next().unwrap_or_default();
            crate::print(&format!("{}: the key {id}", file.display()));
        }
        Verb::Seal {
            name,
            path,
            file,
            config_keys,
        } => {
            let name = name.document(namespace)?;
            let keys = settings::keyring(
                config_keys.as_deref().filter(|path| !path.is_empty()),
                std::env::var(CONFIG_KEY).ok().as_deref(),
            )?;
            ensure!(
                keys.ids().next().is_some(),
                "there is no key to seal with: `catena ctl config key FILE` makes one, and --config-keys FILE takes it"
            );
            let secret = String::from_utf8(read(&file, SECRET_BYTES_MAX)?);
            // The error itself would show the secret.
            let secret = secret.ok().context("the secret is no UTF-8 text")?;
            let secret = secret.strip_suffix('\n').unwrap_or(&secret);
            crate::print(&keys.seal(&name, &path, secret)?);
        }
    }
    Ok(())
}
