//! Listening sockets that outlive a process: taken over from whoever started it, kept while they listen, handed on.
//!
//! They come by the protocol of systemd's socket activation (`LISTEN_FDS`), from systemd or from the process before. As long
//! as one process has a socket open its queue is there, so that no connection is lost between two of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

/// The listening sockets of a process. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Sockets(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    inherited: Mutex<Vec<(SocketAddr, TcpListener)>>,
    kept: Mutex<Listed>,
    is_handed_on: AtomicBool,
}

/// Those that are open, each by its number.
#[derive(Debug, Default)]
struct Listed {
    last: u64,
    open: BTreeMap<u64, OwnedFd>,
}

/// Keeps a socket among those that are handed on. Drop it with the socket.
#[derive(Debug)]
pub struct Kept {
    number: u64,
    sockets: Sockets,
}

impl Sockets {
    /// Those that the process was started with. Ask once, before there are threads: what says so is taken out of the
    /// environment.
    ///
    /// # Errors
    /// Where one of them is no listening TCP socket.
    pub fn of_process() -> io::Result<Self> {
        let mut given = ListenFd::from_env();
        let mut inherited = Vec::new();
        for at in 0..given.len() {
            let Some(listener) = given.take_tcp_listener(at)? else { continue };
            listener.set_nonblocking(true)?;
            inherited.push((listener.local_addr()?, listener));
        }
        Ok(Self(Arc::new(Inner { inherited: Mutex::new(inherited), ..Inner::default() })))
    }

    /// Those of an address that the process was started with, each only once.
    pub fn take(&self, address: SocketAddr) -> Vec<TcpListener> {
        let mut inherited = lock(&self.0.inherited);
        inherited.extract_if(.., |(at, _)| *at == address).map(|(_, listener)| listener).collect()
    }

    /// Closes those that nobody took, and gives their addresses.
    pub fn close_rest(&self) -> Vec<SocketAddr> {
        lock(&self.0.inherited).drain(..).map(|(at, _)| at).collect()
    }

    /// Lists a socket that is listened on among those that are handed on.
    ///
    /// # Errors
    /// Where the process has too many files open.
    pub fn keep(&self, listener: &impl AsFd) -> io::Result<Kept> {
        let copy = listener.as_fd().try_clone_to_owned()?;
        let mut kept = lock(&self.0.kept);
        kept.last += 1;
        let number = kept.last;
        kept.open.insert(number, copy);
        Ok(Kept { number, sockets: self.clone() })
    }

    /// Copies of all that are listened on, for another process.
    ///
    /// # Errors
    /// Where the process has too many files open.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        lock(&self.0.kept).open.values().map(OwnedFd::try_clone).collect()
    }

    /// Another process listens on them from now on: this one is to leave its callers time to go there.
    pub fn hand_on(&self) {
        self.0.is_handed_on.store(true, Ordering::Release);
    }

    /// Whether another process listens on them.
    pub fn are_handed_on(&self) -> bool {
        self.0.is_handed_on.load(Ordering::Acquire)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.sockets.0.kept).open.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_handed_on_while_it_is_kept() {
        let sockets = Sockets::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = sockets.keep(&listener).unwrap();
        let copies: Vec<TcpListener> = sockets.copies().unwrap().into_iter().map(TcpListener::from).collect();
        assert_eq!(copies.iter().map(|copy| copy.local_addr().unwrap()).collect::<Vec<_>>(), [address]);
        drop((listener, kept, copies));
        assert!(sockets.copies().unwrap().is_empty());
        assert!(std::net::TcpStream::connect(address).is_err(), "nothing of it is left open");
    }

    #[test]
    fn what_was_inherited_is_taken_once_and_by_its_address() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [one, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let inherited = listeners.into_iter().map(|listener| (listener.local_addr().unwrap(), listener)).collect();
        let sockets = Sockets(Arc::new(Inner { inherited: Mutex::new(inherited), ..Inner::default() }));
        assert_eq!((sockets.take(one).len(), sockets.take(one).len()), (1, 0));
        assert_eq!((sockets.close_rest(), sockets.take(other).len()), (vec![other], 0));
    }
}
