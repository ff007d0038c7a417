//! The one call after a run and in the SLA watch: what is news is sent, and what a channel did not take is kept.

use std::time::Duration;

use tessera_kernel::Timestamp;
use tokio::time::Instant;

use super::book::Owed;
use super::{About, AlertBook, Alerter, Delivery, Finding, Judged, Outcome, Shelf};
use crate::Error;

/// No message is begun after this; what is left is sent at the next call. With the last one it stays below the SLA
/// watch's limit for a pipeline.
const SENDING: Duration = Duration::from_secs(20);

/// What a look at the pipeline brought.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// What it could judge.
    pub judged: Judged,
    /// What is wrong.
    pub findings: &'a [Finding],
    /// Who looked: another name for each look, so that two of them do not send the same message.
    pub by: &'a str,
    /// When.
    pub now: Timestamp,
}

/// Tells the channels what is news, after what they did not take earlier. The messages are put into the book first, as
/// this writer's to send, and taken out when they were taken: a process killed in between has them sent twice rather
/// than never. Each message that did not arrive is logged, returned, and tried again at the next call, for a day.
///
/// # Errors
/// [`Error::Lake`] and [`Error::Conflict`] when the book cannot be kept. What a run found is told all the same, since a
/// disk that is full is what people must hear of; the SLA watch keeps silent, since it would repeat itself each minute.
pub async fn tell(shelf: &Shelf, alerter: &Alerter, about: &About, news: News<'_>) -> Result<Vec<Delivery>, Error> {
    let News { judged, findings, by, now } = news;
    // What is not told anywhere need not be remembered; it becomes news when `alerts.on` gets it.
    let wanted: Vec<Finding> = findings.iter().filter(|finding| alerter.wants(finding.event)).cloned().collect();
    let open = |book: &mut AlertBook| {
        for action in book.due(judged, &wanted, now) {
            let (message, channels) = alerter.addressed(&about.message(action, now));
            book.post(&message, &channels, now);
        }
        book.claim(by, now)
    };
    let claimed = match shelf.change(open).await {
        Ok(claimed) => claimed,
        Err(error) if judged == Judged::Sla => return Err(error),
        Err(error) => {
            let mut book = shelf.read().await.unwrap_or_default();
            tracing::warn!(%error, "alerts: what is told cannot be kept; it may be told again");
            return Ok(send(alerter, open(&mut book)).await.0);
        }
    };
    if claimed.is_empty() {
        return Ok(vec![]);
    }
    let (deliveries, not_taken) = send(alerter, claimed).await;
    shelf.change(|book| book.settle(by, &not_taken)).await?;
    Ok(deliveries)
}

/// Sends what was claimed, one message after the other, each to its channels at the same time.
async fn send(alerter: &Alerter, claimed: Vec<Owed>) -> (Vec<Delivery>, Vec<Owed>) {
    let until = Instant::now() + SENDING;
    let (mut deliveries, mut not_taken) = (vec![], vec![]);
    for same in claimed.chunk_by(|a, b| (a.since, &a.message) == (b.since, &b.message)) {
        if Instant::now() >= until {
            not_taken.extend_from_slice(same);
            continue;
        }
        let message = &same[0].message;
        let channels: Vec<_> = same.iter().map(|owed| owed.channel).collect();
        for delivery in alerter.deliver(message, &channels).await {
            if let Outcome::Failed(reason) = &delivery.outcome {
                let (channel, headline) = (delivery.channel.name(), message.headline());
                tracing::warn!(alert.channel = channel, alert.headline = headline, reason, "alert not sent");
                not_taken.extend(same.iter().filter(|owed| owed.channel == delivery.channel).cloned());
            }
            deliveries.push(delivery);
        }
    }
    (deliveries, not_taken)
}
