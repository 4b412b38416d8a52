//! How instances behind TLS are trusted, and what they are shown.
//!
//! An endpoint says by its scheme whether it speaks TLS, and is spoken to that way or not at all. Files are read at the first connection
//! that needs them, and again at the first after one of them has changed: certificates are renewed while their callers run. If one cannot
//! be read, what was read before counts, and the next connection tries again. What the system trusts is read once.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, InvalidMessage, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tracing::warn;

/// How instances behind TLS are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Who may sign an instance's certificate: whomever the system trusts.
    pub roots: Roots,
    /// The name that must be in the certificate: the host of the endpoint. With instances that are known by their addresses, their
    /// certificates' common name.
    pub server_name: Option<String>,
    /// What the caller shows an instance that asks who it is: nothing.
    pub identity: Option<Identity>,
}

impl TlsOptions {
    /// The files that are read.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let roots = match &self.roots {
            Roots::System => None,
            Roots::File(path) => Some(path),
        };
        let identity = self.identity.iter();
        let identity = identity.flat_map(|identity| [&identity.certificates, &identity.key]);
        roots.into_iter().chain(identity).map(PathBuf::as_path)
    }
}

/// Who may sign an instance's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Whomever the system trusts, or the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[default]
    System,
    /// Those whose certificates are in this PEM file, and nobody else.
    File(PathBuf),
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those between it and the root.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a connection is not secure, and so is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("its endpoint asks for TLS, which this channel is told not to speak")]
    Off,
    #[error("its endpoint asks for TLS, but the instance does not speak it")]
    Plain,
    #[error("cannot read {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("no root certificate is trusted by {roots}{reason}")]
    NoRoots { roots: Roots, reason: String },
    #[error("the client certificate cannot be used: {0}")]
    Identity(rustls::Error),
    #[error("no certificate can be for {0:?}, which is no name of a host")]
    Name(String),
    #[error("its certificate is signed by nobody whom {0} trusts")]
    UnknownIssuer(Roots),
    #[error("its certificate is not for {name}: {reason}")]
    OtherName { name: String, reason: String },
    #[error("TLS: {0}")]
    Handshake(String),
    #[error("it does not offer {0} over TLS")]
    Protocol(&'static str),
}

/// Makes connections secure.
#[derive(Debug)]
pub(super) struct Tls {
    options: TlsOptions,
    /// The protocol that is spoken over them, as ALPN names it.
    protocol: &'static str,
    /// Held while files are read, by threads that may block.
    loaded: Arc<Mutex<Option<Loaded>>>,
}

/// What the files said, and how they looked before they were read.
#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    looks: Vec<Look>,
}

/// By what a file shows that it is another than before; nothing if it is not there.
type Look = Option<(u64, u64, u64, Option<SystemTime>)>;

fn look(path: &Path) -> Look {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.modified().ok()))
}

impl Tls {
    pub(super) fn new(options: TlsOptions, protocol: &'static str) -> Self {
        Self {
            options,
            protocol,
            loaded: Arc::default(),
        }
    }

    /// Makes a connection to `host` secure. An IPv6 address may stand in brackets.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let config = self.config().await?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned());
        let server_name = server_name.map_err(|_not_one| TlsError::Name(name.to_owned()))?;
        let connector = TlsConnector::from(config);
        let connected = connector.connect(server_name, stream).await;
        let stream = connected.map_err(|error| self.refused(name, &error))?;
        // Whoever chose none speaks the protocol of old.
        match stream.get_ref().1.alpn_protocol() {
            Some(chosen) if chosen == self.protocol.as_bytes() => Ok(stream),
            None if self.protocol == HTTP1 => Ok(stream),
            _ => Err(TlsError::Protocol(self.protocol)),
        }
    }

    /// What the files say now, or what they said last.
    async fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let (options, protocol) = (self.options.clone(), self.protocol);
        let loaded = Arc::clone(&self.loaded);
        let current = spawn_blocking(move || current(&mut loaded.lock(), &options, protocol)).await;
        current.map_err(|error| TlsError::Handshake(error.to_string()))?
    }

    fn refused(&self, name: &str, error: &io::Error) -> TlsError {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                TlsError::Plain
            }
            // A bad signature is that of a root with the name of a trusted one, such as the one before it was made anew.
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => TlsError::UnknownIssuer(self.options.roots.clone()),
            Some(rustls::Error::InvalidCertificate(
                reason @ (CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }),
            )) => TlsError::OtherName {
                name: name.to_owned(),
                reason: reason.to_string(),
            },
            _ => TlsError::Handshake(error.to_string()),
        }
    }
}

/// HTTP/1.1 and HTTP/2 in ALPN.
pub(super) const HTTP1: &str = "http/1.1";
pub(super) const HTTP2: &str = "h2";

fn current(
    loaded: &mut Option<Loaded>,
    options: &TlsOptions,
    protocol: &str,
) -> Result<Arc<ClientConfig>, TlsError> {
    // Before they are read: what changes meanwhile is read again.
    let looks: Vec<Look> = options.files().map(look).collect();
    if let Some(known) = loaded.as_ref().filter(|known| known.looks == looks) {
        return Ok(Arc::clone(&known.config));
    }
    match (load(options, protocol), loaded.as_ref()) {
        (Ok(config), _) => {
            *loaded = Some(Loaded {
                config: Arc::clone(&config),
                looks,
            });
            Ok(config)
        }
        // A certificate is there before its key, or half a file.
        (Err(error), Some(known)) => {
            warn!(%error, "a file of TLS has changed and cannot be used, what it said before counts");
            Ok(Arc::clone(&known.config))
        }
        (Err(error), None) => Err(error),
    }
}

fn load(options: &TlsOptions, protocol: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = trusted(&options.roots)?;
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of both versions")
        .with_root_certificates(roots);
    let mut config = match &options.identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificates, key }) => {
            let chain = certificates_in(certificates)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(TlsError::Identity)?
        }
    };
    config.alpn_protocols = vec![protocol.into()];
    Ok(Arc::new(config))
}

fn trusted(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let mut reason = String::new();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            // Systems carry a few that are no longer well formed.
            store.add_parsable_certificates(found.certs);
            for error in found.errors {
                reason.push_str(": ");
                reason.push_str(&error.to_string());
            }
        }
        Roots::File(path) => {
            for certificate in certificates_in(path)? {
                let added = store.add(certificate);
                added.map_err(|error| unreadable(path, &error))?;
            }
        }
    }
    match store.is_empty() {
        true => Err(TlsError::NoRoots {
            roots: roots.clone(),
            reason,
        }),
        false => Ok(store),
    }
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| unreadable(path, &error);
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    certificates.map(|one| one.map_err(unreadable)).collect()
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
