//! Sockets for datagrams, which HTTP/3 runs on.
//!
//! There is one for each listener, and one worker has it. Several that share a port get a client's datagrams by its address,
//! so a connection would break off when that changes (docs/adr/0010).

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::Origin;
use crate::Error;
use crate::snapshot::Snapshot;

/// What becomes of a port that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfTaken {
    /// It is another's.
    Refuse,
    /// It is let go of before long: by the process before, or by connections of ours that are ending.
    Wait,
}

impl IfTaken {
    /// Of a listener where this process `was_speaking` HTTP/3 already, or not.
    pub(super) fn of(origin: Origin, was_speaking: bool) -> Self {
        match origin {
            Origin::Opened if !was_speaking => Self::Refuse,
            Origin::Opened | Origin::Inherited => Self::Wait,
        }
    }
}

/// A socket for datagrams, or the address that it is to have as soon as whoever has it lets go of it.
#[derive(Debug)]
#[cfg_attr(not(feature = "http3"), expect(dead_code, reason = "nobody reads them without HTTP/3"))]
pub(super) struct Datagrams {
    /// The listener, as the config file names it.
    pub(super) listener: String,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The socket.
    pub(super) socket: Option<UdpSocket>,
}

impl Datagrams {
    /// The socket of a listener, on the port of its sockets for connections where they have just been opened.
    ///
    /// # Errors
    /// [`Error::Listener`] where its port is another's.
    pub(super) fn open(listener: &str, sockets: &[TcpListener], if_taken: IfTaken) -> Result<Self, Error> {
        let refuse =
            |error: std::io::Error| Error::Listener { address: listener.to_owned(), reason: error.to_string() };
        let address = match sockets.first() {
            Some(first) => first.local_addr().map_err(refuse)?,
            None => listener.parse().map_err(|_| refuse(ErrorKind::InvalidInput.into()))?,
        };
        if address.port() == 0 {
            let reason = "HTTP/3 cannot be added to a port that the system chose; name one".to_owned();
            return Err(Error::Listener { address: listener.to_owned(), reason });
        }
        let socket = match UdpSocket::bind(address) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse && if_taken == IfTaken::Wait => None,
            Err(error) => return Err(refuse(std::io::Error::new(error.kind(), format!("UDP: {error}")))),
        };
        Ok(Self { listener: listener.to_owned(), address, socket })
    }
}

/// Whether HTTP/3 is spoken at a listener.
pub(super) fn wants(snapshot: &Snapshot, listener: &str) -> bool {
    snapshot.spec.listeners.iter().any(|known| known.http3 && known.address == listener)
}
