//! Instances behind TLS, with certificates made here.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::PrivateKeyDer,
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};
use tonic::body::Body;

use super::{Client, HttpServer, List, Server, grpc_server, instance, options, wait_until};
use crate::{
    Instance, Scheme,
    channel::{
        ChannelOptions, Error, HttpClient, Identity, Roots, TlsOptions,
        tls::{HTTP2, Tls},
    },
    health,
};

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            dir,
        }
    }

    /// A certificate for these names, and its key.
    fn sign(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn identity(&self) -> Identity {
        let (certificate, key) = self.sign(&["caller"]);
        let write = |name: &str, text: String| -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Identity {
            certificates: write("caller.pem", certificate.pem()),
            key: write("caller.key", key.serialize_pem()),
        }
    }

    /// The options of a channel that trusts nobody else.
    fn trusted(&self) -> TlsOptions {
        TlsOptions {
            roots: Roots::File(self.dir.path().join("ca.pem")),
            ..TlsOptions::default()
        }
    }

    /// Asks callers for certificates that it has signed.
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        verifier.build().unwrap()
    }
}

/// A server behind TLS.
struct Secure {
    instance: Instance,
    calls: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Secure {
    /// One for names, signed by `authority`.
    async fn start(scheme: Scheme, authority: &Authority, names: &[&str]) -> Self {
        Self::start_with(scheme, authority, names, Arc::new(NoClientAuth)).await
    }

    async fn start_with(
        scheme: Scheme,
        authority: &Authority,
        names: &[&str],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let (certificate, key) = authority.sign(names);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.into()], key)
            .unwrap();
        if scheme.is_grpc() {
            config.alpn_protocols = vec!["h2".into()];
        }
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{}://{}", scheme.as_str(), listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, calls) = (acceptor.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let io = TokioIo::new(stream);
                    let service = service_fn(|_: http::Request<Incoming>| {
                        calls.fetch_add(1, Ordering::SeqCst);
                        let answer = match scheme.is_grpc() {
                            true => grpc_server::message(b"secret"),
                            false => http::Response::new(Body::new(Full::from("secret"))),
                        };
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    // However the caller leaves.
                    let _closed = match scheme.is_grpc() {
                        true => {
                            http2::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service)
                                .await
                        }
                        false => http1::Builder::new().serve_connection(io, service).await,
                    };
                });
            }
        });
        Self {
            instance: instance("a", &endpoint),
            calls,
            _tasks: tasks,
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn speaking(tls: TlsOptions) -> ChannelOptions {
    ChannelOptions {
        tls: Some(tls),
        ..options()
    }
}

/// Calls the only instance over its own protocol.
async fn call(instance: &Instance, options: ChannelOptions) -> Result<String, String> {
    let list = List::of(std::slice::from_ref(instance));
    if instance.endpoints[0].scheme.is_grpc() {
        let client = Client::new(list.channel(options));
        return client.call("Id").await.map_err(|status| {
            let error = Error::of(&status);
            assert!(
                error.is_some_and(|error| !error.is_unknown_outcome()),
                "{status:?}"
            );
            status.message().to_owned()
        });
    }
    let client: HttpClient = list.client(options);
    let request = http::Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let answer = client
        .send(request)
        .await
        .map_err(|error| error.to_string())?;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

const SECURE: [Scheme; 2] = [Scheme::Grpcs, Scheme::Https];

#[tokio::test]
async fn certificate_of_a_trusted_root_is_good() {
    let authority = Authority::new();
    for scheme in SECURE {
        let server = Secure::start(scheme, &authority, &["127.0.0.1"]).await;
        let answer = call(&server.instance, speaking(authority.trusted())).await;
        assert_eq!(answer.as_deref(), Ok("secret"), "{scheme:?}");
    }
}

#[tokio::test]
async fn certificate_of_an_unknown_root_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    for scheme in SECURE {
        let server = Secure::start(scheme, &authority, &["127.0.0.1"]).await;
        for options in [speaking(other.trusted()), options()] {
            let error = call(&server.instance, options).await.unwrap_err();
            let expected = "its certificate is signed by nobody whom";
            // A machine without any trusted root says that.
            let nobody = "no root certificate is trusted by the system";
            assert!(
                error.contains(expected) || error.contains(nobody),
                "{scheme:?}: {error}"
            );
        }
        let named = other.trusted().roots.to_string();
        let error = call(&server.instance, speaking(other.trusted())).await;
        assert!(error.unwrap_err().contains(&named), "{named}");
        assert_eq!(server.calls(), 0);
    }
}

#[tokio::test]
async fn certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    for scheme in SECURE {
        let server = Secure::start(scheme, &authority, &["user.internal"]).await;
        let error = call(&server.instance, speaking(authority.trusted())).await;
        let error = error.unwrap_err();
        assert!(
            error.contains("its certificate is not for 127.0.0.1: ")
                && error.contains("user.internal"),
            "{scheme:?}: {error}"
        );
        assert_eq!(server.calls(), 0);
        let named = |name: &str| {
            speaking(TlsOptions {
                server_name: Some(name.to_owned()),
                ..authority.trusted()
            })
        };
        let answer = call(&server.instance, named("user.internal")).await;
        assert_eq!(answer.as_deref(), Ok("secret"), "{scheme:?}");
        let error = call(&server.instance, named("order.internal")).await;
        let error = error.unwrap_err();
        assert!(
            error.contains("its certificate is not for order.internal: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn instance_that_asks_who_calls_is_told() {
    let authority = Authority::new();
    for scheme in SECURE {
        let server =
            Secure::start_with(scheme, &authority, &["127.0.0.1"], authority.verifier()).await;
        let stranger = call(&server.instance, speaking(authority.trusted())).await;
        assert!(stranger.is_err(), "{scheme:?}");
        assert_eq!(server.calls(), 0);
        let known = TlsOptions {
            identity: Some(authority.identity()),
            ..authority.trusted()
        };
        let answer = call(&server.instance, speaking(known)).await;
        assert_eq!(answer.as_deref(), Ok("secret"), "{scheme:?}");
    }
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let start = async |authority: &Authority| {
        Secure::start_with(
            Scheme::Grpcs,
            authority,
            &["127.0.0.1"],
            authority.verifier(),
        )
        .await
    };
    let (of_old, of_new) = (start(&old).await, start(&new).await);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let tls = Tls::new(
        TlsOptions {
            roots: Roots::File(path("ca.pem")),
            identity: Some(Identity {
                certificates: path("caller.pem"),
                key: path("caller.key"),
            }),
            ..TlsOptions::default()
        },
        HTTP2,
    );
    let connect = async |server: &Secure| {
        let endpoint = &server.instance.endpoints[0];
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
        let connected = tls.connect("127.0.0.1", stream.unwrap()).await;
        connected.map(drop).map_err(|error| error.to_string())
    };
    // As those do who renew certificates: beside, then renamed.
    let replace = |name: &str, text: &[u8]| {
        fs::write(path("beside"), text).unwrap();
        fs::rename(path("beside"), path(name)).unwrap();
    };
    let renew = |by: &Authority, names: &[&str]| {
        by.identity();
        for name in names {
            replace(name, &fs::read(by.dir.path().join(name)).unwrap());
        }
    };
    let error = connect(&of_old).await.unwrap_err();
    assert!(error.starts_with("cannot read "), "{error}");
    renew(&old, &["ca.pem", "caller.pem", "caller.key"]);
    assert_eq!(connect(&of_old).await, Ok(()));
    let refused = connect(&of_new).await.unwrap_err();
    assert!(refused.contains("signed by nobody whom"), "{refused}");
    // What cannot be used, be it no certificate or one without its key, leaves what was there before.
    replace("ca.pem", b"no certificate");
    assert_eq!(connect(&of_old).await, Ok(()));
    renew(&new, &["ca.pem", "caller.pem"]);
    assert_eq!(connect(&of_old).await, Ok(()));
    renew(&new, &["caller.pem", "caller.key"]);
    assert_eq!(connect(&of_new).await, Ok(()));
    let refused = connect(&of_old).await.unwrap_err();
    assert!(refused.contains("signed by nobody whom"), "{refused}");
}

#[tokio::test]
async fn scheme_that_is_not_the_instances_is_named() {
    let authority = Authority::new();
    let (grpc, http) = (Server::start("a").await, HttpServer::start("a").await);
    let plain = [
        (grpc.instance(), Scheme::Grpcs),
        (http.instance(), Scheme::Https),
    ];
    for (mut instance, scheme) in plain {
        instance.endpoints[0].scheme = scheme;
        let error = call(&instance, speaking(authority.trusted()))
            .await
            .unwrap_err();
        assert!(
            error.contains("asks for TLS, but the instance does not speak it"),
            "{error}"
        );
    }
    let mut server = Secure::start(Scheme::Grpcs, &authority, &["127.0.0.1"]).await;
    server.instance.endpoints[0].scheme = Scheme::Grpc;
    let error = call(&server.instance, options()).await.unwrap_err();
    assert!(
        error.contains("it speaks TLS, but its endpoint is grpc://"),
        "{error}"
    );
    let mut server = Secure::start(Scheme::Https, &authority, &["127.0.0.1"]).await;
    server.instance.endpoints[0].scheme = Scheme::Grpcs;
    let error = call(&server.instance, speaking(authority.trusted()))
        .await
        .unwrap_err();
    assert!(error.contains("it does not offer h2 over TLS"), "{error}");
}

#[tokio::test]
async fn channel_without_tls_passes_over_who_speaks_nothing_else() {
    let authority = Authority::new();
    let deaf = || ChannelOptions {
        tls: None,
        ..options()
    };
    for scheme in SECURE {
        let server = Secure::start(scheme, &authority, &["127.0.0.1"]).await;
        let error = call(&server.instance, deaf()).await.unwrap_err();
        let expected = "of 1 known instances 1 behind TLS, which the caller does not speak";
        assert!(error.contains(expected), "{scheme:?}: {error}");
        assert_eq!(server.calls(), 0);
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let server = Secure::start(Scheme::Grpcs, &authority, &["127.0.0.1"]).await;
    let path = authority.dir.path().join("late.pem");
    let options = speaking(TlsOptions {
        roots: Roots::File(path.clone()),
        ..TlsOptions::default()
    });
    let list = List::of(std::slice::from_ref(&server.instance));
    let client = Client::new(list.channel(options));
    let told = async || client.call("Id").await.unwrap_err().message().to_owned();
    let shown = path.display().to_string();
    let error = told().await;
    assert!(error.contains(&format!("cannot read {shown}: ")), "{error}");
    fs::write(&path, "").unwrap();
    let error = told().await;
    assert!(
        error.contains(&format!("no root certificate is trusted by {shown}")),
        "{error}"
    );
    // The next connection reads it again.
    fs::write(&path, authority.certificate.pem()).unwrap();
    assert_eq!(client.call("Id").await.unwrap(), "secret");
}

#[tokio::test]
async fn checks_go_over_tls_too() {
    let authority = Authority::new();
    for scheme in SECURE {
        let server = Secure::start(scheme, &authority, &["127.0.0.1"]).await;
        let options = ChannelOptions {
            health: Some(health::Options {
                interval: Duration::from_millis(20),
                ..health::Options::default()
            }),
            ..speaking(authority.trusted())
        };
        let list = List::of(std::slice::from_ref(&server.instance));
        // Kept until the end, for the checks are theirs.
        let (_channel, _client) = match scheme.is_grpc() {
            true => (Some(list.channel(options)), None),
            false => (None, Some(list.client(options))),
        };
        wait_until("it is checked", || server.calls() > 0).await;
    }
}
