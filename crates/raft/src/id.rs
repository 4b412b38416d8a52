//! Ids of members and clusters, hashed as etcd does, so that its tools show the ids they would show for etcd itself.

use sha1::{Digest, Sha1};

/// Id of a member: from its peer URLs and the cluster's token, or, for one added at run time, the second of its addition, so that
/// an id never comes back.
pub fn member_id(peer_urls: &[String], token: &str, added_unix_secs: Option<u64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    match added_unix_secs {
        Some(secs) => hash.update(secs.to_string()),
        None => hash.update(token),
    }
    first_eight(hash)
}

/// Id of a cluster, from its first members; fixed for its life.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "etcd-cluster";

    fn id(url: &str) -> u64 {
        member_id(&[url.to_owned()], TOKEN, None)
    }

    #[test]
    fn single_member_as_etcd() {
        assert_eq!(id("http://localhost:2380"), 0x8e9e_05c5_2164_694d);
        assert_eq!(
            cluster_id(&[id("http://localhost:2380")]),
            0xcdf8_1819_4e3a_8c32
        );
    }

    #[test]
    fn three_members_as_etcd() {
        let ids = [
            id("http://127.0.0.1:2380"),
            id("http://127.0.0.1:22380"),
            id("http://127.0.0.1:32380"),
        ];
        assert_eq!(
            ids,
            [
                0xb71f_7532_0dc0_6a6c,
                0x9e73_7feb_b6b9_9eee,
                0x0628_170c_800d_bcee
            ]
        );
        assert_eq!(cluster_id(&ids), 0x066d_3a07_0bf8_9b39);
    }

    #[test]
    fn added_member_as_etcd() {
        let urls = ["http://127.0.0.1:12379".to_owned()];
        assert_eq!(
            member_id(&urls, TOKEN, Some(1_700_000_000)),
            0x0588_13f8_f400_d49b
        );
    }

    #[test]
    fn order_of_urls_does_not_count() {
        let urls = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(
            member_id(&urls("http://a:1", "http://b:1"), TOKEN, None),
            member_id(&urls("http://b:1", "http://a:1"), TOKEN, None)
        );
    }
}
