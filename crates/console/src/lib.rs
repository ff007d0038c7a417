//! The web pages: static assets that talk to the public API like any client.
