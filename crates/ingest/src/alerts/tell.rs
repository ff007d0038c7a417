//! The one call after a run and in the SLA watch: what is news is sent, and what a channel did not take is kept.

use tessera_kernel::Timestamp;

use super::book::Owed;
use super::{About, AlertBook, Alerter, Delivery, Finding, Judged, Message, Outcome};

/// Tells the channels what is news in `findings`, after what they did not take earlier. The book is stored by the
/// caller, afterwards: a process killed in between tells twice rather than never. Never fails; each message that did
/// not arrive is logged, returned, and tried again at the next call, for a day.
pub async fn tell(
    alerter: &Alerter,
    book: &mut AlertBook,
    about: &About,
    judged: Judged,
    findings: &[Finding],
    now: Timestamp,
) -> Vec<Delivery> {
    let owed = book.take_owed(now);
    // What is not told anywhere need not be remembered; it becomes news when `alerts.on` gets it.
    let wanted: Vec<Finding> = findings.iter().filter(|finding| alerter.wants(finding.event)).cloned().collect();
    let due = book.due(judged, &wanted, now);
    let news: Vec<Message> = due.into_iter().map(|action| about.message(action, now)).collect();
    let mut deliveries = vec![];
    for mut owed in owed {
        if let Message::Resolved(resolve) = &mut owed.message {
            // What opened since keeps PagerDuty's incident open.
            resolve.still_open = book.announced();
        }
        if news.iter().any(|message| owed.replaced_by(message)) {
            continue;
        }
        let sent = alerter.deliver(&owed.message, Some(owed.channel)).await;
        note(book, &owed.message, owed.since, &sent);
        deliveries.extend(sent);
    }
    for message in news {
        let sent = alerter.deliver(&message, None).await;
        note(book, &message, now, &sent);
        deliveries.extend(sent);
    }
    deliveries
}

impl Owed {
    /// A later word on the same condition makes this one stale.
    fn replaced_by(&self, message: &Message) -> bool {
        let event = self.message.event();
        event != crate::spec::AlertEvent::SchemaDrift && event == message.event()
    }
}

fn note(book: &mut AlertBook, message: &Message, since: Timestamp, sent: &[Delivery]) {
    for delivery in sent {
        let Outcome::Failed(reason) = &delivery.outcome else { continue };
        let headline = message.headline();
        tracing::warn!(alert.channel = delivery.channel.name(), alert.headline = headline, reason, "alert not sent");
        book.owe(Owed { channel: delivery.channel, message: message.clone(), since });
    }
}
