//! Txn: compares, branches, nesting, the duplicate rule, limits, and that it is all or nothing.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::{
            CompareResult::{Equal, Greater, Less, NotEqual},
            CompareTarget, TargetUnion,
        },
        response_op::Response,
    },
};
use framework::message::{Op, between, compare, delete, exists, keys, one, put, ranges, txn};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(empty_txn_succeeds),
        case!(compares_choose_the_branch),
        case!(every_target_and_result),
        case!(missing_key_compares_as_zero),
        case!(value_compare_of_missing_key_is_false),
        case!(range_compare_wants_every_key),
        case!(unset_operand_is_zero_and_unknown_result_is_true),
        case!(writes_share_one_revision),
        case!(ranges_see_earlier_writes),
        case!(range_in_a_txn_shows_the_new_revision),
        case!(nothing_written_takes_no_revision),
        case!(nested_branches_are_chosen_on_the_state_before),
        case!(nested_response_has_an_empty_header),
        case!(duplicate_keys_are_refused),
        // etcd 3.7.1 may die at a later range of such a key, so the cluster is not used again.
        case!(legal_overlaps_are_accepted).fresh(&[]),
        case!(static_errors),
        case!(too_many_operations_are_refused),
        case!(limit_counts_nested_operations).fresh(&["--max-txn-ops=4"]),
        case!(late_errors_leave_no_trace),
        case!(untaken_branch_is_not_validated),
        case!(revisions_inside_a_txn),
        case!(negative_revision_is_compacted).fresh(&[]),
        case!(options_work_inside),
    ]
}

async fn empty_txn_succeeds(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let response = s.client.txn(TxnRequest::default()).await?;
    ensure!(response.succeeded && response.responses.is_empty());
    ensure!(revision_of(&response.header) == before);
    Ok(())
}

async fn compares_choose_the_branch(s: &Session<'_>) -> Result<()> {
    let request = txn(
        vec![exists("k", false)],
        vec![put("k", "new").op()],
        vec![one("k").op()],
    );
    let first = s.client.txn(request.clone()).await?;
    ensure!(
        first.succeeded && matches!(first.responses[0].response, Some(Response::ResponsePut(_)))
    );
    let second = s.client.txn(request).await?;
    ensure!(!second.succeeded && keys(&ranges(&second)[0]) == ["k"]);
    let both = txn(
        vec![exists("k", true), exists("other", true)],
        vec![],
        vec![],
    );
    ensure!(
        !s.client.txn(both).await?.succeeded,
        "one failing compare fails all"
    );
    Ok(())
}

async fn every_target_and_result(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(600, 0).await?.id;
    let created = s.puts(&[("k", "a")]).await?;
    s.client
        .put_with(PutRequest {
            lease,
            ..put("k", "m")
        })
        .await?;
    let modified = created + 1;
    let value = |text: &'static str| TargetUnion::Value(text.into());
    let rows = [
        (
            CompareTarget::Version,
            [
                TargetUnion::Version(1),
                TargetUnion::Version(2),
                TargetUnion::Version(3),
            ],
        ),
        (
            CompareTarget::Create,
            [created - 1, created, created + 1].map(TargetUnion::CreateRevision),
        ),
        (
            CompareTarget::Mod,
            [modified - 1, modified, modified + 1].map(TargetUnion::ModRevision),
        ),
        (CompareTarget::Value, [value("l"), value("m"), value("ma")]),
        (
            CompareTarget::Lease,
            [lease - 1, lease, lease + 1].map(TargetUnion::Lease),
        ),
    ];
    for (target, operands) in rows {
        for (result, expected) in [
            (Equal, [false, true, false]),
            (Greater, [true, false, false]),
            (Less, [false, false, true]),
            (NotEqual, [true, false, true]),
        ] {
            for (operand, expected) in operands.iter().zip(expected) {
                holds(s, compare("k", target, result, operand.clone()), expected).await?;
            }
        }
    }
    Ok(())
}

async fn holds(s: &Session<'_>, compare: Compare, expected: bool) -> Result<()> {
    let response = s
        .client
        .txn(txn(vec![compare.clone()], vec![], vec![]))
        .await?;
    ensure!(
        response.succeeded == expected,
        "{compare:?} should be {expected}"
    );
    Ok(())
}

