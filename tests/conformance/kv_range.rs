//! Range: intervals, revisions, limits, filters, orders, and what each refuses.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        RangeRequest,
        range_request::{SortOrder, SortTarget},
    },
};
use framework::message::{between, keys, one};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(key_missing_is_refused),
        case!(absent_key_gives_nothing),
        case!(one_key_carries_all_fields),
        case!(intervals_are_half_open_and_bytewise),
        case!(binary_keys_and_empty_values),
        case!(limit_cuts_and_says_more),
        case!(count_ignores_limit_and_filters),
        case!(count_only_gives_no_pairs),
        case!(keys_only_blanks_values_and_leases),
        case!(keys_only_sorted_by_value_keeps_leases),
        case!(old_revisions_are_readable),
        case!(header_shows_the_present_revision),
        case!(future_revision_is_refused),
        case!(huge_and_negative_numbers_are_safe),
        case!(revision_filters_are_inclusive),
        case!(limit_applies_after_filters),
        case!(sorts_by_each_target),
        case!(sort_without_order_is_ascending_after_the_cut),
        case!(unknown_sort_options_are_refused),
        case!(serializable_reads_answer),
        case!(values_come_back_whole),
    ]
}

async fn key_missing_is_refused(s: &Session<'_>) -> Result<()> {
    refused(s.client.get("").await, errors::EMPTY_KEY)?;
    refused(s.client.range(between("", "z")).await, errors::EMPTY_KEY)
}

async fn absent_key_gives_nothing(s: &Session<'_>) -> Result<()> {
    let response = s.client.get("nothing").await?;
    ensure!(response.kvs.is_empty() && response.count == 0 && !response.more);
    ensure!(revision_of(&response.header) >= 1);
    Ok(())
}

async fn one_key_carries_all_fields(s: &Session<'_>) -> Result<()> {
    let created = s.puts(&[("k", "1")]).await?;
    let modified = s.puts(&[("k", "2")]).await?;
    let response = s.client.get("k").await?;
    let kv = response.kvs[0].view();
    ensure!(&kv.key[..] == b"k" && &kv.value[..] == b"2");
    ensure!(
        (kv.create_revision, kv.mod_revision, kv.version, kv.lease) == (created, modified, 2, 0)
    );
    ensure!(response.count == 1 && !response.more);
    Ok(())
}

async fn intervals_are_half_open_and_bytewise(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", ""), ("ab", ""), ("b", ""), ("c", ""), ("c\0", "")])
        .await?;
    for (key, end, expected) in [
        ("a", "", vec!["a"]),
        ("a", "b", vec!["a", "ab"]),
        ("a", "c", vec!["a", "ab", "b"]),
        ("a", "c\0", vec!["a", "ab", "b", "c"]),
        ("b", "\0", vec!["b", "c", "c\0"]),
        ("\0", "\0", vec!["a", "ab", "b", "c", "c\0"]),
        ("b", "b", vec![]),
        ("c", "a", vec![]),
        ("aa", "ac", vec!["ab"]),
        ("x", "\0", vec![]),
    ] {
        let response = s.client.range(between(key, end)).await?;
        ensure!(
            keys(&response) == expected,
            "[{key:?}, {end:?}): {:?}",
            keys(&response)
        );
        ensure!(response.count == i64::try_from(expected.len())?);
    }
    Ok(())
}

async fn binary_keys_and_empty_values(s: &Session<'_>) -> Result<()> {
    for key in [&b"\0"[..], b"\xff", b"\xff\xff", b"\0\0"] {
        s.client.put(key.to_vec(), "").await?;
    }
    let all = s.client.range(between("\0", "\0")).await?;
    let found: Vec<_> = all.kvs.iter().map(|kv| kv.key().to_vec()).collect();
    ensure!(found == [&b"\0"[..], b"\0\0", b"\xff", b"\xff\xff"]);
    let high = s.client.get_prefix(vec![0xff]).await?;
    ensure!(
        high.count == 2,
        "the prefix ff has no upper end: {}",
        high.count
    );
    Ok(())
}

async fn limit_cuts_and_says_more(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", ""), ("b", ""), ("c", "")]).await?;
    for (limit, found, more) in [
        (1, 1, true),
        (2, 2, true),
        (3, 3, false),
        (4, 3, false),
        (0, 3, false),
        (-1, 3, false),
    ] {
        let response = s
            .client
            .range(RangeRequest {
                limit,
                ..between("a", "z")
            })
            .await?;
        ensure!(
            response.kvs.len() == found && response.more == more,
            "limit {limit}: {response:?}"
        );
        ensure!(response.count == 3);
    }
    Ok(())
}

