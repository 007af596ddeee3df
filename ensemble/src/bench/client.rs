//! A client that costs little: one connection, one request at a time.
//!
//! The load runs on the machine that it measures, so what it takes is missing there. A
//! general client takes several times as much for each request.

use bytes::{Buf as _, BytesMut};
use events::UserId;
use jetstream::http::auth::DevelopmentKey;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

// What the paths of each service begin with, in the order of `SERVICES`.
const PATHS: [&str; 5] = ["orders", "products", "points", "coupons", "carts"];

/// Where an instance of the system is: all services at one place, or each at its own.
#[derive(Debug, Clone)]
pub(super) struct Place(Vec<String>);

impl Place {
    /// Everything is at `http://HOST:PORT`.
    pub(super) fn together(url: &str) -> Self {
        Self(vec![url.to_owned()])
    }

    /// Each service is at its own URL, in the order of `SERVICES`.
    pub(super) fn apart(urls: [String; PATHS.len()]) -> Self {
        Self(urls.into())
    }

    /// Each process by itself.
    pub(super) fn processes(&self) -> impl Iterator<Item = Self> {
        self.0.iter().map(|url| Self::together(url))
    }

    /// Which of the processes answers a path.
    fn of(&self, path: &str) -> usize {
        let first = path.split(['/', '?']).nth(1);
        let service = PATHS.iter().position(|name| Some(*name) == first);
        service.unwrap_or_default().min(self.0.len() - 1)
    }
}

/// Kept connections to an instance: one to each process that is asked something.
pub(super) struct Connection {
    place: Place,
    lines: Vec<Option<Line>>,
    request: Vec<u8>,
}

/// A kept connection to a process.
struct Line {
    stream: TcpStream,
    host: String,
    received: BytesMut,
}

/// An answer: its status and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: BytesMut,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Line {
    async fn open(url: &str) -> Result<Self, String> {
        let host = url.strip_prefix("http://").unwrap_or(url);
        let host = host.split('/').next().unwrap_or(host).to_owned();
        let failed = |e: std::io::Error| format!("cannot connect to {host}: {e}");
        let stream = TcpStream::connect(&host).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self {
            stream,
            host,
            received: BytesMut::with_capacity(4096),
        })
    }
}

impl Connection {
    /// Connects to where orders are placed, and to the others once they are asked.
    pub(super) async fn open(place: &Place) -> Result<Self, String> {
        let mut lines: Vec<_> = place.0.iter().map(|_| None).collect();
        lines[0] = Some(Line::open(&place.0[0]).await?);
        Ok(Self {
            place: place.clone(),
            lines,
            request: Vec::with_capacity(1024),
        })
    }

    /// Sends a request and reads its answer. `headers` are whole lines.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Result<Answer, String> {
        use std::io::Write as _;
        let at = self.place.of(path);
        let line = match &mut self.lines[at] {
            Some(line) => line,
            unopened => unopened.insert(Line::open(&self.place.0[at]).await?),
        };
        self.request.clear();
        let written = write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            line.host,
            body.len()
        );
        written.map_err(|error| error.to_string())?;
        let failed = |e: std::io::Error| format!("{method} {path}: {e}");
        line.stream.write_all(&self.request).await.map_err(failed)?;
        loop {
            if let Some(answer) = take_answer(&mut line.received)? {
                return Ok(answer);
            }
            let read = line.stream.read_buf(&mut line.received).await;
            if read.map_err(failed)? == 0 {
                return Err(format!("{method} {path}: the server closed the connection"));
            }
        }
    }

    /// Sends a request that has to succeed, and gives its answer as JSON.
    pub(super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = self.send(method, path, headers, &body).await?;
        match answer.status {
            200..300 => Ok(answer.json()),
            status => Err(format!(
                "{method} {path} was answered {status}: {}",
                String::from_utf8_lossy(&answer.body)
            )),
        }
    }
}

/// Takes a whole answer out of what was received; none while there is more to come.
fn take_answer(received: &mut BytesMut) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(received) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("an answer that is no HTTP: {error}")),
    };
    let status = response.code.unwrap_or_default();
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        });
    let length = match (length, status) {
        (Some(length), _) => length,
        (None, 204) => 0,
        (None, _) => return Err("an answer without content-length".to_owned()),
    };
    if received.len() < head + length {
        return Ok(None);
    }
    received.advance(head);
    let body = received.split_to(length);
    Ok(Some(Answer { status, body }))
}

/// The header line with a user's token.
pub(super) fn authorization(
    key: &DevelopmentKey,
    name: &str,
    operator: bool,
) -> Result<String, String> {
    let user = UserId::new(name).map_err(|error| error.to_string())?;
    let token = key.token(&user, operator, Duration::from_secs(24 * 60 * 60))?;
    Ok(format!("authorization: Bearer {token}\r\n"))
}

#[cfg(test)]
mod tests {
    use jetstream::http::document;

    use super::*;

    #[test]
    fn a_path_is_answered_by_its_service_wherever_that_is() {
        for (service, path) in crate::SERVICES.iter().zip(PATHS) {
            let document = document::of(std::slice::from_ref(service));
            let mut served = document["paths"].as_object().into_iter().flatten();
            let is_its = served.any(|(served, _)| served.split('/').nth(1) == Some(path));
            assert!(is_its, "{} serves nothing of /{path}", service.name);
        }
        let together = Place::together("http://127.0.0.1:1");
        let apart = Place::apart(std::array::from_fn(|n| format!("http://127.0.0.1:{n}")));
        for (path, service) in [
            ("/orders?limit=1", 0),
            ("/products/7", 1),
            ("/points/alice/charge", 2),
            ("/coupons", 3),
            ("/carts/alice/items/7", 4),
            ("/dead-letters", 0),
        ] {
            assert_eq!((together.of(path), apart.of(path)), (0, service), "{path}");
        }
    }

    #[test]
    fn answers_are_taken_whole_and_one_by_one() {
        let one = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        let mut received = BytesMut::from(&one[..one.len() - 1]);
        assert!(take_answer(&mut received).expect("HTTP").is_none());
        received.extend_from_slice(b"}HTTP/1.1 204 No Content\r\n\r\n");
        let first = take_answer(&mut received).expect("HTTP").expect("whole");
        assert_eq!((first.status, &first.body[..]), (202, &b"{}"[..]));
        let second = take_answer(&mut received).expect("HTTP").expect("whole");
        assert_eq!((second.status, second.body.len()), (204, 0));
        assert!(received.is_empty());
        assert!(take_answer(&mut BytesMut::from(&b"SMTP\r\n\r\n"[..])).is_err());
    }
}
