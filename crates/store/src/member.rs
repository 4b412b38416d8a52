//! The record of members.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, Fatal, Member, MemberChange, backend::Bucket};

/// Value of a removed member's record.
const REMOVED: Bytes = Bytes::from_static(b"removed");

/// The members of the cluster, those that were removed, and the cluster's id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Fixed at bootstrap; absent before.
    pub cluster_id: Option<u64>,
    /// By id.
    pub present: BTreeMap<u64, Member>,
    /// Ids that never come back.
    pub removed: BTreeSet<u64>,
}

impl Members {
    /// Makes a change, or refuses it without any effect.
    pub(crate) fn change(&mut self, change: &MemberChange) -> Result<(), Error> {
        match change {
            MemberChange::Bootstrap {
                cluster_id,
                members,
            } => self.bootstrap(*cluster_id, members),
            MemberChange::Add(member) => self.add(member),
            MemberChange::Remove { id } => self.remove(*id),
            MemberChange::Update { id, peer_urls } => self.update(*id, peer_urls),
            MemberChange::Promote { id } => self.promote(*id),
            MemberChange::Publish {
                id,
                name,
                client_urls,
            } => {
                let member = self.get_mut(*id)?;
                member.name.clone_from(name);
                member.client_urls.clone_from(client_urls);
                Ok(())
            }
        }
    }

    fn bootstrap(&mut self, cluster_id: u64, members: &[Member]) -> Result<(), Error> {
        if self.cluster_id.is_some() || !self.present.is_empty() {
            return Err(Error::MemberExists);
        }
        self.cluster_id = Some(cluster_id);
        let members = members.iter().map(|member| (member.id, member.clone()));
        self.present = members.collect();
        Ok(())
    }

    fn add(&mut self, member: &Member) -> Result<(), Error> {
        if self.removed.contains(&member.id) {
            return Err(Error::MemberNotFound);
        }
        if self.present.contains_key(&member.id) {
            return Err(Error::MemberExists);
        }
        self.check_urls(member.id, &member.peer_urls)?;
        self.present.insert(member.id, member.clone());
        Ok(())
    }

    fn remove(&mut self, id: u64) -> Result<(), Error> {
        self.present.remove(&id).ok_or(Error::MemberNotFound)?;
        self.removed.insert(id);
        Ok(())
    }

    fn update(&mut self, id: u64, peer_urls: &[String]) -> Result<(), Error> {
        self.get_mut(id)?;
        self.check_urls(id, peer_urls)?;
        self.get_mut(id)?.peer_urls = peer_urls.to_vec();
        Ok(())
    }

    fn promote(&mut self, id: u64) -> Result<(), Error> {
        let member = self.get_mut(id)?;
        if !member.is_learner {
            return Err(Error::NotLearner);
        }
        member.is_learner = false;
        Ok(())
    }

    fn get_mut(&mut self, id: u64) -> Result<&mut Member, Error> {
        self.present.get_mut(&id).ok_or(Error::MemberNotFound)
    }

    /// Refuses URLs of other members than `id`.
    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let mut others = self.present.values().filter(|member| member.id != id);
        match others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url))) {
            true => Err(Error::PeerUrlExists),
            false => Ok(()),
        }
    }

    /// All records, by bucket and key.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Bucket, Bytes, Bytes)> {
        let present = self.present.values().map(|member| {
            let record = serde_json::to_vec(&MemberRecord::from(member))
                .expect("numbers, strings and lists have a JSON form");
            (Bucket::Members, record_key(member.id), record.into())
        });
        let removed = self
            .removed
            .iter()
            .map(|id| (Bucket::MembersRemoved, record_key(*id), REMOVED));
        present.chain(removed)
    }

    /// Reads a record of [`Bucket::Members`].
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fatal> {
        let record: MemberRecord =
            serde_json::from_slice(value).map_err(|_| Fatal::key(Bucket::Members, key))?;
        self.present.insert(record.id, record.into());
        Ok(())
    }

    /// Reads a record of [`Bucket::MembersRemoved`].
    pub(crate) fn restore_removed(&mut self, key: &[u8]) -> Result<(), Fatal> {
        let id = std::str::from_utf8(key).ok();
        let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
        let id = id.ok_or_else(|| Fatal::key(Bucket::MembersRemoved, key))?;
        self.removed.insert(id);
        Ok(())
    }
}

