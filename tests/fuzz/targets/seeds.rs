//! Writes the corpora: small inputs made by the real encoders. `fuzz-seeds CORPUS` puts them into `CORPUS/<target>/`.

#![no_main]

use std::{fs, path::Path, process::exit, sync::Arc};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_fuzz::{
    MENDED, bbolt, disk,
    disk::Memory,
    joined,
    wal::{self, options},
};
use catena_raft::fuzzing::{Message, examples};
use catena_runtime::Disk;
use catena_store::{
    Command, Entry, LeaseCheckpoint, Member, MemberChange, Options, Position, Request, Store,
    backend::{self, Backend, Dump, Engine, View},
    bbolt::Writer,
};
use catena_wal::{Record, Wal};
use futures_executor::block_on;

// libFuzzer's own `main` is linked in; this runs before it fuzzes anything, and ends the process.
libfuzzer_sys::fuzz_target!(init: all(), |_input: &[u8]| {});

fn all() {
    let Some(corpus) = std::env::args().nth(1) else {
        eprintln!("usage: fuzz-seeds CORPUS");
        exit(2);
    };
    let targets = [
        ("wal", logs()),
        ("snapshot", streams()),
        ("bbolt", files()),
        ("command", commands()),
        ("peer", messages()),
        ("config", settings()),
    ];
    for (target, seeds) in targets {
        write(&Path::new(&corpus).join(target), &seeds);
    }
    exit(0)
}

fn write(dir: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(dir).expect("the corpus can be written");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number:02}")), seed).expect("the corpus can be written");
    }
}

fn entry(index: u64, bytes: usize) -> Record {
    Record::Entry {
        index,
        data: vec![b'e'; bytes].into(),
    }
}

/// Logs of one segment and of several, closed and as a crash leaves them.
fn logs() -> Vec<Vec<u8>> {
    let mark = Bytes::from_static(b"mark");
    let purge = |upto| Record::Purge {
        upto,
        mark: mark.clone(),
    };
    let truncate = |keep_to| Record::Truncate { keep_to };
    let vote = Record::Vote(Bytes::from_static(b"vote"));
    let commit = Record::Commit(Bytes::from_static(b"commit"));
    let small: Vec<Vec<Record>> = vec![
        vec![vote.clone()],
        vec![entry(0, 3), entry(1, 5)],
        vec![truncate(Some(0)), entry(1, 1), commit.clone()],
        vec![purge(0), entry(2, 9)],
    ];
    let long: Vec<Vec<Record>> = (0..9).map(|n| vec![entry(n, 1000)]).collect();
    let purged: Vec<Vec<Record>> = long.iter().cloned().chain([vec![purge(6), vote]]).collect();
    let all = vec![vec![purge(9), truncate(None)], vec![entry(10, 0)]];
    let mut seeds = vec![joined(0, [])];
    for records in [small, long, purged, all] {
        for closed in [true, false] {
            let segments = log(&records, closed);
            let pieces = || segments.iter().map(Vec::as_slice);
            seeds.push(joined(0, pieces()));
            seeds.push(joined(MENDED, pieces()));
        }
    }
    seeds
}

/// The segments of a log; without the zeros behind them, which say nothing.
fn log(batches: &[Vec<Record>], closed: bool) -> Vec<Vec<u8>> {
    let disk = Arc::new(Memory::default());
    let opened = Wal::open(&disk::runtime(&disk), Path::new("log"), options());
    let (log, _) = opened.expect("an empty log opens");
    for batch in batches {
        block_on(log.write(batch.clone())).expect("memory has room");
    }
    let crashed = disk.contents();
    block_on(log.close());
    let files = if closed { disk.contents() } else { crashed };
    (0..64)
        .filter_map(|sequence| files.get(&wal::path(sequence)))
        .map(|file| {
            let end = file
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            file[..(end + 16).min(file.len())].to_vec()
        })
        .collect()
}

/// Commands of every kind.
fn requests() -> Vec<Request> {
    let put = |key: &str, value: &str, lease: i64| pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "b".into(),
        range_end: "d".into(),
        prev_kv: true,
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    let compare = pb::Compare {
        key: "a".into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    use pb::request_op::Request as Op;
    let nested = pb::TxnRequest {
        compare: vec![],
        success: vec![op(Op::RequestPut(put("n", "in", 0)))],
        failure: vec![],
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(Op::RequestRange(range)),
            op(Op::RequestPut(put("t", "txn", 0))),
            op(Op::RequestTxn(nested)),
        ],
        failure: vec![op(Op::RequestDeleteRange(delete.clone()))],
    };
    let member = Member {
        id: 5,
        name: "e".to_owned(),
        peer_urls: vec!["http://e:1".to_owned()],
        ..Member::default()
    };
    vec![
        Request::Member(MemberChange::Bootstrap {
            cluster_id: 9,
            members: vec![member.clone()],
        }),
        Request::LeaseGrant(pb::LeaseGrantRequest { id: 7, ttl: 60 }),
        Request::Put(put("a", "1", 0)),
        Request::Put(put("b", "2", 7)),
        Request::Put(put("a", "3", 0)),
        Request::Txn(txn),
        Request::DeleteRange(delete),
        Request::LeaseCheckpoint(vec![LeaseCheckpoint {
            id: 7,
            remaining_ttl_secs: 30,
        }]),
        Request::Compact(pb::CompactionRequest {
            revision: 3,
            physical: true,
        }),
        Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }),
        Request::Alarm(pb::AlarmRequest {
            action: 1,
            member_id: 5,
            alarm: 1,
        }),
        Request::Member(MemberChange::Add(Member {
            id: 6,
            is_learner: true,
            ..member
        })),
        Request::Member(MemberChange::Promote { id: 6 }),
        Request::Member(MemberChange::Remove { id: 6 }),
        Request::ClusterVersion("3.7.0".to_owned()),
    ]
}

