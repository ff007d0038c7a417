//! A season of events for a demo: real fixtures moved to days to come, with venues, seats and prices that are made up and
//! say so.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::Deserialize;
use tessera_kernel::Timestamp;

/// Fixtures, some rounds of each competition. See the notice in it.
const FIXTURES: &str = include_str!("../../data/season.json");

/// As in the file.
#[derive(Clone, Debug, Deserialize)]
pub struct Fixtures {
    /// Where they come from, and under which licence.
    pub notice: String,
    /// Each club with its city, country, latitude, longitude and time zone.
    pub clubs: std::collections::BTreeMap<String, (String, String, f64, f64, Zone)>,
    /// The competitions.
    pub competitions: Vec<Competition>,
}

/// A time zone by its IANA name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(pub Tz);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(Self).map_err(|error| format!("zone `{name}`: {error}"))
    }
}

/// A competition.
#[derive(Clone, Debug, Deserialize)]
pub struct Competition {
    /// Its name.
    pub name: String,
    /// The season that the fixtures were of.
    pub season: String,
    /// In which zone its times are.
    pub zone: Zone,
    /// Of its prices here.
    pub currency: String,
    /// Days from a Monday, local time, home, away, round.
    pub matches: Vec<(u32, String, String, String, String)>,
}

/// A venue of the season.
#[derive(Clone, Debug, PartialEq)]
pub struct Venue {
    /// Its name.
    pub name: String,
    /// Its city.
    pub city: String,
    /// Its country.
    pub country: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lng: f64,
    /// Its time zone.
    pub zone: Tz,
    /// Its seats.
    pub seats: u32,
    /// What sort of house it is, in the words of the generator of seat plans.
    pub kind: &'static str,
}

/// An event of the season.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its title.
    pub name: String,
    /// `sport`, `concert` or `theatre`.
    pub kind: &'static str,
    /// Index into the venues.
    pub venue: usize,
    /// Indexes into the performers.
    pub performers: Vec<usize>,
    /// When it begins.
    pub starts_at: Timestamp,
    /// Of its prices.
    pub currency: String,
    /// For people; says what of it is made up.
    pub description: String,
    /// Places without numbers.
    pub standing: u32,
    /// Prices against the usual, hundredths.
    pub price_hundredths: i64,
    /// How it is sold.
    pub sale: Sale,
}

/// How an event is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sale {
    /// To everyone, at once.
    Open,
    /// Through a waiting room whose doors open so long after the season was made.
    Room {
        /// Minutes.
        opens_in_min: u32,
    },
}

/// A season.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Season {
    /// The venues.
    pub venues: Vec<Venue>,
    /// Who plays.
    pub performers: Vec<String>,
    /// The events, the one that everybody wants first.
    pub events: Vec<Event>,
}

/// Seats of the largest venue.
pub const LARGEST: u32 = 50_000;
/// The competition whose clubs draw the most people.
const CUP: &str = "Champions League";
const LAST_ROUNDS: [&str; 2] = ["Semifinals", "Final"];
/// Seats of the others, by turns.
const SIZES: [u32; 3] = [6_000, 9_000, 12_000];
/// Weeks between today and the first matches, by competition in turn, so that there is something in each week.
const WEEKS: [u64; 4] = [1, 2, 3, 1];

/// A hall: name, city, country, place, zone, seats, sort of house.
type Hall = (&'static str, &'static str, &'static str, f64, f64, Tz, u32, &'static str);
const HALLS: [Hall; 5] = [
    ("The Glasshouse", "Lisboa", "Portugal", 38.72, -9.14, Tz::Europe__Lisbon, 900, "arena"),
    ("Kesselhaus am Kanal", "Berlin", "Germany", 52.52, 13.40, Tz::Europe__Berlin, 1_600, "arena"),
    ("Teatro das Marés", "Porto", "Portugal", 41.15, -8.61, Tz::Europe__Lisbon, 420, "theatre"),
    ("Harbour Playhouse", "Liverpool", "England", 53.41, -2.98, Tz::Europe__London, 620, "theatre"),
    ("Salle des Lampions", "Lyon", "France", 45.76, 4.84, Tz::Europe__Paris, 1_200, "theatre"),
];
/// A show: title, kind, who plays, hall, days from today, local hour, places without numbers, currency.
type Show = (&'static str, &'static str, &'static str, usize, u64, u32, u32, &'static str);
const SHOWS: [Show; 10] = [
    ("Slow Weather, live", "concert", "Slow Weather", 1, 5, 20, 800, "EUR"),
    ("An evening with Inês Calado", "concert", "Inês Calado", 0, 8, 21, 0, "EUR"),
    ("The Paper Lanterns", "concert", "The Paper Lanterns", 4, 12, 20, 600, "EUR"),
    ("Brassworks on tour", "concert", "Brassworks", 1, 19, 20, 800, "EUR"),
    ("Night Ferry", "concert", "Night Ferry", 0, 26, 21, 300, "EUR"),
    ("The Lighthouse Keeper's Daughter", "theatre", "Harbour Company", 3, 4, 19, 0, "GBP"),
    ("The Lighthouse Keeper's Daughter", "theatre", "Harbour Company", 3, 11, 19, 0, "GBP"),
    ("A Comedy of Timetables", "theatre", "Companhia da Ribeira", 2, 6, 21, 0, "EUR"),
    ("A Comedy of Timetables", "theatre", "Companhia da Ribeira", 2, 13, 21, 0, "EUR"),
    ("Seven Doors", "theatre", "Les Lampions", 4, 16, 20, 0, "EUR"),
];

