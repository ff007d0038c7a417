//! The command line of `tessera demo-api`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tessera_kernel::{Clock, ErrorKind, Timestamp};
use tokio::net::TcpListener;

use super::openapi::ENDPOINTS;
use super::{DemoApi, Faults, Options, serve};

/// Serve the API of a shop that does not exist: to learn with, for demos and for tests.
#[derive(Args, Clone, Debug)]
pub struct DemoApiArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099", value_parser = address)]
    pub listen: SocketAddr,
    /// Another seed is another shop
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Customers at the opening
    #[arg(long, default_value_t = 500)]
    pub customers: u64,
    /// Products
    #[arg(long, default_value_t = 200)]
    pub products: u64,
    /// Orders at the opening
    #[arg(long, default_value_t = 10_000)]
    pub orders: u64,
    /// When growth begins, such as 2026-01-01T00:00:00Z; give it to get the same shop after a restart [default: now]
    #[arg(long, value_name = "TIME")]
    pub opened_at: Option<Timestamp>,
    /// New orders per minute from then on; 0 is a shop that stands still
    #[arg(long, value_name = "ORDERS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub growth: u32,
    /// Ask for credentials (bearer token `demo-token`; `GET /` lists the others)
    #[arg(long)]
    pub auth: bool,
    /// Requests per second over all clients; more get 429
    #[arg(long, value_name = "REQUESTS")]
    pub rate_limit: Option<u32>,
    /// Milliseconds that every answer takes at least
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub latency_ms: u64,
    /// What goes wrong: `fail_every=9,cut_every=13`, or for one route `/orders:throttle_every=5`; repeatable
    #[arg(long, value_name = "FAULTS")]
    pub faults: Vec<String>,
}

/// Why the demo API did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--faults` is not understood.
    #[error("--faults: {0}")]
    Faults(String),
    /// The address cannot be listened on.
    #[error("--listen: cannot listen on `{address}` ({cause}); give another address, or port 0 for a free one")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Serving ended by itself.
    #[error("the demo API stopped: {0}; start it again")]
    Serve(#[from] std::io::Error),
}

impl Error {
    /// Its kind: invalid where the command line is at fault.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Faults(_) | Self::Listen { .. } => ErrorKind::Invalid,
            Self::Serve(_) => ErrorKind::Internal,
        }
    }
}

impl DemoApiArgs {
    /// The options that these arguments stand for; the shop opens at `now` where they do not say when.
    ///
    /// # Errors
    /// [`Error::Faults`].
    pub fn options(&self, now: Timestamp) -> Result<Options, Error> {
        let mut faults = Faults::default();
        self.faults.iter().try_for_each(|text| faults.add_flag(text)).map_err(Error::Faults)?;
        Ok(Options {
            seed: self.seed,
            customers: self.customers,
            products: self.products,
            orders: self.orders,
            opened_at: self.opened_at.unwrap_or(now),
            growth: self.growth,
            auth: self.auth,
            rate_limit: self.rate_limit,
            latency: Duration::from_millis(self.latency_ms),
            faults,
        })
    }

    /// Listens, prints the address and the endpoints, and serves until Ctrl-C or SIGTERM.
    ///
    /// # Errors
    /// See [`Error`]; nothing was started where the kind is invalid.
    pub async fn run(self, clock: Arc<dyn Clock>) -> Result<(), Error> {
        let options = self.options(clock.now())?;
        let failed = |cause| Error::Listen { address: self.listen, cause };
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let api = DemoApi::new(options, clock);
        // A closed output is no reason not to serve.
        let _ = announce(&mut std::io::stdout().lock(), address, api.0.shop.opened_at, self.growth);
        Ok(serve(listener, api, stop_signal()?).await?)
    }
}

fn announce(out: &mut impl Write, address: SocketAddr, opened_at: i64, growth: u32) -> std::io::Result<()> {
    writeln!(
        out,
        "demo API on http://{address} (opened at {}, {growth} orders/min)",
        Timestamp::from_micros(opened_at)
    )?;
    for (method, path, about) in ENDPOINTS {
        writeln!(out, "  {method:<6} {path:<22} {about}")?;
    }
    out.flush()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8099".to_owned())
}

/// Done when the process is told to stop.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Done when the process is told to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoApiArgs,
    }

    #[test]
    fn flags_become_options() {
        let flags = "demo --orders 5 --growth 0 --opened-at 2026-02-03 --rate-limit 7 --latency-ms 20 --auth \
                     --faults fail_every=9,cut_every=13 --faults /orders:slow_every=1,slow_ms=5";
        let options = Cli::parse_from(flags.split_whitespace()).demo.options(Timestamp::from_micros(1)).unwrap();
        assert_eq!((options.orders, options.growth, options.rate_limit, options.auth), (5, 0, Some(7), true));
        assert_eq!(options.opened_at.to_string(), "2026-02-03T00:00:00Z");
        assert_eq!((options.faults.fail_every, options.faults.paths["/orders"].slow_ms), (9, 5));
        let plain = Cli::parse_from(["demo"]).demo;
        assert_eq!(plain.options(Timestamp::from_micros(77)).unwrap().opened_at.micros(), 77);

        let wrong = Cli::parse_from(["demo", "--faults", "fial_every=1"]).demo;
        let error = wrong.options(Timestamp::from_micros(0)).unwrap_err();
        assert!(error.to_string().starts_with("--faults: faults `fial_every=1`"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(Cli::try_parse_from(["demo", "--opened-at", "soon"]).is_err());
        let error = Cli::try_parse_from(["demo", "--listen", "here"]).err().unwrap().to_string();
        assert!(error.contains("'here'") && error.contains("127.0.0.1:8099"), "{error}");
    }

    #[test]
    fn the_address_and_every_endpoint_are_announced() {
        let mut out = Vec::new();
        announce(&mut out, ([127, 0, 0, 1], 8099).into(), 0, 60).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("demo API on http://127.0.0.1:8099 "), "{out}");
        assert_eq!(out.lines().count(), 1 + ENDPOINTS.len());
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut demo = Cli::parse_from(["demo"]).demo;
        demo.listen = taken.local_addr().unwrap();
        let error = demo.run(Arc::new(tessera_kernel::SystemClock)).await.unwrap_err();
        assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
