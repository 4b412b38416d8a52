//! etcdctl: keys and transactions.

use anyhow::{Result, ensure};
use framework::peers::Release;

use crate::case::{Case, Ground, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(put_with_every_flag).every_release(),
        case!(get_prints_in_every_format).every_release(),
        case!(get_with_every_flag).every_release(),
        case!(del_with_every_flag).every_release(),
        case!(txn_from_a_script).every_release(),
        case!(errors_reach_the_user).every_release(),
        case!(compaction_and_old_revisions).every_release(),
    ]
}

async fn put_with_every_flag(g: &Ground<'_>) -> Result<()> {
    ensure!(g.ok(&["put", "k", "v"])? == "OK\n");
    ensure!(g.ok(&["put", "k", "w", "--prev-kv"])? == "OK\nk\nv\n");
    ensure!(g.ctl.run_with(&["put", "k"], "from stdin")?.ok()? == "OK\n");
    ensure!(g.ok(&["get", "k", "--print-value-only"])? == "from stdin\n");
    let lease = g.cluster.client(0)?.grant(600, 0).await?.id;
    g.ok(&["put", "k", "--ignore-value", &format!("--lease={lease:x}")])?;
    g.ok(&["put", "k", "x", "--ignore-lease"])?;
    let json = g.json(&["get", "k"])?;
    ensure!(
        json["kvs"][0]["lease"] == lease && json["kvs"][0]["version"] == 5,
        "{json}"
    );
    Ok(())
}

async fn get_prints_in_every_format(g: &Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let revision = g.revision().await?;
    ensure!(g.ok(&["get", "k"])? == "k\nv\n");
    ensure!(g.ok(&["get", "k", "--hex"])? == "\\x6b\n\\x76\n");
    let json = g.json(&["get", "k"])?;
    ensure!(
        json["header"]["revision"] == revision && json["count"] == 1,
        "{json}"
    );
    ensure!(
        json["kvs"][0]["key"] == "aw==" && json["kvs"][0]["value"] == "dg==",
        "{json}"
    );
    let fields = g.ok(&["get", "k", "-w", "fields"])?;
    for line in [
        "\"Key\" : \"k\"",
        "\"Value\" : \"v\"",
        "\"Version\" : 1",
        "\"Count\" : 1",
    ] {
        ensure!(fields.contains(line), "{line} is not in {fields}");
    }
    ensure!(
        fields.contains(&format!("\"Revision\" : {revision}")),
        "{fields}"
    );
    ensure!(!g.ctl.run(&["get", "k", "-w", "protobuf"])?.ok()?.is_empty());
    Ok(())
}

async fn get_with_every_flag(g: &Ground<'_>) -> Result<()> {
    for (key, value) in [("a", "3"), ("aa", "2"), ("b", "1"), ("c", "0")] {
        g.ok(&["put", key, value])?;
    }
    let first = g.revision().await? - 3;
    g.ok(&["put", "a", "4"])?;
    let at = first.to_string();
    let keys = |args: &[&str]| {
        g.ok(&[&["get"], args, &["--keys-only"]].concat())
            .map(|keys| keys.split_whitespace().collect::<String>())
    };
    for (args, expected) in [
        (vec!["a", "--prefix"], "aaa"),
        (vec!["a", "c"], "aaab"),
        (vec!["aa", "--from-key"], "aabc"),
        (vec!["", "--from-key"], "aaabc"),
        (vec!["", "--prefix"], "aaabc"),
        (vec!["", "--prefix", "--limit=2"], "aaa"),
        (vec!["", "--prefix", "--order=DESCEND"], "cbaaa"),
        (
            vec!["", "--prefix", "--sort-by=MODIFY", "--order=DESCEND"],
            "acbaa",
        ),
        (
            vec!["", "--prefix", "--sort-by=CREATE", "--order=ASCEND"],
            "aaabc",
        ),
        (
            vec![
                "",
                "--prefix",
                "--sort-by=VERSION",
                "--order=DESCEND",
                "--limit=1",
            ],
            "a",
        ),
        (vec!["", "--prefix", &format!("--rev={at}")], "a"),
        (vec!["a", "--consistency=s"], "a"),
        (vec!["nothing"], ""),
    ] {
        let found = keys(&args)?;
        ensure!(found == expected, "get {args:?}: {found}");
    }
    ensure!(
        g.ok(&[
            "get",
            "",
            "--prefix",
            "--sort-by=VALUE",
            "--order=ASCEND",
            "--print-value-only"
        ])? == "0\n1\n2\n4\n"
    );
    ensure!(g.ok(&["get", "a", "--rev", &at, "--print-value-only"])? == "3\n");
    if g.release != Release::V34 {
        let counted = g.ok(&["get", "", "--prefix", "--count-only", "-w", "fields"])?;
        ensure!(counted.contains("\"Count\" : 4"), "{counted}");
    }
    if g.release == Release::V37 {
        let since = format!("--min-mod-rev={}", first + 3);
        ensure!(
            g.ok(&["get", "", "--prefix", "--keys-only", &since])?
                .split_whitespace()
                .eq(["a", "c"])
        );
        let until = format!("--max-create-rev={first}");
        ensure!(
            g.ok(&["get", "", "--prefix", "--keys-only", &until])?
                .split_whitespace()
                .eq(["a"])
        );
        ensure!(g.ok(&["get", "", "--prefix", "--stream"])? == "a\n4\naa\n2\nb\n1\nc\n0\n");
    }
    Ok(())
}