impl Fixtures {
    /// Those that are built in.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn built_in() -> Result<Self, String> {
        serde_json::from_str(FIXTURES).map_err(|error| format!("the fixtures that are built in: {error}"))
    }

    /// Whether a club is at home in the last rounds of the cup.
    fn draws_crowds(&self, club: &str) -> bool {
        let cup = self.competitions.iter().filter(|competition| competition.name == CUP);
        cup.flat_map(|cup| &cup.matches)
            .any(|(_, _, home, _, round)| home == club && LAST_ROUNDS.contains(&round.as_str()))
    }
}

impl Season {
    /// The season as it is made at this moment: all of it is to come. The same moment gives the same season.
    ///
    /// # Errors
    /// What is wrong with the fixtures.
    pub fn at(now: Timestamp, fixtures: &Fixtures) -> Result<Self, String> {
        let mut season = Self::default();
        let today = now.to_utc().date_naive();
        for (at, competition) in fixtures.competitions.iter().enumerate() {
            let monday = today.week(Weekday::Mon).first_day() + Days::new(7 * WEEKS[at % WEEKS.len()]);
            for row in &competition.matches {
                season.add_match(fixtures, competition, monday, row)?;
            }
        }
        for show in &SHOWS {
            season.add_show(show, today)?;
        }
        // The first two in time of the largest venues: one is on sale, one opens while the visitor looks on.
        season.events.sort_by_key(|event| event.starts_at);
        let is_large = |event: &Event| event.kind == "sport" && event.price_hundredths > 100;
        let mut large: Vec<usize> = (0..season.events.len()).filter(|at| is_large(&season.events[*at])).collect();
        large.truncate(2);
        if let [first, second] = large[..] {
            let sale = Sale::Room { opens_in_min: 10 };
            season.events[second].sale = sale;
            season.events[second].description.push_str(" It is sold through a waiting room.");
            season.events.swap(0, first);
            season.events.swap(1, if second == 0 { first } else { second });
        }
        Ok(season)
    }

    fn add_match(
        &mut self,
        fixtures: &Fixtures,
        competition: &Competition,
        monday: NaiveDate,
        (days, time, home, away, round): &(u32, String, String, String, String),
    ) -> Result<(), String> {
        let club = fixtures.clubs.get(home).ok_or_else(|| format!("club `{home}` has no city"))?;
        let (city, country, lat, lng, Zone(zone)) = club.clone();
        let name = format!("{home} Ground");
        let at = self.venues.iter().position(|venue| venue.name == name).unwrap_or_else(|| {
            let seats = if fixtures.draws_crowds(home) { LARGEST } else { SIZES[self.venues.len() % SIZES.len()] };
            self.venues.push(Venue { name, city, country, lat, lng, zone, seats, kind: "stadium" });
            self.venues.len() - 1
        });
        let time: NaiveTime = time.parse().map_err(|error| format!("time `{time}` of {home}: {error}"))?;
        let performers = [home, away].map(|club| self.performer(club)).to_vec();
        let seats = self.venues[at].seats;
        self.events.push(Event {
            name: format!("{home} – {away}"),
            kind: "sport",
            venue: at,
            performers,
            starts_at: moment(monday + Days::new(u64::from(*days)), time, competition.zone.0),
            currency: competition.currency.clone(),
            description: format!(
                "{}, {round}. A real fixture of the season {} (openfootball, CC0) on another day. The ground, its {} \
                 seats and the prices are made up for this demo.",
                competition.name,
                competition.season,
                grouped(seats),
            ),
            standing: 0,
            price_hundredths: if seats == LARGEST { 150 } else { 80 },
            sale: Sale::Open,
        });
        Ok(())
    }

