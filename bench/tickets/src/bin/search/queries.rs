//! The shapes of questions, each filled in from some event, so that it finds at least that one.

use rand::{Rng, RngExt};
use tessera_tickets::search::text::Folder;
use tessera_tickets::search::{Area, Availability, Counts, Document, Query, Sort};

use crate::events::{Season, numbers};

/// The mix that the figures are about.
pub const MIX: [Shape; 5] = [Shape::TermCityMonth, Shape::CityKindWeek, Shape::TwoTerms, Shape::GeoKind, Shape::Typo];
/// Others, so that none is a pit.
pub const OTHERS: [Shape; 9] = [
    Shape::Prefix,
    Shape::Letter,
    Shape::CommonTerm,
    Shape::CityByDate,
    Shape::GeoByDistance,
    Shape::Today,
    Shape::PerformerByDate,
    Shape::CheapInCity,
    Shape::Everything,
];

/// A shape of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    TermCityMonth,
    CityKindWeek,
    TwoTerms,
    GeoKind,
    Typo,
    Prefix,
    Letter,
    CommonTerm,
    CityByDate,
    GeoByDistance,
    Today,
    PerformerByDate,
    CheapInCity,
    Everything,
}

impl Shape {
    pub fn title(self) -> &'static str {
        match self {
            Self::TermCityMonth => "term + city + month",
            Self::CityKindWeek => "city + type + week, by date",
            Self::TwoTerms => "two terms, ranked",
            Self::GeoKind => "25 km + type",
            Self::Typo => "one-letter typo",
            Self::Prefix => "term and a begun word",
            Self::Letter => "one letter",
            Self::CommonTerm => "one frequent word",
            Self::CityByDate => "city, by date",
            Self::GeoByDistance => "25 km, by distance",
            Self::Today => "one day, everywhere",
            Self::PerformerByDate => "performer, by date",
            Self::CheapInCity => "city, available, by price",
            Self::Everything => "everything, by date",
        }
    }

    /// The same questions every time.
    pub fn questions(self, season: &Season, events: u64, count: usize, counts: Counts) -> Vec<Query> {
        let mut rng = numbers(self as u64 + 77);
        let mut folder = Folder::default();
        (0..count)
            .map(|_| {
                let event = season.event(rng.random_range(0..events));
                Query { limit: 20, counts, ..self.question(&event, &mut folder, &mut rng) }
            })
            .collect()
    }

    fn question(self, event: &Document, folder: &mut Folder, rng: &mut impl Rng) -> Query {
        let city = || Some(Area::City(event.venue.city.clone()));
        let circle = || {
            let middle = event.venue.place.map(Into::into)?;
            Some(Area::Circle { middle, radius_m: 25_000 })
        };
        let day = event.starts_at.to_utc().date_naive().to_epoch_days();
        let names = folder.words(&event.name);
        let name = |rng: &mut dyn Rng| names[rng.random_range(0..names.len())].clone();
        let any = Query::default();
        match self {
            Self::TermCityMonth => {
                Query { term: name(rng) + " ", area: city(), days: Some((day - day % 30, day - day % 30 + 29)), ..any }
            }
            Self::CityKindWeek => Query {
                area: city(),
                kinds: vec![event.kind.clone()],
                days: Some((day - day % 7, day - day % 7 + 6)),
                sort: Sort::Date,
                ..any
            },
            Self::TwoTerms => {
                let more = folder.words(&format!("{} {}", event.venue.name, event.venue.city));
                let more = &more[rng.random_range(0..more.len())];
                Query { term: format!("{} {more} ", name(rng)), ..any }
            }
            Self::GeoKind => Query { area: circle(), kinds: vec![event.kind.clone()], ..any },
            Self::Typo => {
                let words = folder.words(&event.performers[0].name);
                let word = words.into_iter().max_by_key(String::len).unwrap_or_default();
                Query { term: mistyped(&word, rng) + " ", ..any }
            }
            Self::Prefix => {
                let last = folder.words(&event.venue.city).pop().unwrap_or_default();
                let begun: String = last.chars().take(3).collect();
                Query { term: format!("{} {begun}", name(rng)), ..any }
            }
            Self::Letter => Query { term: name(rng).chars().take(1).collect(), ..any },
            Self::CommonTerm => {
                let words = ["live ", "tour ", "night ", "rock ", "festival ", "jazz "];
                Query { term: words[rng.random_range(0..words.len())].to_owned(), ..any }
            }
            Self::CityByDate => Query { area: city(), sort: Sort::Date, ..any },
            Self::GeoByDistance => Query { area: circle(), sort: Sort::Distance, ..any },
            Self::Today => Query { days: Some((day, day)), ..any },
            Self::PerformerByDate => {
                Query { performer: Some(event.performers[0].id.to_string()), sort: Sort::Date, ..any }
            }
            Self::CheapInCity => {
                Query { area: city(), availability: Availability::Available, sort: Sort::Price, ..any }
            }
            Self::Everything => Query { sort: Sort::Date, ..any },
        }
    }
}

/// One letter replaced, left out, doubled or swapped with the next, but for the first.
fn mistyped(word: &str, rng: &mut impl Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 4 {
        return word.to_owned();
    }
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..4) {
        0 => letters[at] = 'z',
        1 => drop(letters.remove(at)),
        2 => letters.insert(at, letters[at]),
        _ => letters.swap(at, at + 1),
    }
    letters.into_iter().collect()
}
