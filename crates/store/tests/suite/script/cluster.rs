//! Members, alarms and the cluster version.

use catena_api::etcd::etcdserverpb as pb;
use catena_store::{Member, MemberChange, Request};
use goldenscript::ArgumentConsumer;

use super::{Outcome, Script, number, take};
use crate::requests::bytes;

impl Script {
    pub(super) fn run_cluster(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "membership" => {
                if let Some(membership) = args.next_pos() {
                    self.world.apply_all(vec![], Some(bytes(membership)));
                }
                Ok(format!("{:?}", self.world.store.membership()))
            }
            "version" => match args.next_pos() {
                Some(version) => self.apply(Request::ClusterVersion(version.into())),
                None => Ok(format!("{:?}", self.world.reader().cluster_version())),
            },
            "alarm" => {
                let action = match args.next_pos() {
                    Some("raise") => 1,
                    Some("lift") => 2,
                    _ => 0,
                };
                let alarm = match args.next_pos() {
                    Some("nospace") => 1,
                    Some("corrupt") => 2,
                    _ => 0,
                };
                let member_id = take(args, "member")?.unwrap_or(0);
                self.apply(Request::Alarm(pb::AlarmRequest {
                    action,
                    member_id,
                    alarm,
                }))
            }
            _ => self.member(args),
        }
    }

    fn member(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let urls = |text: Option<&str>| text.map(str::to_owned).into_iter().collect::<Vec<_>>();
        let action = args.next_pos().unwrap_or("list");
        let change = match action {
            "list" => {
                let members = self.world.reader().members();
                let mut lines = vec![format!(
                    "cluster {:?}, removed {:?}",
                    members.cluster_id, members.removed
                )];
                lines.extend(members.present.values().map(|member| format!("{member:?}")));
                return Ok(lines.join("\n"));
            }
            "bootstrap" => {
                let member = |id| Member {
                    id,
                    peer_urls: vec![format!("http://{id}")],
                    ..Member::default()
                };
                MemberChange::Bootstrap {
                    cluster_id: 7,
                    members: (1..=number(args)?).map(member).collect(),
                }
            }
            "add" => MemberChange::Add(Member {
                id: number(args)?,
                is_learner: take(args, "learner")?.unwrap_or(false),
                peer_urls: urls(args.next_pos()),
                ..Member::default()
            }),
            "remove" => MemberChange::Remove { id: number(args)? },
            "promote" => MemberChange::Promote { id: number(args)? },
            "update" => MemberChange::Update {
                id: number(args)?,
                peer_urls: urls(args.next_pos()),
            },
            _ => MemberChange::Publish {
                id: number(args)?,
                name: args.next_pos().unwrap_or("").into(),
                client_urls: urls(args.next_pos()),
            },
        };
        self.apply(Request::Member(change))
    }
}