async fn missing_key_compares_as_zero(s: &Session<'_>) -> Result<()> {
    for (target, zero) in [
        (CompareTarget::Version, TargetUnion::Version(0)),
        (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        (CompareTarget::Mod, TargetUnion::ModRevision(0)),
        (CompareTarget::Lease, TargetUnion::Lease(0)),
    ] {
        holds(s, compare("nothing", target, Equal, zero.clone()), true).await?;
        holds(s, compare("nothing", target, Greater, zero), false).await?;
    }
    holds(
        s,
        compare(
            "nothing",
            CompareTarget::Version,
            Greater,
            TargetUnion::Version(-1),
        ),
        true,
    )
    .await
}

async fn value_compare_of_missing_key_is_false(s: &Session<'_>) -> Result<()> {
    for result in [Equal, Greater, Less, NotEqual] {
        let value = TargetUnion::Value("".into());
        holds(
            s,
            compare("nothing", CompareTarget::Value, result, value),
            false,
        )
        .await?;
    }
    Ok(())
}

async fn range_compare_wants_every_key(s: &Session<'_>) -> Result<()> {
    let last = s.puts(&[("a", "1"), ("b", "1"), ("c", "2")]).await?;
    let over = |key: &'static str, end: &'static str, value: &'static str| Compare {
        range_end: end.into(),
        ..compare(
            key,
            CompareTarget::Value,
            Equal,
            TargetUnion::Value(value.into()),
        )
    };
    holds(s, over("a", "c", "1"), true).await?;
    holds(s, over("a", "d", "1"), false).await?;
    holds(s, over("c", "\0", "2"), true).await?;
    holds(s, over("x", "z", "1"), false).await?;
    let created = compare(
        "a",
        CompareTarget::Create,
        Less,
        TargetUnion::CreateRevision(last + 1),
    );
    holds(
        s,
        Compare {
            range_end: "\0".into(),
            ..created
        },
        true,
    )
    .await?;
    holds(
        s,
        Compare {
            range_end: "z".into(),
            ..exists("x", false)
        },
        true,
    )
    .await
}

async fn unset_operand_is_zero_and_unknown_result_is_true(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "")]).await?;
    holds(
        s,
        Compare {
            target_union: None,
            ..exists("k", true)
        },
        true,
    )
    .await?;
    let value = compare("k", CompareTarget::Value, Equal, TargetUnion::Version(0));
    holds(
        s,
        Compare {
            target_union: None,
            ..value
        },
        true,
    )
    .await?;
    holds(
        s,
        Compare {
            result: 9,
            ..exists("k", false)
        },
        true,
    )
    .await
}

async fn writes_share_one_revision(s: &Session<'_>) -> Result<()> {
    let before = s.puts(&[("gone", "")]).await?;
    let ops = vec![
        put("b", "").op(),
        delete("gone", "").op(),
        put("a", "").op(),
    ];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    ensure!(revision_of(&response.header) == before + 1);
    for kv in s.client.range(between("a", "z")).await?.kvs {
        ensure!(kv.view().mod_revision == before + 1 && kv.view().create_revision == before + 1);
    }
    ensure!(s.client.revision().await? == before + 1);
    Ok(())
}

async fn ranges_see_earlier_writes(s: &Session<'_>) -> Result<()> {
    s.puts(&[("b", "")]).await?;
    let all = || between("a", "z").op();
    let ops = vec![all(), put("a", "").op(), all(), delete("b", "").op(), all()];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    let seen: Vec<_> = ranges(&response).iter().map(keys).collect();
    ensure!(seen == [vec!["b"], vec!["a", "b"], vec!["a"]], "{seen:?}");
    Ok(())
}

async fn range_in_a_txn_shows_the_new_revision(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let ops = vec![one("k").op(), put("k", "").op(), one("k").op()];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    let revisions: Vec<_> = ranges(&response)
        .iter()
        .map(|range| revision_of(&range.header))
        .collect();
    ensure!(revisions == [before, before + 1], "{revisions:?}");
    let header = ranges(&response)[0].header.unwrap_or_default();
    ensure!(header.cluster_id == 0 && header.member_id == 0 && header.raft_term == 0);
    Ok(())
}

async fn nothing_written_takes_no_revision(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let ops = vec![one("k").op(), delete("nothing", "").op()];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    ensure!(revision_of(&response.header) == before && s.client.revision().await? == before);
    Ok(())
}

async fn nested_branches_are_chosen_on_the_state_before(s: &Session<'_>) -> Result<()> {
    // The inner compare sees the state before the whole txn, although the outer put of the same key ran first.
    let inner = txn(
        vec![exists("a", true)],
        vec![put("then", "").op()],
        vec![put("else", "").op()],
    );
    let outer = txn(vec![], vec![put("a", "").op(), inner.op()], vec![]);
    let response = s.client.txn(outer).await?;
    let Some(Response::ResponseTxn(nested)) = &response.responses[1].response else {
        anyhow::bail!("no nested answer: {response:?}");
    };
    ensure!(!nested.succeeded && nested.responses.len() == 1);
    ensure!(keys(&s.client.range(between("a", "z")).await?) == ["a", "else"]);
    Ok(())
}

