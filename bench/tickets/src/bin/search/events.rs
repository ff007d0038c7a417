//! A season of made-up events, the same from the same seed: some cities and performers are in far more events than
//! others, as they are in life.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tessera_kernel::{Place, Timestamp, Uuid};
use tessera_tickets::domain::ids::{EventId, PerformerId, VenueId};
use tessera_tickets::search::{Document, Performer, Venue};

/// The beginning of the season.
pub const NOW: &str = "2027-01-01T00:00:00Z";
/// Its length.
pub const DAYS: i64 = 540;
const MICROS_PER_DAY: i64 = 86_400_000_000;

const CITIES: usize = 400;
const VENUES: usize = 20_000;
const PERFORMERS: usize = 50_000;
const WORDS: usize = 30_000;

pub const KINDS: [(&str, u32); 6] =
    [("concert", 40), ("sport", 20), ("theatre", 18), ("comedy", 10), ("festival", 6), ("exhibition", 6)];
const FORMS: [&str; 12] = [
    "Live",
    "World Tour",
    "Live 2027",
    "Unplugged",
    "Summer Festival",
    "Gala",
    "In Concert",
    "Open Air",
    "Orchestra",
    "Premiere",
    "The Farewell",
    "Night",
];
const STYLES: [&str; 12] =
    ["Rock", "Jazz", "Fado", "Opera", "Indie", "Metal", "Techno", "Folk", "Soul", "Samba", "Ballet", "Blues"];
const KNOWN: [(&str, f64, f64, &str); 12] = [
    ("Lisboa", 38.72, -9.14, "Portugal"),
    ("London", 51.51, -0.13, "United Kingdom"),
    ("São Paulo", -23.55, -46.63, "Brasil"),
    ("Paris", 48.86, 2.35, "France"),
    ("Porto", 41.15, -8.61, "Portugal"),
    ("Madrid", 40.42, -3.7, "España"),
    ("Berlin", 52.52, 13.4, "Deutschland"),
    ("New York", 40.71, -74.01, "United States"),
    ("Köln", 50.94, 6.96, "Deutschland"),
    ("Barcelona", 41.39, 2.17, "España"),
    ("Łódź", 51.76, 19.46, "Polska"),
    ("Malmö", 55.6, 13.0, "Sverige"),
];

/// What events are made of.
pub struct Season {
    seed: u64,
    venues: Vec<Venue>,
    performers: Vec<Performer>,
    words: Vec<String>,
}

