//! The wire contracts of Catena as Rust types.
//!
//! - [`etcd`]: messages and gRPC stubs of etcd's API v3, generated from `proto/etcd`, all `bytes` fields as [`bytes::Bytes`];
//! - [`KeyValue`] and [`Event`]: the two messages that the store keeps and sends in their encoded form;
//! - [`errors`]: the exact texts and codes that etcd clients recognise;
//! - [`peer`]: what members say to one another;
//! - [`example`] and [`user`]: the user service, as the article has it and whole; [`SERVICES`] describes both for reflection.
//!
//! Nothing here knows how a request is answered.

mod encoded;
pub mod errors;

pub use encoded::{Event, EventType, KeyValue, KeyValueHead, KeyValueView};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
mod generated {
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod leasepb {
        tonic::include_proto!("leasepb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    pub mod v3lockpb {
        tonic::include_proto!("v3lockpb");
    }
    pub mod v3electionpb {
        tonic::include_proto!("v3electionpb");
    }
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }
    pub mod example {
        tonic::include_proto!("example");
    }
    pub mod user {
        tonic::include_proto!("catena.user.v1");
    }
    pub mod peer {
        tonic::include_proto!("catena.raft.v1");
    }
}

/// The peer protocol's service and frames.
pub use generated::peer;

/// The article's user service.
pub use generated::example;

/// Users, whole.
pub use generated::user;

/// The descriptors of [`example`] and [`user`], as gRPC reflection wants them.
pub const SERVICES: &[u8] = tonic::include_file_descriptor_set!("services");

/// Messages and stubs of etcd's API v3, one module for each protobuf package.
pub mod etcd {
    pub use super::generated::{
        authpb, etcdserverpb, health, leasepb, v3electionpb as electionpb, v3lockpb as lockpb,
    };
}
