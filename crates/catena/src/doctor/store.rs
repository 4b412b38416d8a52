//! Whether the store answers, has a quorum, and lives at the same time as this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catena_server::Url;
use tokio::time::timeout;

use super::{
    Finding,
    answer::{Answer, get},
};

/// A member that has lost its leader takes some seconds to say so.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// Clocks this far apart make logs, certificates and times of registration hard to compare. The date that HTTP carries counts whole seconds,
/// so less than two are not seen.
const SKEW_MAX_SECS: u64 = 2;

/// Asks every endpoint.
pub(super) async fn look(urls: &[Url]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut healthy = 0;
    let mut answered = 0;
    for url in urls {
        let asked = match url {
            Url::Http { host, port } => timeout(ANSWER_WITHIN, get(host, *port, "/health")).await,
            _ => continue,
        };
        match asked {
            Ok(Ok(answer)) => {
                answered += 1;
                healthy += usize::from(answer.is_healthy());
                findings.push(Finding::good("store", format!("{url} answers")));
                findings.extend(clock(url, &answer, SystemTime::now()));
            }
            Ok(Err(error)) => findings.push(silent(url, &error.to_string())),
            Err(_) => findings.push(silent(url, "no answer")),
        }
    }
    findings.push(quorum(healthy, answered));
    findings
}

fn silent(url: &Url, error: &str) -> Finding {
    Finding::bad(
        "store",
        format!("{url}: {error}"),
        "start the member there, open its port, or correct --endpoints; `catena up` and `catena dev` start a store on this machine",
    )
}

/// A member says that it is healthy when a majority has agreed to a read.
fn quorum(healthy: usize, answered: usize) -> Finding {
    match (healthy, answered) {
        (0, 0) => Finding::bad("quorum", "nobody to ask", "see above"),
        (0, _) => Finding::bad(
            "quorum",
            format!("none of the {answered} members that answer can read by agreement"),
            "a majority of the members must run and reach one another: `etcdctl endpoint status --cluster -w table` shows which do; start \
             those that do not. If a majority is lost for good, restore a snapshot",
        ),
        _ if healthy < answered => Finding::doubtful(
            "quorum",
            format!("{healthy} of {answered} members read by agreement"),
            "the others are cut off from the leader or full: `etcdctl endpoint health` and `etcdctl alarm list` say which and why",
        ),
        _ => Finding::good(
            "quorum",
            format!("all {answered} members that answer read by agreement"),
        ),
    }
}

fn clock(url: &Url, answer: &Answer, now: SystemTime) -> Option<Finding> {
    let theirs = answer.date?;
    let ours = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let apart = ours.abs_diff(theirs);
    let seen = format!("{url} and this machine are {apart} s apart");
    Some(match apart <= SKEW_MAX_SECS {
        true => Finding::good("clock", seen),
        false => Finding::doubtful(
            "clock",
            seen,
            "let both follow a time server: `timedatectl set-ntp true`, and `timedatectl` shows whether they do",
        ),
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::doctor::Verdict;

    /// A member that answers every request so.
    async fn member(answer: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _read = stream.read(&mut request).await;
                let _written = stream.write_all(answer.as_bytes()).await;
            }
        });
        Url::http("127.0.0.1", port)
    }

    const SICK: &str = "HTTP/1.1 503 Service Unavailable\r\nDate: Tue, 24 Nov 2026 20:00:00 GMT\r\n\r\n{\"health\":\"false\"}";

    fn worst(findings: &[Finding], check: &str) -> Option<Verdict> {
        let of = findings.iter().filter(|finding| finding.check == check);
        of.map(|finding| finding.verdict).max()
    }

    #[tokio::test]
    async fn a_member_without_quorum_is_told_from_one_that_is_not_there() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = Url::http("127.0.0.1", nobody.local_addr().unwrap().port());
        drop(nobody);
        let found = look(&[member(SICK).await]).await;
        assert_eq!(worst(&found, "store"), Some(Verdict::Good), "{found:?}");
        assert_eq!(worst(&found, "quorum"), Some(Verdict::Bad), "{found:?}");
        let found = look(&[silent]).await;
        assert_eq!(worst(&found, "store"), Some(Verdict::Bad), "{found:?}");
    }

    #[test]
    fn a_part_of_the_members_is_doubtful() {
        assert_eq!(quorum(3, 3).verdict, Verdict::Good);
        assert_eq!(quorum(2, 3).verdict, Verdict::Doubtful);
        assert_eq!(quorum(0, 3).verdict, Verdict::Bad);
    }

    #[tokio::test]
    async fn a_clock_that_is_an_hour_off_is_doubtful() {
        let url = Url::http("a", 1);
        let answer = Answer {
            status: 200,
            date: Some(1_000_000),
            body: String::new(),
        };
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let verdict = |secs| clock(&url, &answer, at(secs)).unwrap().verdict;
        assert_eq!(verdict(1_000_001), Verdict::Good);
        assert_eq!(verdict(1_003_600), Verdict::Doubtful);
        assert_eq!(verdict(996_400), Verdict::Doubtful);
    }
}
