//! An HTTP/1.1 server: `/id`, `/timeout`, `/healthz`.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::Instance;

pub(super) struct HttpServer {
    instance: Instance,
    _tasks: JoinSet<()>,
}

impl HttpServer {
    pub(super) async fn start(id: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |request| async move { answer(id, &request) });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async {
                    let _closed = connection.await;
                });
            }
        });
        Self {
            instance: super::instance(id, &format!("http://{address}")),
            _tasks: tasks,
        }
    }

    pub(super) fn instance(&self) -> Instance {
        self.instance.clone()
    }
}

fn answer(id: &str, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.uri().path() {
        "/timeout" => {
            let left = request.headers().get("x-request-timeout-ms");
            left.map_or("", |left| left.to_str().unwrap()).to_owned()
        }
        _ => id.to_owned(),
    };
    Ok(Response::new(Full::new(Bytes::from(text))))
}
