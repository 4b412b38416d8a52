//! A service behind the registry, as handlers call it.

use catena_middleware::{
    Outbound, Transport,
    error::{Error, Reason, reasons},
};
use catena_registry::channel::{self, Channel};
use tonic::Status;
use tower::ServiceExt;

/// The registry knows nobody who can take the call: none at all, or all of them draining, dead or put aside.
pub static NO_INSTANCE: Reason = Reason::new(
    503,
    "NO_INSTANCE",
    "没有可用的服务实例",
    "no instance of the service can take the call",
);

/// A balanced channel as a way to its service: deadline, trace and language go with each call, and a call that nobody took is told
/// apart from one that broke.
pub fn balanced(channel: Channel, outbound: &Outbound) -> Transport {
    outbound.transport(channel.map_err(failure as fn(Status) -> Error))
}

/// What a client is told of a call without answer. Which instance it was, and where, stays in the log.
fn failure(status: Status) -> Error {
    let reason = match channel::Error::of(&status) {
        Some(channel::Error::NoInstance { .. }) => &NO_INSTANCE,
        Some(channel::Error::Deadline) => &reasons::DEADLINE_EXCEEDED,
        Some(
            channel::Error::Unreachable { .. }
            | channel::Error::Refused { .. }
            | channel::Error::Lost { .. },
        ) => &reasons::UPSTREAM_UNAVAILABLE,
        None => return Error::from(status),
    };
    Error::of(reason).with_source(status)
}

#[cfg(test)]
mod tests {
    use catena_registry::balance::NoInstance;

    use super::*;

    #[test]
    fn who_is_called_stays_in_the_log() {
        let lost = channel::Error::Lost {
            instance: "user-1".to_owned(),
            address: "10.0.0.7:50051".to_owned(),
            reason: "reset".to_owned(),
        };
        let nobody = channel::Error::NoInstance {
            service: "user".to_owned(),
            why: NoInstance::default(),
            last: None,
        };
        for (error, reason) in [
            (lost, &reasons::UPSTREAM_UNAVAILABLE),
            (nobody, &NO_INSTANCE),
            (channel::Error::Deadline, &reasons::DEADLINE_EXCEEDED),
        ] {
            let text = error.to_string();
            let error = failure(error.into());
            assert!(error.is(reason), "{error:?}");
            assert!(error.causes().unwrap().contains(&text), "{error:?}");
            assert!(!error.message().contains("user-1"));
        }
        let answered = failure(Error::new(404, "USER_NOT_FOUND", "no").into());
        assert_eq!(answered.reason(), "USER_NOT_FOUND");
    }
}
