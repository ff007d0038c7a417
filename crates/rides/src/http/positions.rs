//! Positions: one, a list, or the compact form, version 1.
//!
//! The compact form is a byte `1`, then for each position 34 bytes, numbers little endian: the driver's id (16 bytes as in its
//! text form), latitude and longitude (i32, units of 1e-7 degree), heading (u16, degrees; 65535 is not known), time (u64,
//! milliseconds since 1970 UTC). Its content type is `application/octet-stream`.

use axum::extract::State;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Place, Timestamp, Uuid};
use tessera_service::http::Json;
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use crate::Error;
use crate::app::{App, driver_of};
use crate::domain::ids::DriverId;
use crate::locations::{Refusal, Report};

/// The version of the compact form.
const VERSION: u8 = 1;
/// Bytes of a position in it.
const SIZE: usize = 34;
/// Positions in one request.
const MOST: usize = 10_000;

/// A position.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PositionBody {
    /// Whose, where an edge sends those of many; the caller's where not set.
    #[serde(default, alias = "driverId")]
    #[schema(value_type = Option<String>)]
    driver_id: Option<DriverId>,
    lat: f64,
    lng: f64,
    /// Degrees clockwise from north.
    heading: Option<u16>,
    /// When; now where not set.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// When the next position is due.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdatedBody {
    /// The soonest of all, milliseconds; null where every position was refused.
    next_update_ms: Option<u32>,
    /// For each position milliseconds, or why it was refused: `off_duty`, `stale`, `past`, `future`, `jump`.
    updates: Vec<UpdateBody>,
}

/// What came of a position.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum UpdateBody {
    /// When the next one is due, milliseconds.
    Next(u32),
    /// Why it was refused.
    Refused(&'static str),
}

