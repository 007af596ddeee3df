//! A TCP proxy that can cut, delay, and keep connections open without a word.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// It passes.
    Open,
    /// It passes late.
    Late(Duration),
    /// Connections are closed, and new ones refused.
    Cut,
    /// Connections stay open, and nothing passes: what a broken switch does.
    Silent,
}

/// A proxy in front of a server. Dropping it closes all.
pub(crate) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(target: SocketAddr) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|e| format!("the proxy cannot listen: {e}"))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let line = watch::Sender::new(Line::Open);
        let lines = line.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, lines.subscribe()));
            }
        });
        Ok(Self {
            address,
            line,
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.line.send_replace(Line::Cut);
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut line: watch::Receiver<Line>) {
    if *line.borrow_and_update() == Line::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client, server) = (client.into_split(), server.into_split());
    let there = pass(client.0, server.1, line.clone());
    let back = pass(server.0, client.1, line.clone());
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        // What is silent is lost with its connection, or delivered when it speaks again.
        if line.wait_for(|line| *line != Line::Silent).await.is_err() {
            return;
        }
        let now = *line.borrow();
        if let Line::Late(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