async fn count_ignores_limit_and_filters(s: &Session<'_>) -> Result<()> {
    let revision = s.puts(&[("a", ""), ("b", ""), ("c", "")]).await?;
    let filtered = RangeRequest {
        min_mod_revision: revision,
        limit: 1,
        ..between("a", "z")
    };
    let response = s.client.range(filtered).await?;
    ensure!(keys(&response) == ["c"] && response.count == 3 && !response.more);
    Ok(())
}

async fn count_only_gives_no_pairs(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", "1"), ("b", "2")]).await?;
    let response = s
        .client
        .range(RangeRequest {
            count_only: true,
            limit: 1,
            ..between("a", "z")
        })
        .await?;
    ensure!(response.kvs.is_empty() && response.count == 2 && !response.more);
    Ok(())
}

async fn keys_only_blanks_values_and_leases(s: &Session<'_>) -> Result<()> {
    leased(s).await?;
    let response = s
        .client
        .range(RangeRequest {
            keys_only: true,
            ..one("k")
        })
        .await?;
    let kv = response.kvs[0].view();
    ensure!(kv.value.is_empty() && kv.lease == 0 && kv.version == 1 && kv.mod_revision > 1);
    Ok(())
}

async fn keys_only_sorted_by_value_keeps_leases(s: &Session<'_>) -> Result<()> {
    let lease = leased(s).await?;
    let sort_target = SortTarget::Value.into();
    let response = s
        .client
        .range(RangeRequest {
            keys_only: true,
            sort_target,
            ..one("k")
        })
        .await?;
    let kv = response.kvs[0].view();
    ensure!(kv.value.is_empty() && kv.lease == lease);
    Ok(())
}

async fn leased(s: &Session<'_>) -> Result<i64> {
    let lease = s.client.grant(600, 0).await?.id;
    let put = framework::message::put("k", "v");
    s.client
        .put_with(catena_api::etcd::etcdserverpb::PutRequest { lease, ..put })
        .await?;
    Ok(lease)
}

async fn old_revisions_are_readable(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("k", "1")]).await?;
    let second = s.puts(&[("k", "2")]).await?;
    s.client.delete("k").await?;
    let last = s.puts(&[("k", "3")]).await?;
    for (revision, expected) in [
        (first - 1, None),
        (first, Some("1")),
        (second, Some("2")),
        (second + 1, None),
        (last, Some("3")),
    ] {
        let response = s
            .client
            .range(RangeRequest {
                revision,
                ..one("k")
            })
            .await?;
        let value = response.kvs.first().map(|kv| kv.value());
        ensure!(
            value.as_deref() == expected.map(str::as_bytes),
            "at {revision}: {value:?}"
        );
    }
    Ok(())
}

async fn header_shows_the_present_revision(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("k", "1")]).await?;
    let last = s.puts(&[("k", "2")]).await?;
    let response = s
        .client
        .range(RangeRequest {
            revision: first,
            ..one("k")
        })
        .await?;
    let header = response.header.unwrap_or_default();
    ensure!(header.revision == last && header.raft_term > 0);
    ensure!(header.cluster_id != 0 && header.member_id != 0);
    Ok(())
}

async fn future_revision_is_refused(s: &Session<'_>) -> Result<()> {
    let revision = s.client.revision().await? + 1;
    refused(
        s.client
            .range(RangeRequest {
                revision,
                ..one("k")
            })
            .await,
        errors::FUTURE_REVISION,
    )?;
    let range = RangeRequest {
        revision,
        count_only: true,
        serializable: true,
        ..one("k")
    };
    refused(s.client.range(range).await, errors::FUTURE_REVISION)
}

async fn huge_and_negative_numbers_are_safe(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "v")]).await?;
    for limit in [i64::MAX, i64::MIN] {
        ensure!(
            s.client
                .range(RangeRequest {
                    limit,
                    ..between("a", "z")
                })
                .await?
                .kvs
                .len()
                == 1
        );
    }
    ensure!(
        s.client
            .range(RangeRequest {
                revision: i64::MIN,
                ..one("k")
            })
            .await?
            .kvs
            .len()
            == 1
    );
    let range = RangeRequest {
        revision: i64::MAX,
        ..one("k")
    };
    refused(s.client.range(range).await, errors::FUTURE_REVISION)
}

