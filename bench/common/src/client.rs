//! A client of few instructions: requests are written as they lie, of answers only the status and the length are read.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The bytes of a request that is made with a token.
pub fn request(token: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A connection that is kept.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4_096) })
    }

    /// The status of the answer, and its body.
    ///
    /// # Errors
    /// Where the connection ends, or what comes is no answer.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head])?;
            let status = text.get(9..12).context("no status")?.parse()?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let end = head + 4 + length.context("an answer without a length")?;
            while self.buffer.len() < end {
                ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the answer breaks off");
            }
            return Ok((status, &self.buffer[head + 4..end]));
        }
    }

    /// What is at a path.
    ///
    /// # Errors
    /// Those of [`Client::ask`]; where the status is not 200.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (status, body) = self.ask(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes()).await?;
        ensure!(status == 200, "GET {path}: {status} {}", String::from_utf8_lossy(body));
        Ok(body.to_vec())
    }
}