/// An engine with the state that the first so many requests make.
fn engine(requests: &[Request]) -> Arc<dyn Backend> {
    let disk: Arc<dyn Disk> = Arc::new(Memory::default());
    let engine = backend::open(Engine::Memory, &disk, Path::new("engine"));
    let engine = engine.expect("memory has room");
    let mut store = Store::open(engine.clone(), Options::default()).expect("an empty store opens");
    for (index, request) in requests.iter().enumerate() {
        let entry = Entry {
            position: Position {
                term: 1,
                index: index as u64,
            },
            membership: (index == 0).then(|| Bytes::from_static(b"membership")),
            commands: vec![Command::internal(request.clone())],
        };
        store.apply(entry).expect("the requests are right");
    }
    if let Some(sealed) = store.seal() {
        store.committer().commit(sealed).expect("memory has room");
    }
    engine
}

fn view(requests: &[Request]) -> Arc<dyn View> {
    let view = engine(requests).view().expect("memory can be read");
    view.into()
}

fn states() -> impl Iterator<Item = Vec<Request>> {
    let requests = requests();
    [0, 4, requests.len()]
        .into_iter()
        .map(move |count| requests[..count].to_vec())
}

fn streams() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for state in states() {
        let mut dump = Dump::new(view(&state), Bytes::from_static(b"meta"));
        let mut stream = Vec::new();
        while let Some(frame) = dump.next_frame().expect("memory can be read") {
            stream.extend_from_slice(&frame);
        }
        for first in [0, MENDED] {
            seeds.push([&[first][..], &stream].concat());
        }
    }
    seeds
}

fn files() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for state in states() {
        let mut file = Vec::new();
        let writer = Writer::plan(view(&state)).expect("memory can be read");
        writer.write_to(&mut file).expect("memory has room");
        for first in [MENDED, bbolt::WITH_DIGEST] {
            seeds.push([&[first][..], &file].concat());
        }
    }
    // Without its last pages.
    let cut = seeds[0][..4096 * 3].to_vec();
    seeds.push(cut);
    seeds
}

fn commands() -> Vec<Vec<u8>> {
    let encoded: Vec<Bytes> = requests()
        .into_iter()
        .map(|request| Command::internal(request).encode())
        .collect();
    let mut seeds: Vec<Vec<u8>> = encoded.iter().map(|one| joined(0, [&one[..]])).collect();
    seeds.push(joined(0, encoded.iter().map(|one| &one[..])));
    seeds
}

fn messages() -> Vec<Vec<u8>> {
    let place = |message: Message| {
        let mut all = Message::ALL.into_iter();
        all.position(|other| other as usize == message as usize)
    };
    let examples = examples().into_iter();
    examples
        .map(|(message, bytes)| {
            let place = place(message).expect("all are listed") as u8;
            [&[place][..], &bytes].concat()
        })
        .collect()
}

fn settings() -> Vec<Vec<u8>> {
    [
        "",
        "flags\n--name\na\n--data-dir=/d\n--initial-cluster=a=http://a:1,b=http://b:1\n--initial-advertise-peer-urls\nhttp://a:1\n",
        "flags\n--listen-client-urls=http://0.0.0.0:1,http://[::1]:2\n--advertise-client-urls=http://a:2\n--pre-vote=false\n",
        "flags\n--heartbeat-interval=50\n--election-timeout\n0x1f4\n--auto-compaction-mode=periodic\n--auto-compaction-retention=1h30m\n",
        "flags\n--quota-backend-bytes=-1\n--max-txn-ops=1_000\n--feature-gates=InitialCorruptCheck=false\n--experimental-compaction-batch-limit=5\n",
        "flags\n--log-level=debug\n--log-outputs=stderr,stdout\n--logger=zap\n--enable-v2\nETCD_NAME=b\nETCD_HEARTBEAT_INTERVAL=100\nETCD_X=1\n",
        "flags\n--cert-file=x\n",
        "flags\n--nme\nx\n",
        "flags\n--version\n--\nstray\n",
        "file\n{\"name\": \"a\", \"heartbeat-interval\": 50, \"client-transport-security\": {\"cert-file\": \"\"}}",
        "file\nname: &n [a, b]\nother: *n\nlog-outputs: [stderr]\nwatch-progress-notify-interval: 600000000000\n",
        concat!("file\n", include_str!("../../../cluster/m1.yml")),
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
