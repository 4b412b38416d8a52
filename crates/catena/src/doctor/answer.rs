//! One HTTP request, as small as a health check needs it.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The most that is read of an answer: a health check is a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The sender's clock, in seconds since 1970.
    pub(super) date: Option<u64>,
    pub(super) body: String,
}

impl Answer {
    /// What a member of etcd says when a majority has agreed to a read.
    pub(super) fn is_healthy(&self) -> bool {
        self.status == 200 && self.body.contains(r#""health":"true""#)
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let date = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("date")
                .then(|| seconds(value.trim()))?
        });
        Some(Self {
            status,
            date,
            body: body.to_owned(),
        })
    }
}

/// GET, on a connection of its own.
pub(super) async fn get(host: &str, port: u16, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    let answer = String::from_utf8_lossy(&answer);
    Answer::parse(&answer).ok_or_else(|| io::Error::other("what answers there does not speak HTTP"))
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
fn seconds(date: &str) -> Option<u64> {
    let mut words = date.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = 1 + MONTHS.iter().position(|known| *known == month)? as u64;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words
        .next()?
        .split(':')
        .map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // A year begins in March here, so that the day that is sometimes missing is its last.
    let (year, month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Days from March of the year 0 to 1970.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        for (date, secs) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(date), secs, "{date}");
        }
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let text = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:07 GMT\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}";
        let answer = Answer::parse(text).unwrap();
        assert_eq!((answer.status, answer.date), (200, Some(7)));
        assert!(answer.is_healthy());
        assert_eq!(Answer::parse("SSH-2.0-OpenSSH"), None);
    }
}
