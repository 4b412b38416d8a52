//! An operation as it stands in a line: its parts beside each other, and the result without the name that the line has already.

use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::{Map, Value as Json};

use super::{Answer, Args, Failure, Header, Operation, Outcome, Reply, json::maybe_id};

/// An operation as it stands in a line.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    id: u64,
    client: u64,
    #[serde(default)]
    endpoint: String,
    call_ns: u64,
    return_ns: Option<u64>,
    #[serde(flatten)]
    args: Args,
    outcome: Kind,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    result: Option<Json>,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(default)]
    term: Option<u64>,
    #[serde(default, with = "maybe_id")]
    member: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Ok,
    Fail,
    Unknown,
}

impl From<Operation> for Line {
    fn from(operation: Operation) -> Self {
        let (outcome, error, answer) = match operation.outcome {
            Outcome::Ok(answer) => (Kind::Ok, None, Some(answer)),
            Outcome::Fail(failure) => (Kind::Fail, Some(failure), None),
            Outcome::Unknown(failure) => (Kind::Unknown, failure, None),
        };
        let header = answer
            .as_ref()
            .map_or(Header::default(), |answer| answer.header);
        Self {
            id: operation.id,
            client: operation.client,
            endpoint: operation.endpoint,
            call_ns: operation.call_ns,
            return_ns: operation.return_ns,
            args: operation.args,
            outcome,
            error,
            result: answer.map(|answer| result(&answer.reply)),
            revision: header.revision,
            term: header.term,
            member: header.member,
            token: operation.token,
        }
    }
}

/// The result without the name of the operation, which the line has already.
fn result(reply: &Reply) -> Json {
    let json = serde_json::to_value(reply).expect("a reply has only string keys");
    match json {
        Json::Object(mut fields) => fields.remove("result").unwrap_or_default(),
        _ => Json::Null,
    }
}

impl TryFrom<Line> for Operation {
    type Error = serde_json::Error;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        let missing = |what| serde_json::Error::custom(format!("operation {}: no {what}", line.id));
        let outcome = match line.outcome {
            Kind::Ok => Outcome::Ok(Answer {
                reply: reply(&line.args, line.result.ok_or_else(|| missing("result"))?)?,
                header: Header {
                    revision: line.revision,
                    term: line.term,
                    member: line.member,
                },
            }),
            Kind::Fail => Outcome::Fail(line.error.ok_or_else(|| missing("error"))?),
            Kind::Unknown => Outcome::Unknown(line.error),
        };
        Ok(Self {
            id: line.id,
            client: line.client,
            endpoint: line.endpoint,
            call_ns: line.call_ns,
            return_ns: line.return_ns,
            args: line.args,
            outcome,
            token: line.token,
        })
    }
}

fn reply(args: &Args, result: Json) -> Result<Reply, serde_json::Error> {
    let fields = [("op", args.name().into()), ("result", result)];
    let fields: Map<_, _> = fields
        .map(|(name, json)| (name.to_owned(), json))
        .into_iter()
        .collect();
    serde_json::from_value(fields.into())
}
