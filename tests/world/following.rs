//! Following an order: server-sent events and WebSocket, as clients see them.

use std::time::Duration;

use events::OrderId;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Client;

// A stream may be quiet for long; a test may not.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open stream of server-sent events.
pub struct Events {
    response: reqwest::Response,
    text: String,
}

/// An event: its id, which is the order's version, and the order.
pub type Change = (i64, Value);

impl Events {
    /// Reads an answer as a stream of events.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn of(response: reqwest::Response) -> Self {
        let kind = response.headers().get("content-type");
        assert_eq!(kind.expect("a content type"), "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event; nothing when the server has ended the stream.
    ///
    /// # Panics
    /// When the stream is cut, or nothing comes in time.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let change = change(block);
                self.text = rest.to_owned();
                if change.is_some() {
                    return change;
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("in time").expect("the stream is not cut")?;
            self.text += std::str::from_utf8(&chunk).expect("text");
        }
    }

    /// All events until the server ends the stream.
    pub async fn all(mut self) -> Vec<Change> {
        let mut all = vec![];
        while let Some(change) = self.next().await {
            all.push(change);
        }
        all
    }
}

/// Reads a block of lines; nothing when it is a comment.
fn change(block: &str) -> Option<Change> {
    let field = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let data = serde_json::from_str(field("data")?).expect("JSON");
    let id = field("id").expect("an id").parse().expect("a version");
    Some((id, data))
}

/// An open WebSocket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// The next order; when there is none any more, the code of the server's close.
    ///
    /// # Errors
    /// That code.
    ///
    /// # Panics
    /// When the connection is cut, or nothing comes in time.
    pub async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.expect("in time").expect("a close before the end") {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => return Err(frame.expect("a code").code.into()),
                Ok(_) => {}
                Err(error) => panic!("the connection is cut: {error}"),
            }
        }
    }

    /// All orders until the server closes, and the code of its close.
    pub async fn all(mut self) -> (Vec<Value>, u16) {
        let mut all = vec![];
        loop {
            match self.next().await {
                Ok(order) => all.push(order),
                Err(code) => return (all, code),
            }
        }
    }
}

impl Client<'_> {
    /// Opens the events of an order.
    ///
    /// # Panics
    /// When that is refused.
    pub async fn events(&self, order: OrderId) -> Events {
        let request = self.request(Method::GET, &format!("/orders/{order}/events"));
        Events::of(request.send().await.expect("an answer"))
    }

    /// Opens the WebSocket of an order, with this client's token or with a ticket.
    ///
    /// # Errors
    /// The status code of a refusal.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn socket(&self, order: OrderId, ticket: Option<&str>) -> Result<Socket, u16> {
        let path = match ticket {
            Some(ticket) => format!("/orders/{order}/ws?ticket={ticket}"),
            None => format!("/orders/{order}/ws"),
        };
        let url = self.url(&path).replacen("http", "ws", 1);
        let mut request = url.into_client_request().expect("a request");
        if ticket.is_none() {
            let token = format!("Bearer {}", self.token()).parse();
            let token = token.expect("a header value");
            request.headers_mut().insert("authorization", token);
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(refused)) => {
                Err(refused.status().as_u16())
            }
            Err(error) => panic!("no answer: {error}"),
        }
    }
}
