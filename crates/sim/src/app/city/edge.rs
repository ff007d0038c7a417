//! The edge: takes the positions of all cars and sends them on in batches, each when the server wants it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tessera_kernel::{Timestamp, Uuid};
use tokio::time::{MissedTickBehavior, interval};

use super::City;
use super::street::Position;
use crate::Error;
use crate::client::{Ask, Call};
use crate::rides::{Due, Updated};

/// How often it looks who is due.
const LOOKS_EVERY: Duration = Duration::from_millis(500);
/// Positions in one request.
const BATCH: usize = 1_000;
/// When a position is sent again that changed nothing.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// The version of the compact form.
const VERSION: u8 = 1;
/// Stands for no heading in it.
const NO_HEADING: u16 = u16::MAX;

/// In which form positions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A list of objects.
    Json,
    /// 34 bytes each.
    Compact,
}

/// Runs until the city stops.
pub(super) async fn run(city: Arc<City>) {
    tokio::select! {
        () = city.stop.cancelled() => {}
        () = passes_on(&city) => {}
    }
}

async fn passes_on(city: &City) {
    let mut ticks = interval(LOOKS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let due = city.street.due(city.roads.as_ref(), city.pace());
        for batch in due.chunks(BATCH) {
            if let Err(error) = send(city, batch).await {
                city.tally.broke(&error);
            }
        }
    }
}

async fn send(city: &City, batch: &[Position]) -> Result<(), Error> {
    let token = city.people.sign(&format!("{}-edge", city.people.tag()), "edge")?;
    let now = city.clock.now();
    let body = match city.form {
        Form::Json => json_of(batch, now),
        Form::Compact => compact_of(batch, now),
    };
    let mut ask = Ask::step(Call::Positions, Method::POST, "/drivers/location/update", &token, body);
    if city.form == Form::Compact {
        ask.content_type = "application/octet-stream";
    }
    let Updated { updates } = city.client.fetch(&ask).await?;
    for (position, due) in batch.iter().zip(updates) {
        match due {
            Due::InMs(next) => {
                city.tally.position();
                city.street.next_in(position.car, Duration::from_millis(u64::from(next)));
            }
            Due::Refused(why) => {
                if why == "off_duty" {
                    city.street.lost(position.car);
                }
                city.tally.refused(why);
                city.street.next_in(position.car, REFUSED_AGAIN);
            }
        }
    }
    Ok(())
}

fn json_of(batch: &[Position], now: Timestamp) -> Bytes {
    let position = |position: &Position| {
        let Position { driver, place, heading, .. } = position;
        let driver = format!("driver_{}", Uuid::from_u128(*driver).as_simple());
        json!({ "driver_id": driver, "lat": place.lat(), "lng": place.lng(), "heading": heading, "at": now })
    };
    Bytes::from(Value::Array(batch.iter().map(position).collect()).to_string())
}

fn compact_of(batch: &[Position], now: Timestamp) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + batch.len() * 34);
    bytes.push(VERSION);
    let millis = (now.micros() / 1_000).unsigned_abs();
    for Position { driver, place, heading, .. } in batch {
        bytes.extend(driver.to_be_bytes());
        bytes.extend(place.lat_e7().to_le_bytes());
        bytes.extend(place.lng_e7().to_le_bytes());
        bytes.extend(heading.unwrap_or(NO_HEADING).to_le_bytes());
        bytes.extend(millis.to_le_bytes());
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use tessera_kernel::Place;

    use super::*;

    #[test]
    fn both_forms_say_who_is_where() {
        let place = Place::from_degrees(41.15, -8.61).unwrap();
        let now = Timestamp::from_micros(1_800_000_000_123_456);
        let batch = [Position { car: 0, driver: 0xabc, place, heading: None }];
        let json: Value = serde_json::from_slice(&json_of(&batch, now)).unwrap();
        assert_eq!(json[0]["driver_id"], "driver_00000000000000000000000000000abc");
        assert_eq!((&json[0]["lat"], &json[0]["heading"]), (&json!(41.15), &Value::Null));
        let compact = compact_of(&batch, now);
        assert_eq!((compact.len(), compact[0], compact[16]), (35, 1, 0xbc));
        assert_eq!(compact[17..21], 411_500_000_i32.to_le_bytes());
        assert_eq!(compact[25..27], [0xff, 0xff]);
        assert_eq!(compact[27..], 1_800_000_000_123_u64.to_le_bytes());
    }
}
