//! Calls of a service in the same process, by their types: nothing is encoded, routed, or written to the log a second time.
//!
//! The request that calls has passed the [chain](crate::chain) and tells of both in its line. What is left for the call are those
//! parts of the chain that a service has for itself: its span, its series, its share of the deadline, and that a panic is an error.

use std::{future::Future, pin::pin, sync::Arc, time::Instant};

use tonic::{Response, Status};

use crate::{
    deadline::{self, Deadline},
    error::{Error, Result, reasons},
    observe::{RequestMetrics, Watch},
    outbound::Outbound,
    record::Record,
    recover,
};

/// What calls within a process share.
#[derive(Clone)]
pub struct LocalCalls {
    metrics: Arc<RequestMetrics>,
    outbound: Outbound,
}

impl LocalCalls {
    /// Calls that are counted in these series, and take as long as one of `outbound` may.
    pub fn new(metrics: Arc<RequestMetrics>, outbound: Outbound) -> Self {
        Self { metrics, outbound }
    }

    /// Runs `work` as a call of `method`, by gRPC's name: `example.UserService/GetUser`.
    pub async fn call<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        let limit = deadline::outbound(self.outbound.limit())?;
        let Some(deadline) = Deadline::after(Instant::now(), limit) else {
            return Err(Error::of(&reasons::DEADLINE_MALFORMED).into());
        };
        let record = Record::within(method);
        let watch = Watch::begin(record.clone(), self.metrics.clone(), None);
        let work = pin!(work);
        let work = pin!(record.scope(async {
            let ended = deadline.enforce(work).await;
            let ended = ended.map_err(Status::from).flatten();
            watch.called(ended.as_ref().err());
            ended
        }));
        let ended = recover::catch(work).await;
        ended.map_err(Status::from).flatten()
    }
}

#[cfg(test)]
mod tests {
    use catena_telemetry::metrics::Registry;
    use http::Request;
    use tokio::time::sleep;

    use std::time::Duration;

    use super::*;
    use crate::Language;
    use crate::outbound::UNARY_LIMIT;

    const METHOD: &str = "example.UserService/GetUser";

    /// The series, and calls that count in them.
    fn calls() -> (Registry, LocalCalls) {
        let registry = Registry::new().unwrap();
        let metrics = Arc::new(RequestMetrics::register(&registry).unwrap());
        (registry, LocalCalls::new(metrics, Outbound::default()))
    }

    /// That one call has ended so, and none is open.
    fn assert_counted(registry: &Registry, status: u16) {
        let text = registry.render().unwrap();
        let count = format!(
            "catena_requests_total{{method=\"POST\",protocol=\"grpc\",route=\"{METHOD}\",status=\"{status}\"}} 1"
        );
        for line in [&*count, "catena_requests_in_flight{protocol=\"grpc\"} 0"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    /// A request that came in, in English.
    fn caller() -> Arc<Record> {
        let request = Request::builder().header("accept-language", "en");
        Record::begin(&request.body(()).unwrap())
    }

    #[tokio::test]
    async fn a_call_is_a_span_of_its_caller_s_trace() {
        let (registry, calls) = calls();
        let caller = caller();
        let work = async {
            let record = Record::current().unwrap();
            Ok(Response::new((record, Language::current())))
        };
        let answer = caller.clone().scope(calls.call(METHOD, work)).await;
        let (record, language) = answer.unwrap().into_inner();
        assert_eq!(record.trace().id(), caller.trace().id());
        assert_eq!(record.trace().parent_id(), Some(caller.trace().span_id()));
        assert_ne!(record.trace().span_id(), caller.trace().span_id());
        assert_eq!(language, Language::English);
        assert_counted(&registry, 200);
    }

    #[tokio::test]
    async fn an_error_is_handed_on_as_it_is() {
        let (registry, calls) = calls();
        let error = Error::new(404, "USER_NOT_FOUND", "no").with_source("the cause");
        let work = async { Err::<Response<()>, _>(error.clone().into()) };
        let ended = Error::from(calls.call(METHOD, work).await.unwrap_err());
        assert_eq!(ended, error);
        assert_eq!(ended.causes().unwrap(), "the cause");
        assert_counted(&registry, 404);
    }

    #[tokio::test]
    async fn a_panic_costs_the_call_alone() {
        let (registry, calls) = calls();
        async fn panics() -> Result<Response<()>, Status> {
            panic!("a handler's secret")
        }
        let ended = Error::from(calls.call(METHOD, panics()).await.unwrap_err());
        assert_eq!((ended.code(), ended.reason()), (500, "INTERNAL"));
        assert!(!ended.message().contains("secret"));
        assert_counted(&registry, 500);
        let text = registry.render().unwrap();
        assert!(text.contains("catena_request_panics_total 1\n"), "{text}");
    }

    #[tokio::test]
    async fn a_call_ends_before_its_caller_does() {
        let (registry, calls) = calls();
        let outer = Deadline::after(Instant::now(), Duration::from_millis(100)).unwrap();
        let work = async {
            assert!(Deadline::current().unwrap() < outer);
            sleep(UNARY_LIMIT).await;
            Ok(Response::new(()))
        };
        let ended = outer.enforce(calls.call(METHOD, work)).await;
        let ended = Error::from(ended.expect("the call was earlier").unwrap_err());
        assert!(ended.is(&reasons::DEADLINE_EXCEEDED));
        assert_counted(&registry, 504);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_is_counted() {
        let (registry, calls) = calls();
        let work = std::future::pending::<Result<Response<()>, Status>>();
        let left = tokio::time::timeout(Duration::from_millis(10), calls.call(METHOD, work));
        assert!(left.await.is_err());
        assert_counted(&registry, 499);
    }
}
