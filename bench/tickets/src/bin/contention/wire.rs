//! The least of HTTP that a client needs: requests on a connection that is kept, several at a time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long answers may take; a process that was killed closes its connections before.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    sound: bool,
}

/// Appends a request.
pub fn request(to: &mut String, path: &str, token: &str, key: &str, body: &str) {
    use std::fmt::Write;
    // Writing into a `String` cannot fail.
    let _ = write!(
        to,
        "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10), sound: true })
    }

    /// Whether what was sent was answered so far.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Sends requests and gives as many answers, in their order.
    pub async fn exchange(&mut self, requests: &str, count: usize) -> anyhow::Result<Vec<(u16, Vec<u8>)>> {
        self.sound = false;
        let answers = timeout(DEADLINE, async {
            self.stream.write_all(requests.as_bytes()).await?;
            let mut answers = Vec::with_capacity(count);
            while answers.len() < count {
                answers.push(self.answer().await?);
            }
            Ok::<_, anyhow::Error>(answers)
        });
        let answers = answers.await.context("no answer")??;
        self.sound = true;
        Ok(answers)
    }

    /// Posts JSON.
    pub async fn post(&mut self, path: &str, token: &str, key: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let mut sent = String::new();
        request(&mut sent, path, token, key, &body.to_string());
        let answer = self.exchange(&sent, 1).await?.pop().context("an answer")?;
        Ok((answer.0, serde_json::from_slice(&answer.1)?))
    }

    /// Gets JSON.
    pub async fn get(&mut self, path: &str, token: &str) -> anyhow::Result<(u16, Value)> {
        let sent = format!("GET {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = self.exchange(&sent, 1).await?.pop().context("an answer")?;
        Ok((answer.0, serde_json::from_slice(&answer.1)?))
    }

    /// The next answer; what follows it stays in the buffer.
    async fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        loop {
            if let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.buffer[..head])?;
                let status = text.get(9..12).context("no status")?.parse()?;
                let length = text.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                let end = head + 4 + length.context("an answer without a length")?;
                while self.buffer.len() < end {
                    self.read().await?;
                }
                let body = self.buffer[head + 4..end].to_vec();
                self.buffer.drain(..end);
                return Ok((status, body));
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        Ok(())
    }
}
