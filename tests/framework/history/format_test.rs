//! The lines are those of the format, version 1.

use bytes::Bytes;

use super::*;

fn lines(records: Vec<Record>) -> Vec<String> {
    let history = History { records };
    let file = tempfile::NamedTempFile::new().unwrap();
    history.write_to(file.path()).unwrap();
    assert_eq!(History::read_from(file.path()).unwrap(), history);
    let text = std::fs::read_to_string(file.path()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn line(record: Record) -> String {
    lines(vec![record]).remove(0)
}

fn operation(args: Args, outcome: Outcome) -> Record {
    Record::Op(Operation {
        id: 7,
        client: 3,
        endpoint: "m1:2379".to_owned(),
        call_ns: 10,
        return_ns: (!matches!(outcome, Outcome::Unknown(_))).then_some(20),
        args,
        outcome,
        token: Some("t".to_owned()),
    })
}

#[test]
fn a_put_with_its_answer() {
    let put = Put {
        key: "k".into(),
        value: "t".into(),
        lease: 0x1f,
        ..Put::default()
    };
    let answer = Answer {
        reply: Reply::Put(Stored::default()),
        header: Header {
            revision: Some(5),
            term: Some(2),
            member: Some(0xab),
        },
    };
    assert_eq!(
        line(operation(Args::Put(put), Outcome::Ok(answer))),
        concat!(
            r#"{"args":{"key":"k","lease":"000000000000001f","value":"t"},"call_ns":10,"client":3,"#,
            r#""endpoint":"m1:2379","error":null,"id":7,"member":"00000000000000ab","op":"put","outcome":"ok","#,
            r#""result":{"prev":null},"return_ns":20,"revision":5,"t":"op","term":2,"token":"t"}"#
        )
    );
}

#[test]
fn an_unknown_transaction_nests() {
    let compare = Compare {
        key: "k".into(),
        range_end: Bytes::new(),
        result: CompareResult::NotEqual,
        operand: Operand::Mod { mod_revision: 4 },
    };
    let inner = Args::Txn(Txn {
        failure: vec![Args::Delete(Delete {
            key: "d".into(),
            ..Delete::default()
        })],
        ..Txn::default()
    });
    let txn = Args::Txn(Txn {
        compare: vec![compare],
        success: vec![inner],
        failure: Vec::new(),
    });
    assert_eq!(
        line(operation(txn, Outcome::Unknown(None))),
        concat!(
            r#"{"args":{"compare":[{"key":"k","mod_revision":4,"result":"NOT_EQUAL","target":"MOD"}],"failure":[],"#,
            r#""success":[{"args":{"compare":[],"failure":[{"args":{"key":"d"},"op":"delete"}],"success":[]},"op":"txn"}]},"#,
            r#""call_ns":10,"client":3,"endpoint":"m1:2379","error":null,"id":7,"member":null,"op":"txn","#,
            r#""outcome":"unknown","result":null,"return_ns":null,"revision":null,"t":"op","term":null,"token":"t"}"#
        )
    );
}

#[test]
fn bytes_that_are_no_text_and_long_values_have_fields_of_their_own() {
    let long = format!("t#{}", "x".repeat(300));
    let put = Put {
        key: Bytes::from_static(b"\xff"),
        value: Value::from(long).recorded(),
        ..Put::default()
    };
    let line = line(operation(Args::Put(put), Outcome::Unknown(None)));
    assert!(
        line.contains(r#""args":{"key_b64":"/w==","value":"t","value_len":302,"value_sha256":""#)
    );
}

#[test]
fn other_calls_pass_through() {
    let args = Args::Other(Other {
        op: "member_add".to_owned(),
        args: BTreeMap::from([("is_learner".to_owned(), true.into())]),
    });
    let answer = Answer {
        reply: Reply::Other {
            op: "member_add".to_owned(),
            result: serde_json::json!({ "id": "00000000000000ab" }),
        },
        header: Header::default(),
    };
    let line = line(operation(args, Outcome::Ok(answer)));
    assert!(line.contains(r#""op":"member_add""#));
    assert!(line.contains(r#""result":{"id":"00000000000000ab"}"#));
}

#[test]
fn every_reply_comes_back() {
    let pair = Pair {
        key: "k".into(),
        value: "v".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: -1,
    };
    let replies = [
        (Args::Compact(Compact::default()), Reply::Compact {}),
        (Args::LeaseRevoke(LeaseId { id: 1 }), Reply::LeaseRevoke {}),
        (
            Args::LeaseKeepalive(LeaseId { id: 1 }),
            Reply::LeaseKeepalive { ttl: 3 },
        ),
        (Args::Leases {}, Reply::Leases { ids: vec![1, -2] }),
        (
            Args::LeaseTtl(LeaseTtl { id: 1, keys: true }),
            Reply::LeaseTtl(LeaseLeft {
                ttl: 1,
                granted_ttl: 2,
                keys: vec!["k".into(), Bytes::from_static(b"\xfe")],
            }),
        ),
        (
            Args::Txn(Txn::default()),
            Reply::Txn(Tried {
                succeeded: true,
                responses: vec![Reply::Get(Ranged {
                    kvs: vec![pair],
                    count: 1,
                    more: false,
                })],
            }),
        ),
    ];
    let records = replies.into_iter().map(|(args, reply)| {
        let header = Header::default();
        operation(args, Outcome::Ok(Answer { reply, header }))
    });
    assert_eq!(lines(records.collect()).len(), 6);
}

#[test]
fn watches_faults_and_processes() {
    let watch = Watch {
        client: 1,
        watch: 2,
        endpoint: "m1".to_owned(),
        ns: 5,
        event: WatchEvent::Progress {
            revision: 9,
            scope: Scope::Stream,
        },
    };
    assert_eq!(
        line(Record::Watch(watch)),
        r#"{"client":1,"endpoint":"m1","ev":"progress","ns":5,"revision":9,"scope":"stream","t":"watch","watch":2}"#
    );
    let fault = Fault {
        ns: 1,
        name: "pause".to_owned(),
        phase: Phase::Start,
        targets: vec!["m1".to_owned()],
        args: BTreeMap::new(),
        proof: None,
    };
    assert_eq!(
        line(Record::Fault(fault)),
        r#"{"args":{},"name":"pause","ns":1,"phase":"start","proof":null,"t":"fault","targets":["m1"]}"#
    );
    let process = Proc {
        ns: 1,
        name: "m1".to_owned(),
        member: Some(255),
        event: ProcEvent::Exit,
        pid: 4,
        incarnation: 1,
        exit: Some(137),
    };
    assert_eq!(
        line(Record::Proc(process)),
        concat!(
            r#"{"event":"exit","exit":137,"incarnation":1,"member":"00000000000000ff","#,
            r#""name":"m1","ns":1,"pid":4,"t":"proc"}"#
        )
    );
}

#[test]
fn a_line_that_is_no_record_is_an_error_with_its_number() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "{\"t\":\"end\",\"ns\":1,\"lines\":1,\"ops\":0,\"unknown\":0}\nnonsense\n",
    )
    .unwrap();
    let error = format!("{:#}", History::read_from(file.path()).unwrap_err());
    assert!(error.contains("line 2"), "{error}");
}