impl Season {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let words: Vec<String> = (0..WORDS).map(|_| word(&mut rng)).collect();
        let cities: Vec<(String, Place, &str)> = (0..CITIES)
            .map(|at| match KNOWN.get(at) {
                Some((name, lat, lng, country)) => (name.to_string(), place(*lat, *lng), *country),
                None => {
                    let (_, lat, lng, country) = KNOWN[at % KNOWN.len()];
                    let (lat, lng) = (lat + rng.random_range(-4.0..4.0), lng + rng.random_range(-4.0..4.0));
                    (capital(&word(&mut rng)), place(lat, lng), country)
                }
            })
            .collect();
        let venues = (0..VENUES)
            .map(|at| {
                let (city, middle, country) = &cities[skewed(&mut rng, CITIES)];
                let (lat, lng) = (rng.random_range(-0.12..0.12), rng.random_range(-0.12..0.12));
                let hall = ["Arena", "Teatro", "Hall", "Club", "Stadium"][at % 5];
                Venue {
                    id: VenueId::from(Uuid::from_u128(at as u128 + 1)),
                    name: format!("{hall} {}", capital(&words[skewed(&mut rng, WORDS)])),
                    city: city.clone(),
                    country: (*country).to_owned(),
                    place: Some(place(middle.lat() + lat, middle.lng() + lng)),
                    timezone: "Europe/Lisbon".to_owned(),
                }
            })
            .collect();
        let performers = (0..PERFORMERS)
            .map(|at| {
                let count = rng.random_range(1..=3);
                let name: Vec<String> = (0..count).map(|_| capital(&words[rng.random_range(0..WORDS)])).collect();
                Performer { id: PerformerId::from(Uuid::from_u128(at as u128 + 1)), name: name.join(" ") }
            })
            .collect();
        Self { seed, venues, performers, words }
    }

    /// Event number `at`.
    pub fn event(&self, at: u64) -> Document {
        let mut rng = StdRng::seed_from_u64(self.seed ^ (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = kind(&mut rng);
        let rank = skewed(&mut rng, PERFORMERS);
        let mut performers = vec![self.performers[rank].clone()];
        if kind == "sport" || rng.random_range(0..4) == 0 {
            performers.push(self.performers[skewed(&mut rng, PERFORMERS)].clone());
        }
        let form = FORMS[rng.random_range(0..FORMS.len())];
        let style = STYLES[rng.random_range(0..STYLES.len())];
        let name = match (kind, performers.as_slice()) {
            ("sport", [one, two]) => format!("{} – {}", one.name, two.name),
            ("theatre" | "exhibition", _) => {
                let word = |rng: &mut StdRng| capital(&self.words[skewed(rng, WORDS)]);
                format!("{} {} {}", word(&mut rng), word(&mut rng), form)
            }
            ("festival", _) => format!("{style} {form} {}", capital(&self.words[skewed(&mut rng, WORDS)])),
            _ => format!("{} – {form} {}", performers[0].name, if rng.random_range(0..3) == 0 { style } else { "" }),
        };
        let start: Timestamp = NOW.parse().unwrap_or_default();
        let day = rng.random_range(0..DAYS);
        let half_hours = rng.random_range(20..46);
        let price = rng.random_range(5..150) * 100;
        Document {
            id: EventId::from(Uuid::from_u128(u128::from(rng.random::<u32>()) << 96 | u128::from(at + 1) << 32)),
            name: name.trim().to_owned(),
            kind: kind.to_owned(),
            performers,
            venue: self.venues[rng.random_range(0..VENUES)].clone(),
            starts_at: Timestamp::from_micros(start.micros() + day * MICROS_PER_DAY + half_hours * 1_800_000_000),
            currency: "EUR".parse().unwrap_or_else(|_| unreachable!("three capitals")),
            price_from: Some(price),
            price_to: Some(price * 3),
            available: rng.random_range(0..10) != 0,
            popularity: (PERFORMERS as u64 / (rank as u64 + 1)).min(60_000) + rng.random_range(0..200),
        }
    }
}

fn kind(rng: &mut StdRng) -> &'static str {
    let mut at = rng.random_range(0..100);
    for (kind, share) in KINDS {
        if at < share {
            return kind;
        }
        at -= share;
    }
    KINDS[0].0
}

/// A number below `count`; small ones are more frequent: the share of the first tenth is about half.
fn skewed(rng: &mut StdRng, count: usize) -> usize {
    let even: f64 = rng.random_range(0.0..1.0);
    // Within the range by the power's.
    (even.powf(3.3) * count as f64) as usize
}

fn word(rng: &mut StdRng) -> String {
    const STARTS: [&str; 20] =
        ["b", "br", "c", "ch", "d", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v"];
    const MIDDLES: [&str; 12] = ["a", "e", "i", "o", "u", "á", "é", "ö", "ai", "ei", "ou", "ão"];
    const ENDS: [&str; 10] = ["", "n", "r", "s", "l", "m", "x", "nd", "rt", "ck"];
    let mut text = String::new();
    for _ in 0..rng.random_range(2..=4) {
        text.push_str(STARTS[rng.random_range(0..STARTS.len())]);
        text.push_str(MIDDLES[rng.random_range(0..MIDDLES.len())]);
    }
    text.push_str(ENDS[rng.random_range(0..ENDS.len())]);
    text
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn place(lat: f64, lng: f64) -> Place {
    Place::from_degrees(lat.clamp(-89.0, 89.0), lng.clamp(-179.0, 179.0))
        .unwrap_or_else(|_| unreachable!("within the bounds"))
}

/// A number source of its own for each use.
pub fn numbers(seed: u64) -> impl Rng {
    StdRng::seed_from_u64(seed)
}