async fn nested_response_has_an_empty_header(s: &Session<'_>) -> Result<()> {
    let inner = txn(vec![], vec![put("a", "").op()], vec![]);
    let response = s.client.txn(txn(vec![], vec![inner.op()], vec![])).await?;
    let Some(Response::ResponseTxn(nested)) = &response.responses[0].response else {
        anyhow::bail!("no nested answer: {response:?}");
    };
    ensure!(
        nested.header == Some(Default::default()),
        "{:?}",
        nested.header
    );
    Ok(())
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    txn(vec![], success, failure).op()
}

async fn duplicate_keys_are_refused(s: &Session<'_>) -> Result<()> {
    let (a, b) = (|| put("a", "").op(), || put("b", "").op());
    for ops in [
        vec![a(), a()],
        vec![a(), delete("a", "").op()],
        vec![delete("a", "").op(), a()],
        vec![b(), delete("a", "c").op()],
        vec![delete("a", "c").op(), b()],
        vec![a(), nested(vec![a()], vec![])],
        vec![a(), nested(vec![], vec![a()])],
        vec![nested(vec![a()], vec![]), nested(vec![a()], vec![])],
        vec![
            nested(vec![delete("a", "c").op()], vec![]),
            nested(vec![b()], vec![]),
        ],
        vec![delete("a", "c").op(), nested(vec![], vec![b()])],
    ] {
        refused(
            s.client.txn(txn(vec![], ops.clone(), vec![])).await,
            errors::DUPLICATE_KEY,
        )?;
        refused(
            s.client.txn(txn(vec![], vec![], ops)).await,
            errors::DUPLICATE_KEY,
        )?;
    }
    Ok(())
}

async fn legal_overlaps_are_accepted(s: &Session<'_>) -> Result<()> {
    let a = || put("a", "").op();
    for ops in [
        vec![delete("a", "").op(), delete("a", "").op()],
        vec![a(), one("a").op(), delete("b", "z").op()],
        vec![nested(vec![a()], vec![a()])],
        // Gaps of etcd's check that clients may rely on: the byte `\0` is taken for a literal end, and of two sibling txns only the
        // order delete, then put is noticed.
        vec![put("b", "").op(), delete("a", "\0").op()],
        vec![
            nested(vec![put("b", "").op()], vec![]),
            nested(vec![delete("a", "c").op()], vec![]),
        ],
    ] {
        s.client.txn(txn(vec![], ops, vec![])).await?;
    }
    ensure!(
        s.client.get("b").await?.count == 0,
        "operations take effect in order"
    );
    Ok(())
}

async fn static_errors(s: &Session<'_>) -> Result<()> {
    let unset = RequestOp { request: None };
    for (ops, error) in [
        (vec![one("").op()], errors::EMPTY_KEY),
        (vec![put("", "").op()], errors::EMPTY_KEY),
        (vec![delete("", "").op()], errors::EMPTY_KEY),
        (
            vec![nested(vec![], vec![put("", "").op()])],
            errors::EMPTY_KEY,
        ),
        (vec![unset], errors::KEY_NOT_FOUND),
        (
            vec![
                PutRequest {
                    ignore_value: true,
                    ..put("k", "v")
                }
                .op(),
            ],
            errors::VALUE_PROVIDED,
        ),
        (
            vec![
                PutRequest {
                    ignore_lease: true,
                    lease: 1,
                    ..put("k", "")
                }
                .op(),
            ],
            errors::LEASE_PROVIDED,
        ),
        (
            vec![
                RangeRequest {
                    sort_order: 9,
                    ..one("k")
                }
                .op(),
            ],
            errors::INVALID_SORT_OPTION,
        ),
    ] {
        refused(s.client.txn(txn(vec![], ops.clone(), vec![])).await, error)?;
        // The branch that will not be taken is checked as well.
        refused(s.client.txn(txn(vec![], vec![], ops)).await, error)?;
    }
    let unnamed = txn(
        vec![exists("", true)],
        vec![put("a", "").op(), put("a", "").op()],
        vec![],
    );
    refused(s.client.txn(unnamed).await, errors::EMPTY_KEY)
}