async fn revision_filters_are_inclusive(s: &Session<'_>) -> Result<()> {
    let a = s.puts(&[("a", "1")]).await?;
    let b = s.puts(&[("b", "1")]).await?;
    let c = s.puts(&[("c", "1")]).await?;
    let a2 = s.puts(&[("a", "2")]).await?;
    let all = || between("a", "z");
    for (request, expected) in [
        (
            RangeRequest {
                min_mod_revision: c,
                ..all()
            },
            vec!["a", "c"],
        ),
        (
            RangeRequest {
                max_mod_revision: c,
                ..all()
            },
            vec!["b", "c"],
        ),
        (
            RangeRequest {
                min_mod_revision: b,
                max_mod_revision: b,
                ..all()
            },
            vec!["b"],
        ),
        (
            RangeRequest {
                min_create_revision: b,
                ..all()
            },
            vec!["b", "c"],
        ),
        (
            RangeRequest {
                max_create_revision: a,
                ..all()
            },
            vec!["a"],
        ),
        (
            RangeRequest {
                max_create_revision: a,
                max_mod_revision: a,
                ..all()
            },
            vec![],
        ),
        (
            RangeRequest {
                min_mod_revision: a2 + 1,
                ..all()
            },
            vec![],
        ),
        (
            RangeRequest {
                max_mod_revision: -1,
                ..all()
            },
            vec![],
        ),
    ] {
        let response = s.client.range(request.clone()).await?;
        ensure!(
            keys(&response) == expected,
            "{request:?}: {:?}",
            keys(&response)
        );
        ensure!(response.count == 3);
    }
    Ok(())
}

async fn limit_applies_after_filters(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", ""), ("b", "")]).await?;
    let c = s.puts(&[("c", "")]).await?;
    s.puts(&[("d", "")]).await?;
    let filtered = RangeRequest {
        min_create_revision: c,
        limit: 1,
        ..between("a", "z")
    };
    let response = s.client.range(filtered).await?;
    ensure!(keys(&response) == ["c"] && response.more);
    Ok(())
}

async fn sorts_by_each_target(s: &Session<'_>) -> Result<()> {
    // key:      a  b  c
    // value:    3  1  2      create: b a c      mod: b c a      version: c b a
    s.puts(&[("b", "x"), ("a", "x"), ("c", "2"), ("b", "1"), ("b", "1")])
        .await?;
    s.puts(&[("a", "x"), ("a", "x"), ("a", "x"), ("a", "3")])
        .await?;
    s.client.delete("c").await?;
    s.puts(&[("c", "2"), ("b", "1")]).await?;
    for (target, ascending) in [
        (SortTarget::Key, "a b c"),
        (SortTarget::Value, "b c a"),
        (SortTarget::Create, "b a c"),
        (SortTarget::Mod, "a c b"),
        (SortTarget::Version, "c b a"),
    ] {
        let mut expected: Vec<_> = ascending.split(' ').collect();
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let request = RangeRequest {
                sort_order: order.into(),
                sort_target: target.into(),
                ..between("a", "z")
            };
            let found = keys(&s.client.range(request.clone()).await?);
            // The version of a and b differs by one; all other targets are distinct by construction.
            ensure!(found == expected, "{target:?} {order:?}: {found:?}");
            let first = s
                .client
                .range(RangeRequest {
                    limit: 1,
                    ..request
                })
                .await?;
            ensure!(keys(&first) == expected[..1] && first.more);
            expected.reverse();
        }
    }
    Ok(())
}

async fn sort_without_order_is_ascending_after_the_cut(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", "4"), ("b", "3"), ("c", "2"), ("d", "1")])
        .await?;
    let sort_target = SortTarget::Value.into();
    let request = RangeRequest {
        sort_target,
        ..between("a", "z")
    };
    ensure!(keys(&s.client.range(request.clone()).await?) == ["d", "c", "b", "a"]);
    // Limit + 1 keys are fetched in key order, and the one too many takes part in the sort.
    let cut = s
        .client
        .range(RangeRequest {
            limit: 2,
            ..request
        })
        .await?;
    ensure!(keys(&cut) == ["c", "b"] && cut.more, "{:?}", keys(&cut));
    Ok(())
}

async fn unknown_sort_options_are_refused(s: &Session<'_>) -> Result<()> {
    for (sort_order, sort_target) in [(9, 0), (0, 9), (-1, 0), (1, -3)] {
        let request = RangeRequest {
            sort_order,
            sort_target,
            ..one("k")
        };
        refused(s.client.range(request).await, errors::INVALID_SORT_OPTION)?;
    }
    let request = RangeRequest {
        sort_order: 9,
        ..one("")
    };
    refused(s.client.range(request).await, errors::EMPTY_KEY)
}

async fn serializable_reads_answer(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "v")]).await?;
    s.client.get("k").await?;
    let response = s
        .client
        .range(RangeRequest {
            serializable: true,
            ..one("k")
        })
        .await?;
    ensure!(keys(&response) == ["k"]);
    Ok(())
}

async fn values_come_back_whole(s: &Session<'_>) -> Result<()> {
    let value: Vec<u8> = (0..1_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    s.client.put("k", value.clone()).await?;
    let response = s.client.get("k").await?;
    ensure!(response.kvs[0].value() == value);
    Ok(())
}
