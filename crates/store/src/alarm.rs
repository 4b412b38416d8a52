//! Alarms: which member is out of space, which one's data differ. One of a kind anywhere concerns the whole cluster.

use std::collections::BTreeSet;

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction};
use prost::Message;

use crate::{Error, Fatal, Request, backend::Bucket, quota};

/// The raised alarms by member and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    raised: BTreeSet<(u64, i32)>,
}

/// What an alarm request changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlarmChange {
    Raised(pb::AlarmMember),
    Lifted(pb::AlarmMember),
}

impl Alarms {
    /// Executes a request: the answer, and the change if there was one.
    pub(crate) fn apply(
        &mut self,
        request: &pb::AlarmRequest,
    ) -> (pb::AlarmResponse, Option<AlarmChange>) {
        let alarm = pb::AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let place = (request.member_id, request.alarm);
        let (alarms, change) = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => (self.list(request.alarm), None),
            Ok(AlarmAction::Activate) if request.alarm != AlarmType::None as i32 => {
                let is_new = self.raised.insert(place);
                (vec![alarm], is_new.then_some(AlarmChange::Raised(alarm)))
            }
            Ok(AlarmAction::Deactivate) if self.raised.remove(&place) => {
                (vec![alarm], Some(AlarmChange::Lifted(alarm)))
            }
            _ => (Vec::new(), None),
        };
        let header = None;
        (pb::AlarmResponse { header, alarms }, change)
    }

    /// The alarms of a type; of all types for `NONE`.
    pub(crate) fn list(&self, kind: i32) -> Vec<pb::AlarmMember> {
        let wanted = |(_, alarm): &&(u64, i32)| kind == AlarmType::None as i32 || *alarm == kind;
        let to_message = |&(member_id, alarm): &(u64, i32)| pb::AlarmMember { member_id, alarm };
        self.raised.iter().filter(wanted).map(to_message).collect()
    }

    fn is_raised(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(_, alarm)| *alarm == kind as i32)
    }

    /// What the alarms forbid.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Error> {
        if self.raised.is_empty() {
            return Ok(());
        }
        let touches_data = match request {
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_) => true,
            Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::Member(_)
            | Request::ClusterVersion(_) => false,
        };
        if touches_data && self.is_raised(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if quota::cost(request) > 0 && self.is_raised(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// The keys of all records; the values are empty.
    pub(crate) fn records(&self) -> impl Iterator<Item = Bytes> {
        self.list(AlarmType::None as i32)
            .into_iter()
            .map(|alarm| record_key(&alarm))
    }

    /// Reads the key of a record.
    pub(crate) fn restore(&mut self, key: &[u8]) -> Result<(), Fatal> {
        let alarm = pb::AlarmMember::decode(key).map_err(|e| Fatal::record(Bucket::Alarm, e))?;
        self.raised.insert((alarm.member_id, alarm.alarm));
        Ok(())
    }
}

/// The key of an alarm's record.
pub(crate) fn record_key(alarm: &pb::AlarmMember) -> Bytes {
    alarm.encode_to_vec().into()
}