/// Where drivers are. A driver sends its own; an `edge` those of many.
#[utoipa::path(
    post,
    path = "/drivers/location/update",
    request_body = Vec<PositionBody>,
    responses(
        (status = 200, body = UpdatedBody),
        (status = 400),
        (status = 403, description = "another driver's"),
        (status = 503, description = "the positions are away")
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    identity: Identity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<UpdatedBody>, Problem> {
    identity.require(&["driver", "edge"])?;
    let binary = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/octet-stream");
    let own = driver_of(&identity.subject);
    let reports = read(&app, &body, binary, own)?;
    Ok(Json(take(&app, &reports, own, identity.is("edge")).await?))
}

/// What a body says: in the compact form, or as JSON.
pub(super) fn read(app: &App, body: &[u8], binary: bool, own: DriverId) -> Result<Vec<Report>, Error> {
    let read = if binary { compact(body) } else { json(body, own, app.clock.now()) };
    read.map_err(|Unread { reason, is_outside }| {
        if is_outside {
            app.refusals.count(Refusal::Outside);
        }
        Error::BadRequest { reason }
    })
}

/// Takes reports: a driver's own, or anybody's from an edge.
pub(super) async fn take(app: &App, reports: &[Report], own: DriverId, is_edge: bool) -> Result<UpdatedBody, Error> {
    if !is_edge && let Some(other) = reports.iter().find(|report| report.driver != own) {
        app.refusals.count(Refusal::Foreign);
        return Err(Error::Forbidden { what: format!("the position of driver `{}`", other.driver) });
    }
    let updates = app.locate(reports).await?;
    let next_update_ms = updates.iter().filter_map(|update| update.ok()).min();
    let updates = updates.into_iter().map(|update| match update {
        Ok(next) => UpdateBody::Next(next),
        Err(refusal) => UpdateBody::Refused(refusal.code()),
    });
    Ok(UpdatedBody { next_update_ms, updates: updates.collect() })
}

/// Why a body was not read.
#[derive(Debug)]
struct Unread {
    reason: String,
    /// Whether a position in it is not on the earth.
    is_outside: bool,
}

fn bad(reason: String) -> Unread {
    Unread { reason, is_outside: false }
}

fn outside(number: usize, reason: &str) -> Unread {
    Unread { reason: format!("position {number}: {reason}"), is_outside: true }
}

fn json(body: &[u8], own: DriverId, now: Timestamp) -> Result<Vec<Report>, Unread> {
    // Which of both it is shows at its beginning, so what is wrong with it can be said.
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let read = if is_list {
        serde_json::from_slice::<Vec<PositionBody>>(body)
    } else {
        serde_json::from_slice::<PositionBody>(body).map(|one| vec![one])
    };
    let positions = read.map_err(|error| {
        bad(format!(
            "the body is no position and no list of them: {error}; send {{\"lat\", \"lng\", \"heading\", \"at\"}}"
        ))
    })?;
    few(positions.len())?;
    let report = |(number, position): (usize, PositionBody)| {
        let place = Place::from_degrees(position.lat, position.lng).map_err(|reason| outside(number, &reason))?;
        if let Some(heading) = position.heading.filter(|heading| *heading > 360) {
            return Err(bad(format!("position {number}: heading {heading} is not 0 to 360 degrees")));
        }
        Ok(Report {
            driver: position.driver_id.unwrap_or(own),
            place,
            heading: position.heading,
            at: position.at.unwrap_or(now),
        })
    };
    positions.into_iter().enumerate().map(report).collect()
}

fn few(count: usize) -> Result<(), Unread> {
    match count {
        0 => Err(bad("there is no position in the body".into())),
        count if count > MOST => Err(bad(format!("{count} positions are too many; send up to {MOST} in a request"))),
        _ => Ok(()),
    }
}

fn compact(body: &[u8]) -> Result<Vec<Report>, Unread> {
    let Some((version, rest)) = body.split_first() else { return Err(bad("the body is empty".into())) };
    if *version != VERSION {
        return Err(bad(format!(
            "the body is of version {version} of the compact form; this server reads version {VERSION}"
        )));
    }
    let (positions, tail) = rest.as_chunks::<SIZE>();
    if !tail.is_empty() {
        return Err(bad(format!("{} bytes are left over; each position takes {SIZE}", tail.len())));
    }
    few(positions.len())?;
    let report = |(number, bytes): (usize, &[u8; SIZE])| {
        let (id, rest) = split::<16>(bytes);
        let (lat, rest) = split::<4>(rest);
        let (lng, rest) = split::<4>(rest);
        let (heading, rest) = split::<2>(rest);
        let (at, _) = split::<8>(rest);
        let place = Place::from_e7(i32::from_le_bytes(lat), i32::from_le_bytes(lng))
            .map_err(|reason| outside(number, &reason))?;
        let heading = u16::from_le_bytes(heading);
        if heading > 360 && heading != u16::MAX {
            return Err(bad(format!("position {number}: heading {heading} is not 0 to 360 degrees")));
        }
        let millis = i64::try_from(u64::from_le_bytes(at)).ok().and_then(|millis| millis.checked_mul(1_000));
        let micros = millis.ok_or_else(|| bad(format!("position {number}: its time is out of range")))?;
        Ok(Report {
            driver: DriverId::from(Uuid::from_bytes(id)),
            place,
            heading: (heading != u16::MAX).then_some(heading),
            at: Timestamp::from_micros(micros),
        })
    };
    positions.iter().enumerate().map(report).collect()
}

/// The first bytes of a position; there are always enough.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = bytes.split_at(N);
    let mut taken = [0; N];
    taken.copy_from_slice(first);
    (taken, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::interval::Intervals;
    use crate::locations::{Duty, Entry, Index};

    const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn own() -> DriverId {
        driver_of("ana")
    }

    /// The compact form of reports.
    fn written(reports: &[Report]) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for report in reports {
            bytes.extend(report.driver.uuid().as_bytes());
            bytes.extend(report.place.lat_e7().to_le_bytes());
            bytes.extend(report.place.lng_e7().to_le_bytes());
            bytes.extend(report.heading.unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(((report.at.micros() / 1_000) as u64).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn what_is_missing_in_a_position_is_named() {
        for body in [&br#"{"lat":41.15}"#[..], br#" [{"lat":41.15}]"#] {
            let said = json(body, own(), NOON).err().map(|unread| unread.reason).unwrap_or_default();
            assert!(said.contains("missing field `lng`"), "{said}");
        }
    }

    #[test]
    fn one_and_many_and_the_compact_form_say_the_same() {
        let place = Place::from_degrees(41.15, -8.61).unwrap();
        let report = Report { driver: own(), place, heading: Some(90), at: NOON };
        let one = br#"{"lat":41.15,"lng":-8.61,"heading":90}"#;
        let many = br#"[{"lat":41.15,"lng":-8.61,"heading":90}]"#;
        for body in [&one[..], &many[..]] {
            assert_eq!(json(body, own(), NOON).unwrap(), [report]);
        }
        assert_eq!(compact(&written(&[report, report])).unwrap(), [report, report]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |body: &str| json(body.as_bytes(), own(), NOON).unwrap_err().reason;
        assert!(said(r#"{"lat":91,"lng":0}"#).contains("latitude 91"));
        assert!(said(r#"{"lat":1,"lng":0,"heading":400}"#).contains("heading 400"));
        assert!(said("[]").contains("no position"));
        assert!(said("{").contains("lat"));
        let said = |body: &[u8]| compact(body).unwrap_err().reason;
        assert!(said(&[2]).contains("version 2"));
        assert!(said(&[1, 0, 0]).contains("2 bytes"));
        assert!(said(&[1]).contains("no position"));
    }

    /// Whether what is taken is as the rest relies on: not too many, on the earth, headed somewhere; and a position takes each, where
    /// it is of the present.
    fn is_valid(taken: &[Report]) -> bool {
        let index = Index::new(Intervals::default(), NOON);
        let sound = |report: &Report| {
            index.enter(&Entry { driver: report.driver, place: report.place, duty: Duty::Free, at: NOON }, false);
            let present = (NOON.micros() - 60_000_000..=NOON.micros() + 30_000_000).contains(&report.at.micros());
            report.place.lat().abs() <= 90.0
                && report.place.lng().abs() <= 180.0
                && report.heading.is_none_or(|heading| heading <= 360)
                && (present || index.report(report, NOON).is_err())
        };
        (1..=MOST).contains(&taken.len()) && taken.iter().all(sound)
    }

    fn reports() -> impl Strategy<Value = Vec<Report>> {
        let report = (any::<[u8; 16]>(), -900_000_000..=900_000_000_i32, -1_800_000_000..=1_800_000_000_i32);
        let noon = NOON.micros() / 1_000;
        let millis = prop_oneof![0..4_000_000_000_000_i64, noon - 70_000..noon + 40_000];
        let report = (report, proptest::option::of(0..=360_u16), millis);
        let report = report.prop_map(|((id, lat, lng), heading, millis)| Report {
            driver: Uuid::from_bytes(id).into(),
            place: Place::from_e7(lat, lng).unwrap(),
            heading,
            at: Timestamp::from_micros(millis * 1_000),
        });
        proptest::collection::vec(report, 1..6)
    }

    /// The JSON of reports, all in their long form.
    fn said(reports: &[Report]) -> String {
        let one = |report: &Report| {
            let (lat, lng) = (report.place.lat(), report.place.lng());
            serde_json::json!({
                "driver_id": report.driver, "lat": lat, "lng": lng, "heading": report.heading, "at": report.at
            })
        };
        serde_json::Value::from(reports.iter().map(one).collect::<Vec<_>>()).to_string()
    }

    /// A change of a body: bytes set, taken out, put in or doubled.
    #[derive(Clone, Debug)]
    enum Change {
        Set(u8),
        Flip(u8),
        Insert(u8),
        Remove(usize),
        Double(usize),
        Cut,
    }

    fn changes() -> impl Strategy<Value = Vec<(f64, Change)>> {
        // What has a meaning in JSON is likelier than other bytes.
        let byte = prop_oneof![any::<u8>(), proptest::sample::select(br#"0123456789-+.eE"{}[],:nulltrue"#.to_vec())];
        let change = prop_oneof![
            4 => byte.clone().prop_map(Change::Set),
            3 => (0..8_u8).prop_map(|bit| Change::Flip(1 << bit)),
            2 => byte.prop_map(Change::Insert),
            2 => (1..40_usize).prop_map(Change::Remove),
            1 => (1..80_usize).prop_map(Change::Double),
            1 => Just(Change::Cut),
        ];
        proptest::collection::vec((0.0..1.0, change), 0..4)
    }

    fn changed(mut body: Vec<u8>, changes: &[(f64, Change)]) -> Vec<u8> {
        for (share, change) in changes {
            let at = (share * body.len() as f64) as usize;
            match change {
                Change::Set(byte) => body[at..].iter_mut().take(1).for_each(|known| *known = *byte),
                Change::Flip(bit) => body[at..].iter_mut().take(1).for_each(|known| *known ^= bit),
                Change::Insert(byte) => body.insert(at, *byte),
                Change::Remove(count) => drop(body.drain(at..(at + count).min(body.len()))),
                Change::Double(count) => {
                    let again = body[at..(at + count).min(body.len())].to_vec();
                    drop(body.splice(at..at, again));
                }
                Change::Cut => body.truncate(at),
            }
        }
        body
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever becomes of a body on its way: what is taken is sound, and without a change it is what was sent.
        #[test]
        fn no_body_breaks_it(reports in reports(), changes in changes()) {
            let compact_body = changed(written(&reports), &changes);
            let json_body = changed(said(&reports).into_bytes(), &changes);
            for taken in [compact(&compact_body), json(&json_body, own(), NOON)] {
                match taken {
                    Ok(taken) if changes.is_empty() => prop_assert_eq!(taken, reports.clone()),
                    Ok(taken) => prop_assert!(is_valid(&taken), "{:?}", taken),
                    Err(unread) => prop_assert!(!changes.is_empty() && !unread.reason.is_empty(), "{:?}", unread),
                }
            }
        }

        /// Bytes of no meaning at all are read or refused, too.
        #[test]
        fn no_bytes_break_it(mut body in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
            if let (true, Some(first)) = (version, body.first_mut()) {
                *first = VERSION;
            }
            for taken in [compact(&body), json(&body, own(), NOON)].into_iter().flatten() {
                prop_assert!(is_valid(&taken), "{:?}", taken);
            }
        }
    }
}