/// The key of a member's record: its id in hex.
pub(crate) fn record_key(id: u64) -> Bytes {
    format!("{id:x}").into()
}

/// A member as etcd stores it.
#[derive(Serialize, Deserialize)]
struct MemberRecord {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(
        rename = "isLearner",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

impl From<&Member> for MemberRecord {
    fn from(member: &Member) -> Self {
        let member = member.clone();
        Self {
            id: member.id,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_urls,
        }
    }
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            peer_urls: record.peer_urls,
            client_urls: record.client_urls,
            is_learner: record.is_learner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member {
            id,
            peer_urls: vec![format!("http://m{id}:2380")],
            is_learner,
            ..Member::default()
        }
    }

    /// Two voters and a learner; voter 4 was removed.
    fn sample() -> Members {
        let mut members = Members::default();
        let bootstrap = MemberChange::Bootstrap {
            cluster_id: 7,
            members: vec![member(1, false), member(2, false), member(4, false)],
        };
        for change in [
            bootstrap,
            MemberChange::Add(member(3, true)),
            MemberChange::Remove { id: 4 },
        ] {
            members.change(&change).unwrap();
        }
        members
    }

    #[test]
    fn refusals_have_no_effect() {
        let taken = Member {
            id: 9,
            ..member(2, false)
        };
        let update = |id, of: u64| MemberChange::Update {
            id,
            peer_urls: vec![format!("http://m{of}:2380")],
        };
        let again = MemberChange::Bootstrap {
            cluster_id: 8,
            members: vec![],
        };
        let cases = [
            (MemberChange::Add(member(4, false)), Error::MemberNotFound),
            (MemberChange::Add(member(1, false)), Error::MemberExists),
            (MemberChange::Add(taken), Error::PeerUrlExists),
            (MemberChange::Remove { id: 4 }, Error::MemberNotFound),
            (MemberChange::Remove { id: 5 }, Error::MemberNotFound),
            (update(5, 5), Error::MemberNotFound),
            (update(1, 2), Error::PeerUrlExists),
            (MemberChange::Promote { id: 5 }, Error::MemberNotFound),
            (MemberChange::Promote { id: 1 }, Error::NotLearner),
            (again, Error::MemberExists),
        ];
        for (change, error) in cases {
            let mut members = sample();
            assert_eq!(members.change(&change), Err(error), "{change:?}");
            assert_eq!(members, sample(), "{change:?}");
        }
    }

    #[test]
    fn update_keeps_the_learner_flag() {
        let mut members = sample();
        let change = MemberChange::Update {
            id: 3,
            peer_urls: vec!["http://elsewhere:2380".into()],
        };
        members.change(&change).unwrap();
        assert!(members.present[&3].is_learner);
    }

    #[test]
    fn records_are_those_of_etcd() {
        let records: Vec<_> = sample().records().collect();
        assert_eq!(
            records[2],
            (
                Bucket::Members,
                "3".into(),
                r#"{"id":3,"peerURLs":["http://m3:2380"],"isLearner":true}"#.into()
            )
        );
        assert_eq!(
            records[3],
            (Bucket::MembersRemoved, "4".into(), "removed".into())
        );
        let mut restored = Members {
            cluster_id: Some(7),
            ..Members::default()
        };
        for (bucket, key, value) in records {
            match bucket {
                Bucket::Members => restored.restore(&key, &value).unwrap(),
                _ => restored.restore_removed(&key).unwrap(),
            }
        }
        assert_eq!(restored, sample());
    }
}
