//! What is known of the request that this task answers.
//!
//! A record begins at the edge, outside of everything that can fail, and is filled on the way: the route when it is found, the error
//! when it is answered. Handlers see it as the current one of their task; what they spawn does not inherit it.

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use http::{HeaderMap, Method, Request};

use crate::{error::Error, language::Language, protocol::Protocol, trace::Trace};

tokio::task_local! {
    static CURRENT: Arc<Record>;
}

/// One request.
#[derive(Debug)]
pub struct Record {
    protocol: Protocol,
    method: Method,
    began: Instant,
    trace: Trace,
    language: Language,
    route: OnceLock<Arc<str>>,
    /// The last error that was answered.
    failure: Mutex<Option<Failure>>,
}

/// What the log says of an error.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The reason.
    pub reason: String,
    /// What broke underneath.
    pub causes: Option<String>,
}

impl Record {
    /// A request that has just come in.
    pub fn begin<B>(request: &Request<B>) -> Arc<Self> {
        Arc::new(Self {
            protocol: Protocol::of(request),
            method: request.method().clone(),
            began: Instant::now(),
            trace: Trace::begin(request.headers()),
            language: Language::of(request.headers()),
            route: OnceLock::new(),
            failure: Mutex::new(None),
        })
    }

    /// A call of a method in this process, by the request that this task answers.
    pub(crate) fn within(method: &'static str) -> Arc<Self> {
        let caller = Self::current();
        let trace = caller.as_ref().map(|caller| caller.trace.child());
        Arc::new(Self {
            protocol: Protocol::Grpc,
            method: Method::POST,
            began: Instant::now(),
            trace: trace.unwrap_or_else(|| Trace::begin(&HeaderMap::new())),
            language: caller.map_or_else(Language::default, |caller| caller.language),
            route: OnceLock::from(Arc::from(method)),
            failure: Mutex::new(None),
        })
    }

    /// The request that this task answers, if it answers one.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs `answer` with this as the current record.
    pub fn scope<F: Future>(self: Arc<Self>, answer: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, answer)
    }

    /// How it is spoken to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// When it came in.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Its span.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The language of its texts.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The template of the route that answers, once it is found: `/users/{id}`.
    pub fn route(&self) -> Option<Arc<str>> {
        self.route.get().cloned()
    }

    /// Says which route answers.
    pub fn note_route(&self, route: impl Into<Arc<str>>) {
        // Routes nest: the first that says so is the outermost.
        let _first = self.route.set(route.into());
    }

    /// The error that was answered.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says which error is answered.
    pub fn note_error(&self, error: &Error) {
        let failure = Failure {
            reason: error.reason().to_owned(),
            causes: error.causes(),
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// Makes a call that goes out part of the current request: its trace and its language.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(record) = Record::current() {
        record.trace.inject(headers);
        let language = record.language.tag();
        headers.insert(
            http::header::ACCEPT_LANGUAGE,
            http::HeaderValue::from_static(language),
        );
    }
}
