//! A caller that forgives nothing: a request is answered whole on the connection that it was sent on, or it has failed.
//!
//! Usual clients send a request again, unseen, where the other side closes a connection that was kept. A test whether a server
//! loses requests must not.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer takes on a machine with other things to do.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Somebody who asks over HTTP/1.1, one request after the other.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    keeps: Keeps,
    connection: Option<BufReader<TcpStream>>,
}

/// Whether a caller keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// For as long as the server lets it.
    TheConnection,
    /// It makes a new one for each request.
    Nothing,
}

/// What a caller was answered.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The lines of the head, in small letters.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Caller {
    /// Of the server at this address.
    pub fn new(address: SocketAddr, keeps: Keeps) -> Self {
        Self { address, keeps, connection: None }
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// Where the connection cannot be made, ends before the answer does, or says nothing for a minute.
    pub async fn get(&mut self, path: &str) -> Result<Answered> {
        timeout(TIMEOUT, self.ask(path)).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
    }

    async fn ask(&mut self, path: &str) -> Result<Answered> {
        let mut connection = match self.connection.take() {
            Some(kept) => kept,
            None => BufReader::new(TcpStream::connect(self.address).await?),
        };
        let last = if self.keeps == Keeps::Nothing { "connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{last}\r\n", self.address);
        connection.get_mut().write_all(request.as_bytes()).await?;
        let answered = read(&mut connection).await?;
        if self.keeps == Keeps::TheConnection && !answered.head.contains("connection: close") {
            self.connection = Some(connection);
        }
        Ok(answered)
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> Result<Answered> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, format!("the connection ended after `{head}`")));
        }
    }
    let head = head.to_ascii_lowercase();
    let malformed = || Error::new(ErrorKind::InvalidData, format!("an answer without status or length: {head}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).ok_or_else(malformed)?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(Answered { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}
