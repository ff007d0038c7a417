//! A stand-in for Stripe: payments with manual capture, refunds, second steps and signed webhooks, over HTTP on this
//! machine; and whatever can go wrong with them, on demand.
//!
//! It honours idempotency keys as Stripe does: the same key with the same request is answered the same, with another one
//! it is refused, and while the first is at work it is a conflict. It checks the bearer key and that a version is named.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_kernel::{Clock, SystemClock};
use tokio::sync::oneshot;

mod books;
mod server;
mod webhooks;

use books::Books;
pub use books::{Card, Charged};
pub use webhooks::{Delivery, Event};

/// The secret key of its account.
pub const API_KEY: &str = "sk_test_stand_in";
/// What it signs webhooks with.
pub const WEBHOOK_SECRET: &str = "whsec_stand_in";

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Status 500, and nothing was done.
    FailBefore,
    /// Status 500, though it was done; the same key again gets the true answer.
    FailAfter,
    /// Status 500, though it was done; the same key again gets 500 again, as Stripe keeps its own failures too.
    FailForGood,
    /// No answer, and nothing was done.
    SilentBefore,
    /// No answer, though it was done.
    SilentAfter,
    /// Status 429, and nothing was done.
    Limit,
    /// It is done and answered after so long, whether anybody waits or not.
    Late(Duration),
    /// The answer is cut off in the middle, though it was done.
    Garbled,
}

/// A fault, and for which calls.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    times: u32,
    path_contains: String,
}

impl Fault {
    /// For the next call.
    pub fn once(kind: FaultKind) -> Self {
        Self { kind, times: 1, path_contains: String::new() }
    }

    /// For so many calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only for calls whose path contains this.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path_contains);
        self
    }
}

/// A running stand-in. It stops when this is dropped.
pub struct Stripe {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Stripe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stripe").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What its calls share.
struct State {
    books: Mutex<Books>,
    faults: Mutex<Vec<Fault>>,
    clock: Arc<dyn Clock>,
    url: String,
}

impl State {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that hits a call to this path, used up by one.
    fn fault(&self, path: &str) -> Option<FaultKind> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let at = faults.iter().position(|fault| path.contains(&fault.path_contains))?;
        let kind = faults[at].kind;
        faults[at].times -= 1;
        if faults[at].times == 0 {
            faults.remove(at);
        }
        Some(kind)
    }

    /// Unix seconds.
    fn now(&self) -> i64 {
        self.clock.now().micros() / 1_000_000
    }
}

/// Starts one by the machine's clock.
///
/// # Panics
/// Where it does not start.
pub fn start() -> Stripe {
    start_by(Arc::new(SystemClock))
}

/// Starts one by this clock.
///
/// # Panics
/// Where it does not start.
pub fn start_by(clock: Arc<dyn Clock>) -> Stripe {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let url = format!("http://{}", listener.local_addr().expect("the address of a bound port"));
    let state = Arc::new(State { books: Mutex::default(), faults: Mutex::default(), clock, url: url.clone() });
    let (stop, stopped) = oneshot::channel();
    let router = server::router(state.clone());
    // A runtime of its own: a test that stops its clock does not stop the stand-in's.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            tokio::select! {
                served = axum::serve(listener, router) => served.expect("the stand-in serves"),
                _ = stopped => {}
            }
        });
    });
    Stripe { url, state, stop: Some(stop), thread: Some(thread) }
}

impl Drop for Stripe {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stripe {
    /// Adds a fault; the first that fits a call hits it.
    pub fn add_fault(&self, fault: Fault) {
        assert!(fault.times > 0, "a fault for no calls");
        self.state.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Calls that came in so far, those that were hit by a fault included.
    pub fn calls(&self) -> u64 {
        self.state.books().calls
    }

    /// All payments, the oldest first.
    pub fn charged(&self) -> Vec<Charged> {
        self.state.books().charged()
    }

    /// As if others had paid so often just now, in the same shop.
    pub fn crowd(&self, count: usize) {
        let now = self.state.now();
        let fields = [
            ("amount", "100"),
            ("currency", "eur"),
            ("capture_method", "manual"),
            ("confirm", "true"),
            ("payment_method_types[]", "card"),
            ("payment_method", "pm_card_visa"),
        ];
        let form = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for _ in 0..count {
            self.state.books().create(&form, &self.state.url, now).expect("a payment like any other");
        }
    }

    /// The buyer agrees to the second step, or does not.
    ///
    /// # Panics
    /// Where the payment is not there.
    pub fn answer(&self, payment: &str, agreed: bool) {
        let now = self.state.now();
        self.state.books().answer(payment, agreed, now).expect("a payment of the stand-in");
        self.deliver_new();
    }

    /// The bank lets go of an authorisation by itself, as it does after a week.
    ///
    /// # Panics
    /// Where the payment is not there.
    pub fn lapse(&self, payment: &str) {
        let now = self.state.now();
        self.state.books().lapse(payment, now).expect("a payment of the stand-in");
        self.deliver_new();
    }

    /// Somebody refunds so much on Stripe's own pages.
    ///
    /// # Panics
    /// Where the payment is not there or has less.
    pub fn refund_by_hand(&self, payment: &str, amount: i64) {
        let now = self.state.now();
        let form = Default::default();
        self.state.books().refund(payment, amount, &form, now).expect("a payment with so much of it captured");
        self.deliver_new();
    }

    /// The bank sends the last refund of a payment back, as it may for days.
    ///
    /// # Panics
    /// Where the payment has none.
    pub fn fail_refund(&self, payment: &str) {
        let now = self.state.now();
        self.state.books().fail_refund(payment, now).expect("a payment with a refund");
        self.deliver_new();
    }

    fn deliver_new(&self) {
        webhooks::deliver_new(&self.state);
    }
}
