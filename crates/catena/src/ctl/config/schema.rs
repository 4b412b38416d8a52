//! What a document must be.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use catena_registry::config::{ConfigCenter, DocumentName, center::schema::SCHEMA_BYTES_MAX};

use super::{Name, read};

/// What can be done with schemas.
#[derive(clap::Subcommand, Clone, Debug)]
pub(in crate::ctl) enum Verb {
    /// Set what a document must be, from now on; what stands there must satisfy it
    Put {
        #[command(flatten)]
        name: Name,
        /// The file with the JSON schema; - for standard input
        file: PathBuf,
    },
    /// Print the schema of a document
    Get {
        #[command(flatten)]
        name: Name,
    },
    /// Take the schema of a document away
    Rm {
        #[command(flatten)]
        name: Name,
    },
}

/// Does it.
pub(super) async fn run(center: &ConfigCenter, namespace: &str, verb: Verb) -> Result<()> {
    match verb {
        Verb::Put { name, file } => {
            let name = name.document(namespace)?;
            let schema = read(&file, SCHEMA_BYTES_MAX)?;
            center.set_schema(&name, Some(&schema)).await?;
            crate::print(&format!("{name}: the schema holds from now on"));
        }
        Verb::Get { name } => {
            let schema = schema(center, &name.document(namespace)?).await?;
            let mut out = io::stdout();
            out.write_all(&schema)
                .and_then(|()| out.flush())
                .context("cannot write to standard output")?;
        }
        Verb::Rm { name } => {
            let name = name.document(namespace)?;
            schema(center, &name).await?;
            center.set_schema(&name, None).await?;
            crate::print(&format!("{name}: there is no schema any more"));
        }
    }
    Ok(())
}

async fn schema(center: &ConfigCenter, name: &DocumentName) -> Result<Vec<u8>> {
    match center.schema(name).await? {
        Some(schema) => Ok(schema.to_vec()),
        None => bail!("{name} has no schema: `catena ctl config schema put` sets one"),
    }
}