    fn add_show(&mut self, show: &Show, today: NaiveDate) -> Result<(), String> {
        let (title, kind, performer, hall, days, hour, standing, currency) = *show;
        let (name, city, country, lat, lng, zone, seats, house) = HALLS[hall];
        let at = self.venues.iter().position(|venue| venue.name == name).unwrap_or_else(|| {
            let (name, city, country) = (name.to_owned(), city.to_owned(), country.to_owned());
            self.venues.push(Venue { name, city, country, lat, lng, zone, seats, kind: house });
            self.venues.len() - 1
        });
        let time = NaiveTime::from_hms_opt(hour, 0, 0).ok_or_else(|| format!("hour {hour} of {title}"))?;
        let performers = vec![self.performer(performer)];
        self.events.push(Event {
            name: title.to_owned(),
            kind,
            venue: at,
            performers,
            starts_at: moment(today + Days::new(days), time, zone),
            currency: currency.to_owned(),
            description: "Made up for this demo: the show, who plays, the house, its seats and the prices.".into(),
            standing,
            price_hundredths: if kind == "theatre" { 70 } else { 60 },
            sale: Sale::Open,
        });
        Ok(())
    }

    fn performer(&mut self, name: &str) -> usize {
        self.performers.iter().position(|known| known == name).unwrap_or_else(|| {
            self.performers.push(name.to_owned());
            self.performers.len() - 1
        })
    }
}

/// `50,000`.
pub fn grouped(count: u32) -> String {
    match (count / 1_000, count % 1_000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{},{rest:03}", grouped(thousands)),
    }
}

/// A local time as a moment; an hour that the clocks leave out is an hour later.
fn moment(day: NaiveDate, time: NaiveTime, zone: Tz) -> Timestamp {
    let local = day.and_time(time);
    let at: Option<DateTime<Tz>> = zone.from_local_datetime(&local).earliest();
    let later = || zone.from_local_datetime(&(local + chrono::TimeDelta::hours(1))).earliest();
    at.or_else(later).map_or_else(
        || Timestamp::from_utc(Utc.from_utc_datetime(&local)),
        |at| Timestamp::from_utc(at.with_timezone(&Utc)),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_season_is_all_to_come_and_says_what_is_made_up() {
        let fixtures = Fixtures::built_in().unwrap();
        assert!(fixtures.notice.contains("CC0"));
        for today in ["2026-11-21T08:00:00Z", "2027-03-28T00:30:00Z", "2028-02-29T23:59:59Z"] {
            let now: Timestamp = today.parse().unwrap();
            let season = Season::at(now, &fixtures).unwrap();
            assert_eq!(season, Season::at(now, &fixtures).unwrap());
            assert!(season.events.len() > 200, "{}", season.events.len());
            for event in &season.events {
                assert!(event.starts_at > now.plus(Duration::from_secs(86_400)), "{event:?}");
                assert!(event.starts_at < now.plus(Duration::from_secs(140 * 86_400)), "{event:?}");
                assert!(event.description.to_lowercase().contains("made up"), "{event:?}");
                assert!(event.venue < season.venues.len() && !event.performers.is_empty());
            }
            let [first, second] = [&season.events[0], &season.events[1]];
            assert_eq!((first.sale, season.venues[first.venue].seats), (Sale::Open, LARGEST));
            assert!(matches!(second.sale, Sale::Room { .. }) && season.venues[second.venue].seats == LARGEST);
            assert_eq!(season.events.iter().filter(|event| event.sale != Sale::Open).count(), 1);
            let venues: HashSet<&str> = season.venues.iter().map(|venue| venue.name.as_str()).collect();
            assert_eq!(venues.len(), season.venues.len());
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7, 999, 1_000, 50_000, 1_234_056].map(grouped), ["7", "999", "1,000", "50,000", "1,234,056"]);
    }

    #[test]
    fn days_of_the_week_and_local_times_stay() {
        let fixtures = Fixtures::built_in().unwrap();
        let season = Season::at("2027-03-01".parse().unwrap(), &fixtures).unwrap();
        // A Saturday at 12:30 in Newcastle; by then there is no summer time yet.
        let event = season.events.iter().find(|event| event.name == "Newcastle United FC – Arsenal FC").unwrap();
        assert_eq!(event.starts_at.to_string(), "2027-03-13T12:30:00Z");
    }
}
