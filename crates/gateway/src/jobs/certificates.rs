//! Has certificates issued and renewed in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::app::Certificates;

/// How often is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks again and again, until it is stopped.
///
/// # Errors
/// None.
pub async fn renew(certificates: Arc<Certificates>, stop: CancellationToken) -> Result<(), String> {
    let mut looks = interval(LOOK_EVERY);
    loop {
        let look = async {
            looks.tick().await;
            certificates.look().await
        };
        // What is under way is given up: the order can be made anew.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = look => {}
        }
    }
}