async fn too_many_operations_are_refused(s: &Session<'_>) -> Result<()> {
    let ops = |count: usize| vec![one("k").op(); count];
    s.client.txn(txn(vec![], ops(128), ops(128))).await?;
    refused(
        s.client.txn(txn(vec![], ops(129), vec![])).await,
        errors::TOO_MANY_OPS,
    )?;
    refused(
        s.client.txn(txn(vec![], vec![], ops(129))).await,
        errors::TOO_MANY_OPS,
    )?;
    let compares = vec![exists("k", false); 129];
    refused(
        s.client.txn(txn(compares, vec![], vec![])).await,
        errors::TOO_MANY_OPS,
    )
}

async fn limit_counts_nested_operations(s: &Session<'_>) -> Result<()> {
    let ops = |count: usize| vec![one("k").op(); count];
    s.client
        .txn(txn(vec![], vec![nested(ops(3), vec![])], vec![]))
        .await?;
    let four = txn(vec![], vec![nested(ops(4), vec![])], vec![]);
    refused(s.client.txn(four).await, errors::TOO_MANY_OPS)?;
    s.client
        .txn(txn(vec![], vec![nested(ops(1), vec![]); 2], vec![]))
        .await?;
    let deep = txn(
        vec![],
        vec![nested(
            vec![nested(vec![nested(ops(2), vec![])], vec![])],
            vec![],
        )],
        vec![],
    );
    refused(s.client.txn(deep).await, errors::TOO_MANY_OPS)
}

async fn late_errors_leave_no_trace(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let future = RangeRequest {
        revision: before + 9,
        ..one("k")
    };
    for (op, error) in [
        (
            PutRequest {
                lease: 4711,
                ..put("b", "")
            }
            .op(),
            errors::LEASE_NOT_FOUND,
        ),
        (
            PutRequest {
                ignore_value: true,
                ..put("b", "")
            }
            .op(),
            errors::KEY_NOT_FOUND,
        ),
        (future.op(), errors::FUTURE_REVISION),
        (
            nested(
                vec![
                    PutRequest {
                        lease: 4711,
                        ..put("b", "")
                    }
                    .op(),
                ],
                vec![],
            ),
            errors::LEASE_NOT_FOUND,
        ),
    ] {
        let request = txn(vec![], vec![put("a", "").op(), op], vec![]);
        refused(s.client.txn(request).await, error)?;
    }
    ensure!(s.client.get("a").await?.count == 0 && s.client.revision().await? == before);
    Ok(())
}

async fn untaken_branch_is_not_validated(s: &Session<'_>) -> Result<()> {
    let bad = PutRequest {
        lease: 4711,
        ..put("b", "")
    }
    .op();
    let response = s
        .client
        .txn(txn(vec![], vec![put("a", "").op()], vec![bad]))
        .await?;
    ensure!(response.succeeded);
    Ok(())
}

async fn revisions_inside_a_txn(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("k", "1")]).await?;
    s.puts(&[("k", "2")]).await?;
    let old = RangeRequest {
        revision: first,
        ..one("k")
    };
    let response = s
        .client
        .txn(txn(vec![], vec![put("k", "3").op(), old.op()], vec![]))
        .await?;
    ensure!(&ranges(&response)[0].kvs[0].value()[..] == b"1");
    Ok(())
}

async fn negative_revision_is_compacted(s: &Session<'_>) -> Result<()> {
    let at = |revision| {
        txn(
            vec![],
            vec![
                RangeRequest {
                    revision,
                    ..one("k")
                }
                .op(),
            ],
            vec![],
        )
    };
    s.client.txn(at(-1)).await?;
    refused(s.client.txn(at(-2)).await, errors::COMPACTED)?;
    let writing = txn(
        vec![],
        vec![
            put("a", "").op(),
            RangeRequest {
                revision: -2,
                ..one("k")
            }
            .op(),
        ],
        vec![],
    );
    refused(s.client.txn(writing).await, errors::COMPACTED)
}

async fn options_work_inside(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", "1"), ("b", "2")]).await?;
    let ops = vec![
        RangeRequest {
            count_only: true,
            ..between("a", "z")
        }
        .op(),
        RangeRequest {
            limit: 1,
            sort_order: 2,
            ..between("a", "z")
        }
        .op(),
        PutRequest {
            prev_kv: true,
            ignore_value: true,
            ..put("a", "")
        }
        .op(),
    ];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    let ranges = ranges(&response);
    ensure!(ranges[0].count == 2 && ranges[0].kvs.is_empty());
    ensure!(keys(&ranges[1]) == ["b"] && ranges[1].more);
    let Some(Response::ResponsePut(put)) = &response.responses[2].response else {
        anyhow::bail!("no answer to the put: {response:?}");
    };
    ensure!(
        put.prev_kv
            .as_ref()
            .is_some_and(|kv| &kv.value()[..] == b"1")
    );
    Ok(())
}
