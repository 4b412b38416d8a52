//! `catena ctl config`: documents of configuration, their versions and who follows them.

mod gray;
mod schema;
pub(super) mod seal;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use catena_registry::config::{
    AppName, Applied, Change, ConfigCenter, DocumentName, Expect, Format, Meta,
    center::PUBLISHED_BYTES_MAX,
};
use catena_telemetry::log::timestamp;

use crate::run::report::table;

/// How documents can be written.
const FORMATS: [&str; 5] = ["toml", "yaml", "json", "properties", "text"];

/// What can be done with documents.
#[derive(clap::Subcommand, Clone, Debug)]
pub(super) enum Verb {
    /// List an application's documents
    Ls {
        /// The application, `app@profile` for one of its profiles, or `_shared`
        app: String,
    },
    /// Print a document as it stands, or as it was
    Get {
        #[command(flatten)]
        name: Name,
        /// The version; the present one if none is named
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
    /// Publish a document
    ///
    /// Whoever follows it applies it at once, without a restart. It is refused if it cannot be read, or not by the document's schema.
    Put {
        #[command(flatten)]
        name: Name,
        /// The file with the document; - for standard input
        file: PathBuf,
        /// How it is written; without it, as the version before, or as the document's ending says
        #[arg(long, value_name = "FORMAT", value_parser = FORMATS)]
        format: Option<String>,
        /// Publish only if this is the present version; 0 if there must be none
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        comment: String,
        #[command(flatten)]
        author: Author,
    },
    /// Take a document away, and what is given in its place to some instances
    ///
    /// Its history stays, and who publishes it again goes on counting.
    Rm {
        #[command(flatten)]
        name: Name,
        /// Only if this is the present version; 0 if the document was written by hand
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
    },
    /// List the versions of a document, the newest first
    History {
        #[command(flatten)]
        name: Name,
    },
    /// Print where two versions of a document differ
    Diff {
        #[command(flatten)]
        name: Name,
        /// The one version
        from: u64,
        /// The other
        to: u64,
    },
    /// Publish what an old version was as a new one
    Rollback {
        #[command(flatten)]
        name: Name,
        /// The old version
        to: u64,
        #[command(flatten)]
        author: Author,
    },
    /// Print what is published, until Ctrl-C
    Watch {
        /// The application
        app: String,
        /// One of its documents; all if none is named
        doc: Option<String>,
    },
    /// List what each running instance made of the documents
    Listeners {
        /// The application
        app: String,
    },
    /// Give a document to some instances first
    #[command(subcommand)]
    Gray(gray::Verb),
    /// Say what a document must be
    #[command(subcommand)]
    Schema(schema::Verb),
    /// What needs no store.
    #[command(flatten)]
    Secret(seal::Verb),
}

/// Names a document.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::ctl) struct Name {
    /// The application, `app@profile` for one of its profiles, or `_shared`
    app: String,
    /// The document, such as app.toml
    doc: String,
}

/// Names who publishes.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::ctl) struct Author {
    /// Who publishes it; without it, what the variable USER says
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

impl Author {
    fn name(self) -> String {
        let author = self.author.or_else(|| std::env::var("USER").ok());
        author.unwrap_or_default()
    }
}

impl Name {
    fn document(&self, namespace: &str) -> Result<DocumentName> {
        Ok(DocumentName::new(namespace, &self.app, &self.doc)?)
    }
}

/// Does it.
pub(super) async fn run(center: &ConfigCenter, namespace: &str, verb: Verb) -> Result<()> {
    match verb {
        Verb::Ls { app } => list(center, &AppName::new(namespace, &app)?).await,
        Verb::Get { name, version } => get(center, &name.document(namespace)?, version).await,
        Verb::Put {
            name,
            file,
            format,
            expect,
            comment,
            author,
        } => {
            let name = name.document(namespace)?;
            let change = Change {
                content: read(&file, PUBLISHED_BYTES_MAX)?.into(),
                format: format.as_deref().and_then(Format::from_name),
                author: author.name(),
                comment,
            };
            let expect = match expect {
                None => Expect::Any,
                Some(0) => Expect::Absent,
                Some(version) => Expect::Version(version),
            };
            published(&name, &center.publish(&name, change, expect).await?);
            Ok(())
        }
        Verb::Rm { name, expect } => {
            let name = name.document(namespace)?;
            let expect = expect.map_or(Expect::Any, Expect::Version);
            center.delete(&name, expect).await?;
            crate::print(&format!("{name}: taken away; its history stays"));
            Ok(())
        }
        Verb::History { name } => history(center, &name.document(namespace)?).await,
        Verb::Diff { name, from, to } => diff(center, &name.document(namespace)?, from, to).await,
        Verb::Rollback { name, to, author } => {
            let name = name.document(namespace)?;
            let author = author.name();
            let rolled_back = center.rollback(&name, to, &author, Expect::Any).await?;
            published(&name, &rolled_back);
            Ok(())
        }
        Verb::Watch { app, doc } => watch(center, &AppName::new(namespace, &app)?, doc).await,
        Verb::Listeners { app } => listeners(center, &AppName::new(namespace, &app)?).await,
        Verb::Gray(verb) => gray::run(center, namespace, verb).await,
        Verb::Schema(verb) => schema::run(center, namespace, verb).await,
        Verb::Secret(verb) => seal::run(namespace, verb),
    }
}

