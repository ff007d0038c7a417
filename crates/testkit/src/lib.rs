//! For tests: a real PostgreSQL, a real Redis, a real S3 server, Python's gRPC, stand-ins for Stripe and the push services, a real browser, the real binary,
//! a scratch folder; and a judge of what rivals for the same seats were told.
//!
//! Everything listens on a free port of this machine, lives in a temporary folder, and goes away when its handle is
//! dropped or the test dies. What is missing fails the test and says what to install; nothing is skipped.
#![expect(clippy::expect_used, reason = "a test that cannot set its stage fails there and then")]

pub mod bin;
mod browser;
pub mod caller;
pub mod greeter;
pub mod history;
pub mod postgres;
pub mod push;
pub mod redis;
pub mod reference;
pub mod s3;
mod scratch;
pub mod sql;
pub mod stripe;
mod wire;

pub use browser::Browser;
pub use push::rsa_key;
pub use scratch::ScratchDir;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
    listener.local_addr().expect("the address of a bound port").port()
}
