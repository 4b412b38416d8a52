//! Networks between the members that lose, repeat, delay and cut. Clients reach every member all the time, unless said otherwise.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Fault, fault};
use crate::{ground::Ground, machine::Net};

pub(super) const FAULTS: &[Fault] = &[
    fault!("partition-leader", Hosts, partition_leader).of_three(),
    fault!("partition-follower", Hosts, partition_follower).of_three(),
    fault!("partition-bridge", Hosts, bridge).of_three(),
    fault!("partition-oneway", Hosts, oneway).of_three(),
    fault!("partition-all", Hosts, partition_all).of_three(),
    fault!("link-down", Hosts, link_down).of_three(),
    fault!("packet-loss", Hosts, loss).of_three(),
    fault!("packet-twice", Hosts, twice).of_three(),
    fault!("connections-refused", Hosts, refused).of_three(),
    fault!("slow-line", Hosts, slow_line).of_three(),
];

/// How long a cut lasts, in milliseconds.
const CUT_MS: std::ops::Range<u64> = 2_500..5_000;
/// Percent of the packets that are lost or doubled.
const PERCENT: std::ops::Range<u64> = 10..35;
/// A slow line's megabits in a second.
const SLOW_MBIT: &str = "1";

/// The leader is in the minority.
async fn partition_leader(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let host = Net::host_of(place);
    cut(g, "partition-leader", &[place], &[&["isolate", &host]]).await
}

/// The leader is in the majority; the member that is cut off must not disturb it when it returns.
async fn partition_follower(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let host = Net::host_of(place);
    cut(g, "partition-follower", &[place], &[&["isolate", &host]]).await
}

/// The leader and a follower do not hear each other, and the third hears both.
async fn bridge(g: &mut Ground) -> Result<()> {
    let pair = [g.leader().await?, g.follower().await?];
    let [one, other] = pair.map(Net::host_of);
    cut(g, "partition-bridge", &pair, &[&["cut", &one, &other]]).await
}

/// One hears the other, and is not heard.
async fn oneway(g: &mut Ground) -> Result<()> {
    for leader_is_deaf in [false, true] {
        let (leader, follower) = (g.leader().await?, g.follower().await?);
        let pair = match leader_is_deaf {
            false => [leader, follower],
            true => [follower, leader],
        };
        let [from, to] = pair.map(Net::host_of);
        cut(g, "partition-oneway", &pair, &[&["oneway", &from, &to]]).await?;
        g.goes_on(50).await?;
    }
    Ok(())
}

/// Nobody hears anybody.
async fn partition_all(g: &mut Ground) -> Result<()> {
    let cuts: [&[&str]; 3] = [&["cut", "1", "2"], &["cut", "2", "3"], &["cut", "1", "3"]];
    cut(g, "partition-all", &[0, 1, 2], &cuts).await
}

async fn loss(g: &mut Ground) -> Result<()> {
    everywhere(g, "packet-loss", "loss").await
}

async fn twice(g: &mut Ground) -> Result<()> {
    everywhere(g, "packet-twice", "dup").await
}

/// A fault with a percentage on every link between members, in both directions.
async fn everywhere(g: &mut Ground, name: &'static str, verb: &str) -> Result<()> {
    let percent = g.draw(PERCENT).to_string();
    let links = [
        ("1", "2"),
        ("2", "1"),
        ("2", "3"),
        ("3", "2"),
        ("1", "3"),
        ("3", "1"),
    ];
    let faults: Vec<_> = links
        .iter()
        .map(|(from, to)| [verb, from, to, percent.as_str()])
        .collect();
    let faults: Vec<_> = faults.iter().map(<[&str; 4]>::as_slice).collect();
    cut(g, name, &[0, 1, 2], &faults).await
}

/// Connections die, and new ones are refused for a while.
async fn refused(g: &mut Ground) -> Result<()> {
    let pair = [g.leader().await?, g.follower().await?];
    let [one, other] = pair.map(Net::host_of);
    let faults: [&[&str]; 3] = [
        &["refuse", &one, &other],
        &["refuse", &other, &one],
        &["reset", &one, &other],
    ];
    cut(g, "connections-refused", &pair, &faults).await
}

/// Makes faults, lets them work for a while and ends them; the packets that met their rules are the proof.
async fn cut(
    g: &mut Ground,
    name: &'static str,
    places: &[usize],
    faults: &[&[&str]],
) -> Result<()> {
    let millis = g.draw(CUT_MS);
    let words: Vec<_> = faults.iter().map(|words| words.join(" ")).collect();
    let going = g.begin(
        name,
        places,
        &[("ms", json!(millis)), ("rules", json!(words))],
    );
    for words in faults {
        net(g)?.fault(words).await?;
    }
    g.rest(millis).await;
    let counters = net(g)?.counters().await?;
    net(g)?.heal().await?;
    let packets: u64 = counters.iter().filter_map(|line| packets(line)).sum();
    g.end(going, "packets that met a rule", packets)
}

/// The number of packets in a line of the tool's, such as `in: -s 10.77.0.1/32 -c 12 720 -j DROP`.
fn packets(line: &str) -> Option<u64> {
    let (_, counter) = line.split_once("-c ")?;
    counter.split_whitespace().next()?.parse().ok()
}

/// A cable is out: clients do not reach the member either.
async fn link_down(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let host = Net::host_of(place);
    let millis = g.draw(CUT_MS);
    let going = g.begin("link-down", &[place], &[("ms", json!(millis))]);
    net(g)?.fault(&["link", &host, "down"]).await?;
    g.rest(millis).await;
    let state = net(g)?.link(&host).await?;
    net(g)?.heal().await?;
    anyhow::ensure!(state != "UP", "the link is up");
    g.end(going, "state of the link", state)
}

async fn slow_line(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let host = Net::host_of(place);
    let millis = g.draw(CUT_MS);
    let args = [("ms", json!(millis)), ("mbit", json!(SLOW_MBIT))];
    let going = g.begin("slow-line", &[place], &args);
    net(g)?.fault(&["rate", &host, SLOW_MBIT]).await?;
    g.rest(millis).await;
    let held = net(g)?.overlimits(&host).await?;
    net(g)?.heal().await?;
    g.end(going, "packets that had to wait", held)
}

fn net(g: &Ground) -> Result<&Net> {
    g.net.as_ref().context("the members stand on hosts")
}
