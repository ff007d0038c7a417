//! Bots: they all want the same few seats, do not look first, do not wait, and send everything twice.

use std::sync::Arc;

use rand::RngExt;
use serde_json::json;

use super::stage::Stage;
use super::tally::count;
use crate::Error;
use crate::api::{Hold, ticket_id};
use crate::client::{Ask, Call};
use crate::domain::fan::rng;

/// The seats they want: the best of the house.
const WANTED: u32 = 48;
/// Bots draw from their own randomness.
const AFTER_FANS: u64 = 1 << 40;

/// One bot: so many attempts one after another.
pub(super) async fn run(stage: Arc<Stage>, seed: u64, bot: u64, attempts: u32, is_guarded: bool) {
    if let Err(error) = hammer(&stage, seed, AFTER_FANS + bot, attempts, is_guarded).await {
        stage.tally.broke(format!("bot {bot}: {error}"));
    }
}

async fn hammer(stage: &Stage, seed: u64, bot: u64, attempts: u32, is_guarded: bool) -> Result<(), Error> {
    let mut rng = rng(seed, bot);
    let token = stage.people.fan(bot)?;
    let numbered: u32 = stage.map.rows.iter().map(|(_, count)| count).sum();
    for attempt in 0..attempts {
        let (seat, doubles, keeps) =
            (rng.random_range(0..WANTED), rng.random_range(0..5_u32) == 0, rng.random_range(0..10_u32) == 0);
        let mut body = match ticket_id(&stage.event, seat).filter(|_| seat < numbered) {
            Some(ticket) => json!({ "ticket_ids": [ticket] }),
            None => json!({ "event": stage.event, "quantity": 1, "best_available": true }),
        };
        if is_guarded {
            body["admission"] = "let-me-in".into();
        }
        let key = format!("bot-{bot}-{attempt}");
        let ask = Ask::post(Call::Reserve, "/booking/reserve", &token, &key, body.to_string());
        count(&stage.tally.bot_attempts);
        let answer = if doubles {
            let (one, two) = tokio::join!(stage.client.send(&ask), stage.client.send(&ask));
            let (one, two) = (one?, two?);
            if one.status < two.status { one } else { two }
        } else {
            stage.client.send(&ask).await?
        };
        match answer.status {
            200 if is_guarded => stage.tally.broke(format!("bot {bot} was let in with a forged admission")),
            200 => {
                count(&stage.tally.bot_holds);
                let hold: Hold = answer.read(&ask)?;
                // A few hoard what they have until it lapses.
                if !keeps {
                    let body = json!({ "hold_id": hold.hold_id }).to_string();
                    let key = format!("{key}-release");
                    let ask = Ask::post(Call::Release, "/booking/release", &token, &key, body);
                    stage.client.send(&ask).await?;
                }
            }
            400..500 => {}
            _ => return Err(answer.refused(&ask)),
        }
    }
    Ok(())
}
