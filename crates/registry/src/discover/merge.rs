//! Entries of all layouts become instances: what speaks of the same address is one.
//!
//! Of several entries for one address the layout that can say most is believed. Two of one layout stay two: their own programs see
//! them so. An entry that is only kept from before gives way to anything that stands. What comes out has unique ids: of two that
//! have the same and speak of different addresses, the lesser gets its layout's name before it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use crate::{Endpoint, Instance, Layout, layout::Entry};

/// An entry, and whether it is kept although the store lacks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) entry: &'a Entry,
    pub(super) kept: bool,
}

/// The instances, by id. Few of them are another than their entry says, so they are borrowed: a change of one among thousands copies
/// none of the others.
pub(super) fn merge(mut candidates: Vec<Candidate<'_>>) -> Vec<Cow<'_, Instance>> {
    let rank = |candidate: &Candidate<'_>| (candidate.kept, candidate.entry.layout);
    candidates.sort_by(|a, b| {
        let ids = (&a.entry.instance.id, &b.entry.instance.id);
        rank(a).cmp(&rank(b)).then(ids.0.cmp(ids.1))
    });
    // Where all are of one rank, none gives way to another.
    let ranks = (candidates.first().map(rank), candidates.last().map(rank));
    let is_mixed = ranks.0 != ranks.1;
    let mut claimed: HashMap<String, (bool, Layout)> = HashMap::new();
    let mut ids: HashSet<Cow<'_, str>> = HashSet::with_capacity(candidates.len());
    let mut instances = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let instance = &candidate.entry.instance;
        let rank = rank(&candidate);
        let mut addresses = Vec::new();
        if is_mixed {
            addresses.extend(instance.endpoints.iter().map(Endpoint::address));
        }
        let known = addresses
            .iter()
            .any(|address| claimed.get(address).is_some_and(|had| *had != rank));
        if known {
            continue;
        }
        let mut shown = Cow::Borrowed(instance);
        if !ids.insert(Cow::Borrowed(&instance.id)) {
            let id = format!("{}/{}", candidate.entry.layout.as_str(), instance.id);
            if !ids.insert(Cow::Owned(id.clone())) {
                continue;
            }
            shown.to_mut().id = id;
        }
        claimed.extend(addresses.into_iter().map(|address| (address, rank)));
        instances.push(shown);
    }
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    instances
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceName;

    fn entry(layout: Layout, id: &str, endpoints: &[&str]) -> Entry {
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        let service = ServiceName::new("user").unwrap();
        Entry {
            layout,
            instance: Instance::new(service, id, endpoints),
        }
    }

    fn ids(entries: &[(Entry, bool)]) -> Vec<String> {
        let candidates = entries
            .iter()
            .map(|(entry, kept)| Candidate { entry, kept: *kept });
        let merged = merge(candidates.collect());
        merged.iter().map(|instance| instance.id.clone()).collect()
    }

    #[test]
    fn all_layouts_of_one_instance_are_one() {
        let entries = [
            (
                entry(Layout::Article, "1", &["http://h:1", "grpc://h:1"]),
                false,
            ),
            (entry(Layout::GoZero, "77", &["grpc://h:2"]), false),
            (entry(Layout::GrpcNaming, "h:2", &["grpc://h:2"]), false),
            (
                entry(Layout::Kratos, "k", &["http://h:1", "grpc://h:2"]),
                false,
            ),
            (
                entry(Layout::Native, "n", &["http://h:1", "grpc://h:2"]),
                false,
            ),
        ];
        assert_eq!(ids(&entries), ["n"]);
        assert_eq!(ids(&entries[..4]), ["k"]);
        assert_eq!(ids(&entries[..3]), ["1", "h:2"]);
        assert_eq!(ids(&entries[..2]), ["1", "77"]);
    }

    #[test]
    fn two_of_one_layout_stay_two() {
        let entries = [
            (entry(Layout::Native, "a", &["grpc://h:1"]), false),
            (entry(Layout::Native, "b", &["grpc://h:1"]), false),
        ];
        assert_eq!(ids(&entries), ["a", "b"]);
    }

    #[test]
    fn same_id_at_another_address_is_another_instance() {
        let entries = [
            (entry(Layout::Native, "1", &["grpc://h:1"]), false),
            (
                entry(Layout::Article, "1", &["http://h:9", "grpc://h:9"]),
                false,
            ),
        ];
        assert_eq!(ids(&entries), ["1", "article/1"]);
    }

    #[test]
    fn what_is_kept_gives_way_to_what_stands() {
        let kept = (entry(Layout::Native, "old", &["grpc://h:1"]), true);
        assert_eq!(ids(std::slice::from_ref(&kept)), ["old"]);
        let entries = [kept, (entry(Layout::GoZero, "8", &["grpc://h:1"]), false)];
        assert_eq!(ids(&entries), ["8"]);
    }
}
