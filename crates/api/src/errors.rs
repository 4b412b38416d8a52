//! The errors of etcd's API: code and exact text.
//!
//! Clients of etcd recognise an error by its text and decide by its code whether to retry, so both are part of the contract.
//! The table follows etcd's `api/v3/v3rpc/rpctypes/error.go`; texts that etcd sends with the code `Unknown` because they are not
//! in its table stand in the second half.

use tonic::{Code, Status};

/// An error of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The gRPC code.
    pub code: Code,
    /// The complete text.
    pub text: &'static str,
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Status::new(error.code, error.text)
    }
}

macro_rules! errors {
    ($($name:ident = $code:ident, $text:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: ApiError = ApiError { code: Code::$code, text: $text };
        )*
        /// Every error above.
        pub const ALL: &[ApiError] = &[$($name),*];
    };
}

errors! {
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION = InvalidArgument, "etcdserver: invalid client api version";
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    USER_EMPTY = InvalidArgument, "etcdserver: user name is empty";
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";
    NO_SPACE = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    TOO_MANY_REQUESTS = ResourceExhausted, "etcdserver: too many requests";
    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    LEASE_EXISTS = FailedPrecondition, "etcdserver: lease already exists";
    MEMBER_EXISTS = FailedPrecondition, "etcdserver: member ID already exist";
    PEER_URL_EXISTS = FailedPrecondition, "etcdserver: Peer URLs already exists";
    NOT_ENOUGH_STARTED = FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition, "etcdserver: too many learner members in cluster";
    CLUSTER_ID_MISMATCH = FailedPrecondition, "etcdserver: cluster ID mismatch";
    AUTH_NOT_ENABLED = FailedPrecondition, "etcdserver: authentication is not enabled";
    NOT_LEADER = FailedPrecondition, "etcdserver: not leader";
    NOT_CAPABLE = FailedPrecondition, "etcdserver: not capable";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition, "etcdserver: rpc not supported for learner";
    BAD_TRANSFEREE = FailedPrecondition, "etcdserver: bad leader transferee";
    NO_DOWNGRADE_CLUSTER_VERSION = FailedPrecondition, "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROGRESS = FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NO_DOWNGRADE = FailedPrecondition, "etcdserver: no inflight downgrade job";
    DOWNGRADE_VERSION_FORMAT = InvalidArgument, "etcdserver: wrong downgrade target version format";
    DOWNGRADE_VERSION_INVALID = InvalidArgument, "etcdserver: invalid downgrade target version";
    NO_LEADER = Unavailable, "etcdserver: no leader";
    LEADER_CHANGED = Unavailable, "etcdserver: leader changed";
    STOPPED = Unavailable, "etcdserver: server stopped";
    TIMEOUT = Unavailable, "etcdserver: request timed out";
    TIMEOUT_LEADER_FAILURE = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_CONNECTION_LOST = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_APPLIED_INDEX = Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    UNHEALTHY = Unavailable, "etcdserver: unhealthy cluster";
    CORRUPT = DataLoss, "etcdserver: corrupt cluster";
    WATCH_CANCELED = Cancelled, "etcdserver: watch canceled";
    REQUEST_CANCELED = Cancelled, "etcdserver: request canceled";
    DEADLINE_EXCEEDED = DeadlineExceeded, "context deadline exceeded";
    RANGE_STREAM_SORT = Unimplemented, "RangeStream does not support custom sort orders";
    RANGE_STREAM_FILTER = Unimplemented, "RangeStream does not support revision filters";

    TIMEOUT_LEADER_TRANSFER = Unknown, "etcdserver: request timed out, leader transfer took too long";
    UNKNOWN_METHOD = Unknown, "etcdserver: unknown method";
    PROPOSAL_DROPPED = Unknown, "raft proposal dropped";
    NOT_PRIMARY_LESSOR = Unknown, "not a primary lessor";
    SESSION_EXPIRED = Unknown, "mutex: session is expired";
    LOCK_RELEASED = Unknown, "mutex: lock has already been released";
    ELECTION_NOT_LEADER = Unknown, "election: not leader";
    ELECTION_NO_LEADER = Unknown, "election: no leader";
    LEADER_FIELD_MISSING = Unknown, "\"leader\" field must be provided";
    WATCH_EMPTY_RANGE = Unknown, "mvcc: watcher range is empty";
    WATCH_DUPLICATE_ID = Unknown, "mvcc: duplicate watch ID provided on the WatchStream";
}
