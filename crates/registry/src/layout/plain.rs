//! The layouts whose value is `host:port` alone: go-zero's and the article's.

use crate::{Endpoint, Instance, Scheme, ServiceName};

/// The address that callers of gRPC are given: the first that speaks it, else the first.
pub(super) fn rpc_address(instance: &Instance) -> String {
    let rpc = instance.endpoint(&[Scheme::Grpc, Scheme::Grpcs]);
    let address = rpc.or(instance.endpoints.first());
    address.map(Endpoint::address).unwrap_or_default()
}

/// The first address: the article does not say what its instances speak.
pub(super) fn any_address(instance: &Instance) -> String {
    let first = instance.endpoints.first();
    first.map(Endpoint::address).unwrap_or_default()
}

pub(super) fn decode_go_zero(service: &ServiceName, rest: &str, text: &str) -> Option<Instance> {
    let endpoint = Endpoint::at(Scheme::Grpc, text).ok()?;
    Some(Instance::new(service.clone(), rest, vec![endpoint]))
}

/// The address is offered to callers of both kinds, for nothing says which it is.
pub(super) fn decode_article(service: &ServiceName, rest: &str, text: &str) -> Option<Instance> {
    let http = Endpoint::at(Scheme::Http, text).ok()?;
    let grpc = Endpoint {
        scheme: Scheme::Grpc,
        ..http.clone()
    };
    Some(Instance::new(service.clone(), rest, vec![http, grpc]))
}