async fn del_with_every_flag(g: &Ground<'_>) -> Result<()> {
    for key in ["a", "aa", "b", "c", "d", "e"] {
        g.ok(&["put", key, "v"])?;
    }
    ensure!(g.ok(&["del", "nothing"])? == "0\n");
    ensure!(g.ok(&["del", "b", "--prev-kv"])? == "1\nb\nv\n");
    ensure!(g.ok(&["del", "a", "--prefix"])? == "2\n");
    let range: &[&str] = if g.release == Release::V37 {
        &["del", "c", "d", "--range"]
    } else {
        &["del", "c", "d"]
    };
    ensure!(g.ok(range)? == "1\n");
    ensure!(g.ok(&["del", "d", "--from-key"])? == "2\n");
    ensure!(
        g.ok(&["get", "", "--prefix", "--keys-only"])?
            .trim()
            .is_empty()
    );
    Ok(())
}

async fn txn_from_a_script(g: &Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let script = "value(\"k\") = \"v\"\nversion(\"k\") > \"0\"\nmod(\"new\") = \"0\"\n\nput new 1\nget k\ndel k\n\nget nothing\n\n";
    let printed = g.ctl.run_with(&["txn"], script)?.ok()?;
    ensure!(printed == "SUCCESS\n\nOK\n\nk\nv\n\n1\n", "{printed:?}");
    let printed = g.ctl.run_with(&["txn"], script)?.ok()?;
    ensure!(printed == "FAILURE\n\n", "{printed:?}");
    ensure!(g.ok(&["get", "", "--prefix"])? == "new\n1\n");
    Ok(())
}

async fn errors_reach_the_user(g: &Ground<'_>) -> Result<()> {
    let future = (g.revision().await? + 10).to_string();
    for (args, text) in [
        (vec!["put", "", "v"], "etcdserver: key is not provided"),
        (
            vec!["put", "k", "v", "--lease=4711"],
            "etcdserver: requested lease not found",
        ),
        (
            vec!["put", "nothing", "--ignore-value"],
            "etcdserver: key not found",
        ),
        (
            vec!["get", "k", "--rev", &future],
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            vec!["lease", "revoke", "4711"],
            "etcdserver: requested lease not found",
        ),
        (
            vec!["compaction", &future],
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ] {
        let printed = g.fails(&args)?;
        ensure!(printed.contains(text), "{args:?}: {printed}");
    }
    Ok(())
}

async fn compaction_and_old_revisions(g: &Ground<'_>) -> Result<()> {
    for value in ["1", "2", "3"] {
        g.ok(&["put", "k", value])?;
    }
    let revision = g.revision().await?;
    let (now, before) = (revision.to_string(), (revision - 1).to_string());
    let printed = g.ok(&["compaction", &before, "--physical"])?;
    ensure!(
        printed == format!("compacted revision {before}\n"),
        "{printed}"
    );
    ensure!(g.ok(&["get", "k", "--rev", &before, "--print-value-only"])? == "2\n");
    g.ok(&["compaction", &now])?;
    for args in [
        ["get", "k", "--rev", &before].as_slice(),
        &["compaction", &before],
    ] {
        ensure!(
            g.fails(args)?
                .contains("etcdserver: mvcc: required revision has been compacted")
        );
    }
    Ok(())
}