async fn list(center: &ConfigCenter, app: &AppName) -> Result<()> {
    let (documents, _) = center.documents(app).await?;
    let listeners = center.listeners(app).await?;
    let mut rows = vec![row(["DOCUMENT", "VERSION", "FORMAT", "PUBLISHED", "BY"])];
    rows.extend(documents.iter().map(|(doc, meta)| described(doc, meta)));
    crate::print(table(&rows).trim_end());
    if !listeners.is_empty() {
        let names: Vec<&str> = listeners.keys().map(String::as_str).collect();
        crate::print(&format!("followed by {}", names.join(", ")));
    }
    Ok(())
}

async fn get(center: &ConfigCenter, name: &DocumentName, version: Option<u64>) -> Result<()> {
    let revision = match version {
        Some(version) => center.version(name, version).await?,
        None => center.get(name).await?.revision,
    };
    // Byte for byte, so that what is put is what was got.
    let mut out = io::stdout();
    out.write_all(&revision.content)
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// What each instance made of each document, one in a line.
async fn listeners(center: &ConfigCenter, app: &AppName) -> Result<()> {
    let mut rows = vec![row(["INSTANCE", "DOCUMENT", "VERSION", "STATE", "WHY"])];
    for (instance, documents) in center.listeners(app).await? {
        for (doc, listener) in documents {
            let state = match listener.state {
                Applied::Applied => "applied",
                Applied::Rejected => "rejected",
                Applied::RestartRequired => "restart required",
            };
            let version = listener.version.to_string();
            rows.push(row([&instance, &doc, &version, state, &listener.error]));
        }
    }
    crate::print(table(&rows).trim_end());
    Ok(())
}

/// The bytes of a file, or of standard input, up to a bound.
fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let limit = bytes_max as u64 + 1;
    let mut content = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().take(limit).read_to_end(&mut content),
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(limit).read_to_end(&mut content)),
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    if content.len() > bytes_max {
        bail!(
            "{} is larger than {bytes_max} bytes, which is the most that is taken",
            file.display()
        );
    }
    Ok(content)
}

fn published(name: &DocumentName, meta: &Meta) {
    crate::print(&format!("{name}: version {} is published", meta.version));
}

async fn history(center: &ConfigCenter, name: &DocumentName) -> Result<()> {
    let mut rows = vec![row(["VERSION", "FORMAT", "PUBLISHED", "BY", "WHY"])];
    for meta in center.history(name).await? {
        rows.push(row([
            &meta.version.to_string(),
            meta.format.as_str(),
            &at(&meta),
            &meta.author,
            &meta.comment,
        ]));
    }
    crate::print(table(&rows).trim_end());
    Ok(())
}

async fn diff(center: &ConfigCenter, name: &DocumentName, from: u64, to: u64) -> Result<()> {
    for difference in center.diff(name, from, to).await? {
        if let Some(before) = &difference.before {
            crate::print(&format!("- {} = {before}", difference.path));
        }
        if let Some(after) = &difference.after {
            crate::print(&format!("+ {} = {after}", difference.path));
        }
    }
    Ok(())
}

async fn watch(center: &ConfigCenter, app: &AppName, doc: Option<String>) -> Result<()> {
    let mut watch = match &doc {
        Some(doc) => center.watch_document(&app.document(doc)?, 0).await?,
        None => center.watch_app(app, 0).await?,
    };
    crate::print(&format!(
        "= follows from revision {} on",
        watch.began_after()
    ));
    loop {
        let event = tokio::select! {
            event = watch.next() => event?,
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        };
        let line = match &event.meta {
            Some(meta) => format!(
                "~ {}  version {}  {}  {}",
                event.doc,
                meta.version,
                at(meta),
                meta.author
            ),
            None => format!("- {}", event.doc),
        };
        crate::print(line.trim_end());
    }
}

fn described(doc: &str, meta: &Meta) -> [String; 5] {
    row([
        doc,
        &meta.version.to_string(),
        meta.format.as_str(),
        &at(meta),
        &meta.author,
    ])
}

fn at(meta: &Meta) -> String {
    timestamp(Duration::from_millis(meta.at_ms))
}

fn row(cells: [&str; 5]) -> [String; 5] {
    cells.map(str::to_owned)
}
