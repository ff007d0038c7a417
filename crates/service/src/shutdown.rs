//! The signals that ask the process to stop, or to hand over to a new one.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGUSR2, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop; the signal's name.
    Stop(&'static str),
    /// To let the program be started again, and then to stop (SIGUSR2).
    HandOver,
}

impl Signals {
    /// Starts to catch them. Make it before anything that must be stopped cleanly.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for any. Called again, it waits for the next.
    pub async fn recv(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hand_over.recv() => Asked::HandOver,
        }
    }

    /// Waits for one that asks to stop, and names it.
    pub async fn asked_to_stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.recv().await {
                return name;
            }
        }
    }
}
