//! What a member that starts for the first time must have been told rightly, since it decides which cluster it becomes part of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
};

use catena_server::{ServerConfig, Url};
use tracing::warn;

/// etcd's checks before a new member starts; the error has etcd's words. With data present nobody asks: the data says which
/// cluster it belongs to.
pub(crate) fn check(config: &ServerConfig) -> Result<(), String> {
    let cluster = peers_of_each(config)?;
    if cluster.is_empty() {
        return Err("initial cluster unset and no discovery URL found".to_owned());
    }
    let own = cluster.get(config.name.as_str()).ok_or_else(|| {
        format!(
            "couldn't find local name \"{}\" in the initial cluster configuration",
            config.name
        )
    })?;
    no_url_twice(config)?;
    advertised_as_listed(config, own)
}

/// Peer URLs of each member, sorted.
fn peers_of_each(config: &ServerConfig) -> Result<BTreeMap<&str, BTreeSet<String>>, String> {
    let mut cluster: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, url) in &config.initial_cluster {
        if url.is_empty() {
            return Err(format!(
                "error setting up initial cluster: empty URL given for \"{name}\""
            ));
        }
        let url: Url = url
            .trim()
            .parse()
            .map_err(|error| format!("error setting up initial cluster: {error}"))?;
        cluster.entry(name).or_default().insert(url.to_string());
    }
    Ok(cluster)
}

fn no_url_twice(config: &ServerConfig) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match config
        .initial_cluster
        .iter()
        .all(|(_, url)| seen.insert(url.trim()))
    {
        true => Ok(()),
        false => Err(format!(
            "initial cluster {} has duplicate url",
            listed(&config.initial_cluster)
        )),
    }
}

fn listed(cluster: &[(String, String)]) -> String {
    let pairs: Vec<String> = cluster
        .iter()
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    pairs.join(",")
}

/// The member's URLs in the initial cluster are those that it advertises, by text or by the addresses that they resolve to.
fn advertised_as_listed(config: &ServerConfig, own: &BTreeSet<String>) -> Result<(), String> {
    let advertised: BTreeSet<String> = config.advertise_peer.iter().cloned().collect();
    if *own == advertised || resolve(own).is_some_and(|own| resolve(&advertised) == Some(own)) {
        return Ok(());
    }
    let name = &config.name;
    let named = |urls: Vec<&String>| {
        let urls: Vec<String> = urls
            .into_iter()
            .map(|url| format!("{name}={url}"))
            .collect();
        urls.join(",")
    };
    let all: Vec<&str> = advertised.iter().map(String::as_str).collect();
    let missing: Vec<&String> = own.difference(&advertised).collect();
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
            named(missing),
            all.join(",")
        ));
    }
    let extra: Vec<&str> = advertised.difference(own).map(String::as_str).collect();
    Err(format!(
        "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
        extra.join(","),
        named(own.iter().collect())
    ))
}

/// The addresses behind URLs; `None` if one has none.
fn resolve(urls: &BTreeSet<String>) -> Option<BTreeSet<SocketAddr>> {
    let mut addresses = BTreeSet::new();
    for url in urls {
        let url: Url = url.parse().ok()?;
        let Url::Http { host, port } = url else {
            return None;
        };
        addresses.insert((host.as_str(), port).to_socket_addrs().ok()?.next()?);
    }
    Some(addresses)
}

/// What etcd names in a data directory besides its own, so that a wrong directory is noticed.
pub(crate) fn warn_of_strangers(data_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(data_dir) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name() != "member")
    {
        warn!(
            filename = %entry.file_name().to_string_lossy(),
            data_dir = %data_dir.display(),
            "found invalid file under data directory"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, advertise: &str) -> ServerConfig {
        let mut config = ServerConfig::new("a", "a.etcd");
        config.initial_cluster = crate::config::cluster_of(cluster);
        config.advertise_peer = advertise.split(',').map(str::to_owned).collect();
        config
    }

    #[test]
    fn a_cluster_that_lists_the_member_as_it_advertises_itself_is_right() {
        for (cluster, advertise) in [
            (
                "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
                "http://127.0.0.1:1",
            ),
            (
                "a=http://127.0.0.1:2,a=http://127.0.0.1:1",
                "http://127.0.0.1:1,http://127.0.0.1:2",
            ),
            // By address, where the texts differ.
            ("a=http://[::1]:1", "http://[0:0:0:0:0:0:0:1]:1"),
        ] {
            assert_eq!(check(&config(cluster, advertise)), Ok(()), "{cluster}");
        }
    }

    #[test]
    fn wrong_clusters_get_etcds_words() {
        for (cluster, advertise, error) in [
            (
                "",
                "http://x:1",
                "initial cluster unset and no discovery URL found",
            ),
            (
                "b=http://127.0.0.1:1",
                "http://127.0.0.1:1",
                "couldn't find local name \"a\" in the initial cluster configuration",
            ),
            (
                "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
                "http://127.0.0.1:1",
                "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
            ),
            (
                "a=http://127.0.0.1:1",
                "http://127.0.0.1:2",
                "--initial-cluster has a=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://127.0.0.1:2",
            ),
            (
                "a=http://127.0.0.1:1",
                "http://127.0.0.1:1,http://127.0.0.1:2",
                "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:1",
            ),
            (
                "a",
                "http://x:1",
                "error setting up initial cluster: empty URL given for \"a\"",
            ),
            (
                "a=127.0.0.1:1",
                "http://127.0.0.1:1",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: 127.0.0.1:1",
            ),
        ] {
            assert_eq!(check(&config(cluster, advertise)).unwrap_err(), error);
        }
    }
}
