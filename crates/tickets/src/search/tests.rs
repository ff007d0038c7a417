//! The embedded engine against the words of its promise: relevance by example, filters, counts and pages against a
//! brute-force reading of random documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tessera_kernel::{FixedIds, Ids, Place, Timestamp, Uuid};

use super::*;

const NOW: &str = "2027-05-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn event_id(number: u128) -> EventId {
    EventId::from(Uuid::from_u128(number << 32))
}

fn document(number: u128, name: &str, performers: &[&str], city: &str) -> Document {
    let ids = FixedIds::default();
    Document {
        id: event_id(number),
        name: name.to_owned(),
        kind: "concert".to_owned(),
        performers: performers
            .iter()
            .map(|name| Performer { id: PerformerId::from(ids.next()), name: (*name).to_owned() })
            .collect(),
        venue: Venue {
            id: VenueId::from(Uuid::from_u128(1)),
            name: "Coliseu".to_owned(),
            city: city.to_owned(),
            country: "Portugal".to_owned(),
            place: None,
            timezone: "Europe/Lisbon".to_owned(),
        },
        starts_at: at("2027-06-01T20:00:00Z"),
        currency: "EUR".parse().unwrap(),
        price_from: Some(2_000),
        price_to: Some(9_000),
        available: true,
        popularity: 100,
    }
}

struct Rig {
    search: Tantivy,
    folder: TempDir,
}

async fn rig(documents: Vec<Document>) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let search = Tantivy::open(folder.path()).unwrap();
    search.write(documents.into_iter().map(|event| Change::Put(Box::new(event))).collect()).await.unwrap();
    search.commit(Position { seq: 1, rebuild: 0 }).await.unwrap();
    Rig { search, folder }
}

fn term(term: &str) -> Query {
    Query { term: term.to_owned(), limit: 20, ..Query::default() }
}

impl Rig {
    fn find(&self, query: &Query) -> Hits {
        self.search.find_here(query, at(NOW)).unwrap()
    }

    fn names(&self, query: &Query) -> Vec<String> {
        self.find(query).items.into_iter().map(|hit| hit.document.name).collect()
    }
}

fn season() -> Vec<Document> {
    let mut events = vec![
        document(1, "SL Benfica – FC Porto", &["Benfica", "Porto"], "Lisboa"),
        document(2, "SL Benfica – Vitória", &["Benfica", "Vitória SC"], "Lisboa"),
        document(3, "Rock em Benfica", &["Xutos & Pontapés"], "Porto"),
        document(4, "Café Tacvba", &["Café Tacvba"], "Ciudad de México"),
        document(5, "Guns N’ Roses", &["Guns N’ Roses"], "Lisboa"),
        document(6, "Noite de fado", &["Camané"], "Porto"),
        document(7, "Barcelona – Sevilla", &["FC Barcelona", "Sevilla FC"], "Barcelona"),
        document(8, "Barcelos Jazz", &["Trio"], "Barcelos"),
    ];
    events[1].popularity = 5_000;
    events
}

#[tokio::test]
async fn words_find_what_is_meant() {
    let rig = rig(season()).await;
    // Every word must be there; where it stands decides, popularity only among equals.
    assert_eq!(rig.names(&term("benfica porto")), ["SL Benfica – FC Porto", "Rock em Benfica"]);
    assert_eq!(
        rig.names(&term("benfica ")),
        ["SL Benfica – Vitória", "SL Benfica – FC Porto", "Rock em Benfica"],
        "the more popular of two that match as well"
    );
    // Accents, case and apostrophes do not matter, on either side.
    assert_eq!(rig.names(&term("CAFE tacvba")), ["Café Tacvba"]);
    assert_eq!(rig.names(&term("camáne")), ["Noite de fado"]);
    assert_eq!(rig.names(&term("guns n' roses")), ["Guns N’ Roses"]);
    // The last word may be unfinished, from the first letter on.
    assert_eq!(rig.names(&term("noite de f")), ["Noite de fado"]);
    assert_eq!(rig.names(&term("barcelo")), ["Barcelona – Sevilla", "Barcelos Jazz"]);
    assert_eq!(rig.names(&term("barc")), ["Barcelona – Sevilla", "Barcelos Jazz"]);
    assert_eq!(rig.names(&term("barc ")), Vec::<String>::new(), "the word was finished");
    // A kind and a city are words too.
    assert_eq!(rig.names(&term("concert ciudad")), ["Café Tacvba"]);
    assert_eq!(rig.names(&term("")).len(), 8);
    assert_eq!(rig.names(&term("…")).len(), 8);
}

#[tokio::test]
async fn one_wrong_letter_is_forgiven_where_little_is_found() {
    let rig = rig(season()).await;
    for typed in ["bnefica porto", "benfca porto", "bemfica porto", "benficaa porto", "benfica prto", "bemfica prto"] {
        let hits = rig.find(&term(typed));
        assert_eq!(hits.items[0].document.id, event_id(1), "{typed}");
        assert_eq!(hits.matched, Match::Typos, "{typed}");
    }
    // What is there as it was typed comes first.
    assert_eq!(rig.names(&term("barcelos "))[0], "Barcelos Jazz");
    // Begun and mistyped at once.
    assert_eq!(rig.names(&term("sevlla"))[0], "Barcelona – Sevilla");
    assert_eq!(rig.names(&term("brcelon"))[0], "Barcelona – Sevilla");
    // Two wrong letters are another word.
    assert_eq!(rig.names(&term("bemfika ")), Vec::<String>::new());
    // Where no event has all words, those with most come first.
    let hits = rig.find(&term("benfica against porto"));
    assert_eq!((hits.items[0].document.id, hits.matched), (event_id(1), Match::AnyWord));
}

#[tokio::test]
async fn changes_replace_and_removals_remove() {
    let rig = rig(season()).await;
    let generation = rig.search.generation();
    let mut changed = document(6, "Noite de jazz", &["Camané"], "Porto");
    changed.kind = "jazz".to_owned();
    rig.search.write(vec![Change::Put(Box::new(changed)), Change::Remove(event_id(5))]).await.unwrap();
    assert_eq!(rig.names(&term("fado")), ["Noite de fado"], "not visible before the commit");
    rig.search.commit(Position { seq: 2, rebuild: 0 }).await.unwrap();
    assert!(rig.search.generation() > generation);
    assert_eq!(rig.names(&term("guns ")), Vec::<String>::new());
    assert_eq!(rig.names(&term("jazz ")), ["Noite de jazz", "Barcelos Jazz"]);
    let hits = rig.find(&term(""));
    assert_eq!(hits.total, Some(7));
    assert_eq!(hits.facets.unwrap().kind, [("concert".to_owned(), 6), ("jazz".to_owned(), 1)]);
}

#[tokio::test]
async fn a_restart_keeps_the_position_and_a_broken_index_begins_anew() {
    let Rig { search, folder } = rig(season()).await;
    assert_eq!(search.position(), Some(Position { seq: 1, rebuild: 0 }));
    // What was not committed is not there after the crash.
    search.write(vec![Change::Remove(event_id(1))]).await.unwrap();
    let second = Tantivy::open(folder.path()).unwrap_err().to_string();
    assert!(second.contains("in use by another process"), "{second}");
    drop(search);
    let search = Tantivy::open(folder.path()).unwrap();
    assert_eq!((search.position(), search.events()), (Some(Position { seq: 1, rebuild: 0 }), 8));
    assert_eq!(search.find_here(&term("noite "), at(NOW)).unwrap().total, Some(1));
    drop(search);
    std::fs::write(folder.path().join("meta.json"), b"{").unwrap();
    let search = Tantivy::open(folder.path()).unwrap();
    assert_eq!((search.position(), search.events()), (None, 0));
}

#[tokio::test]
async fn a_rebuild_is_seen_at_once_or_not_at_all() {
    let rig = rig(season()).await;
    rig.search.clear().await.unwrap();
    rig.search.write(vec![Change::Put(Box::new(document(9, "Only this", &[], "Faro")))]).await.unwrap();
    assert_eq!(rig.search.events(), 8);
    rig.search.commit(Position { seq: 9, rebuild: 1 }).await.unwrap();
    rig.search.compact().await.unwrap();
    assert_eq!(rig.names(&term("")), ["Only this"]);
    assert_eq!(rig.search.position(), Some(Position { seq: 9, rebuild: 1 }));
}

#[tokio::test]
async fn days_are_those_of_the_venue() {
    let mut late = document(1, "Late", &[], "Lisboa");
    late.starts_at = at("2027-06-01T23:30:00Z");
    let mut far = document(2, "Far", &[], "Honolulu");
    far.starts_at = at("2027-06-02T06:00:00Z");
    far.venue.timezone = "Pacific/Honolulu".to_owned();
    let rig = rig(vec![late, far]).await;
    let day = |text: &str| at(text).to_utc().date_naive().to_epoch_days();
    let on = |text: &str| Query { days: Some((day(text), day(text))), sort: Sort::Date, ..term("") };
    assert_eq!(rig.names(&on("2027-06-01")), ["Far"], "20:00 on Hawaii");
    assert_eq!(rig.names(&on("2027-06-02")), ["Late"], "half past midnight in Lisbon");
    assert_eq!(rig.names(&on("2027-06-03")), Vec::<String>::new());
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused() {
    let rig = rig(season()).await;
    let next = rig.find(&Query { limit: 3, ..term("") }).next;
    let error = rig.search.find_here(&Query { sort: Sort::Date, after: next, ..term("") }, at(NOW)).unwrap_err();
    assert!(error.to_string().contains("relevance"), "{error}");
    let error = rig.search.find_here(&Query { sort: Sort::Distance, ..term("") }, at(NOW)).unwrap_err();
    assert!(error.to_string().contains("`lat`"), "{error}");
}

#[tokio::test]
async fn the_cheapest_of_a_city_are_found_however_it_is_written() {
    let written = ["São Paulo", "SAO PAULO", "Porto", "sao  paulo"];
    let dear = |number: u128| {
        let mut event = document(number, "Noite", &[], written[(number % 4) as usize]);
        // Several have one price, some none.
        event.price_from = (!number.is_multiple_of(7)).then_some(1_000 - (number as i64 / 3) * 10);
        event.available = !number.is_multiple_of(5);
        event
    };
    let rig = rig((1..=60).map(dear).collect()).await;
    let mut expected: Vec<(i64, EventId)> = (1..=60)
        .map(dear)
        .filter(|event| event.available && event.venue.city != "Porto")
        .map(|event| (event.price_from.unwrap_or(i64::MAX), event.id))
        .collect();
    expected.sort_unstable();
    let wish = Query {
        area: Some(Area::City("são paulo".to_owned())),
        availability: Availability::Available,
        sort: Sort::Price,
        limit: 4,
        counts: Counts::None,
        ..term("")
    };
    let (mut page, mut found) = (wish.clone(), Vec::new());
    loop {
        let hits = rig.find(&page);
        found.extend(hits.items.iter().map(|hit| hit.document.id));
        page.after = hits.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(found, expected.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    let cheap = Query { price_max: Some(expected[2].0), ..wish.clone() };
    let few = expected.iter().filter(|(price, _)| *price <= expected[2].0).count();
    assert_eq!(rig.find(&cheap).items.len(), few.min(4));
    assert_eq!(rig.find(&Query { area: Some(Area::City("Faro".to_owned())), ..wish }).items, []);
}

// The oracle.

const CITIES: [(&str, f64, f64, &str); 5] = [
    ("Lisboa", 38.72, -9.14, "Europe/Lisbon"),
    ("Porto", 41.15, -8.61, "Europe/Lisbon"),
    ("São Paulo", -23.55, -46.63, "America/Sao_Paulo"),
    ("Suva", -18.14, 178.44, "Pacific/Fiji"),
    ("Tromsø", 69.65, 18.96, "Europe/Oslo"),
];
const KINDS: [&str; 3] = ["concert", "sport", "theatre"];
const NAMES: [&str; 6] = ["alpha", "beta", "gamma", "delta", "epsilon", "alphabet"];
const CURRENCIES: [&str; 2] = ["EUR", "BRL"];

prop_compose! {
    fn any_document()(
        number in 1_u128..1_000_000,
        words in prop::collection::vec(0..NAMES.len(), 1..4),
        performer in prop::option::of(0..NAMES.len()),
        kind in 0..KINDS.len(),
        city in 0..CITIES.len(),
        venue in 0_u32..40,
        hour in 0_i64..60 * 24,
        prices in prop::option::of((0_i64..50, 0_i64..50)),
        currency in 0..CURRENCIES.len(),
        available in any::<bool>(),
        popularity in 0_u64..2_000,
    ) -> Document {
        let (city, lat, lng, timezone) = CITIES[city];
        let name = words.into_iter().map(|at| NAMES[at]).collect::<Vec<_>>().join(" ");
        let mut event = document(number, &name, &[], city);
        if let Some(at) = performer {
            let id = PerformerId::from(Uuid::from_u128(at as u128 + 1));
            event.performers = vec![Performer { id, name: NAMES[at].to_owned() }];
        }
        event.kind = KINDS[kind].to_owned();
        // A venue is in one place; one in eight has none.
        let step = f64::from(venue) / 100.0;
        let lng = (lng + step + 540.0).rem_euclid(360.0) - 180.0;
        event.venue.id = VenueId::from(Uuid::from_u128(u128::from(venue) + 1_000 * city.len() as u128));
        event.venue.place = (venue % 8 != 0).then(|| Place::from_degrees(lat + step, lng).unwrap());
        event.venue.timezone = timezone.to_owned();
        event.starts_at = Timestamp::from_micros(at(NOW).micros() + (hour - 240) * 3_600_000_000);
        event.price_from = prices.map(|(from, _)| from);
        event.price_to = prices.map(|(from, more)| from + more);
        event.currency = CURRENCIES[currency].parse().unwrap();
        event.available = available;
        event.popularity = popularity;
        event
    }
}

prop_compose! {
    fn any_query()(
        term in prop_oneof![
            Just(String::new()),
            (0..NAMES.len(), 1..6_usize, any::<bool>()).prop_map(|(at, letters, finished)| {
                format!("{}{}", &NAMES[at][..letters.min(NAMES[at].len())], if finished { " " } else { "" })
            }),
            (0..NAMES.len(), 0..NAMES.len()).prop_map(|(one, two)| format!("{} {} ", NAMES[one], NAMES[two])),
        ],
        area in prop_oneof![
            Just(None),
            (0..CITIES.len()).prop_map(|at| Some(Area::City(CITIES[at].0.to_uppercase()))),
            (0..CITIES.len(), 1_u32..60_000).prop_map(|(at, radius_m)| {
                let middle = Place::from_degrees(CITIES[at].1, CITIES[at].2).unwrap().into();
                Some(Area::Circle { middle, radius_m })
            }),
        ],
        kinds in prop::collection::vec(0..KINDS.len(), 0..3),
        days in prop::option::of((-10_i32..40, 0_i32..20)),
        from in prop::option::of(-200_i64..400),
        until in prop::option::of(0_i64..800),
        price in (prop::option::of(0_i64..60), prop::option::of(0_i64..60)),
        currency in prop::option::of(0..CURRENCIES.len()),
        performer in prop::option::of((0..NAMES.len(), any::<bool>())),
        available in any::<bool>(),
        sort in prop_oneof![Just(Sort::Relevance), Just(Sort::Date), Just(Sort::Price), Just(Sort::Distance)],
        limit in 1_usize..20,
        counted in any::<bool>(),
    ) -> Query {
        let hours = |hours: i64| Timestamp::from_micros(at(NOW).micros() + hours * 3_600_000_000);
        let today = at(NOW).to_utc().date_naive().to_epoch_days();
        let near = Some(Place::from_degrees(40.0, -9.0).unwrap().into());
        Query {
            term,
            area,
            kinds: kinds.into_iter().map(|at| KINDS[at].to_owned()).collect(),
            days: days.map(|(first, more)| (today + first, today + first + more)),
            from: from.map(hours),
            until: until.map(hours),
            price_min: price.0,
            price_max: price.1,
            currency: currency.map(|at| CURRENCIES[at].parse().unwrap()),
            performer: performer.map(|(at, by_id)| match by_id {
                true => PerformerId::from(Uuid::from_u128(at as u128 + 1)).to_string(),
                false => NAMES[at].to_uppercase(),
            }),
            availability: if available { Availability::Available } else { Availability::Any },
            sort,
            near,
            limit,
            after: None,
            counts: if counted { Counts::All } else { Counts::None },
        }
    }
}

fn local_day(event: &Document) -> i32 {
    let zone: chrono_tz::Tz = event.venue.timezone.parse().unwrap();
    event.starts_at.to_utc().with_timezone(&zone).date_naive().to_epoch_days()
}

fn has_words(event: &Document, term: &str) -> bool {
    let mut folder = text::Folder::default();
    let mut all =
        format!("{} {} {} {} {}", event.name, event.venue.name, event.venue.city, event.venue.country, event.kind);
    for performer in &event.performers {
        all.push(' ');
        all.push_str(&performer.name);
    }
    let words = folder.words(&all);
    let asked = folder.words(term);
    asked.iter().enumerate().all(|(at, word)| {
        let unfinished = at + 1 == asked.len() && !term.ends_with(' ');
        words.iter().any(|has| has == word || (unfinished && has.starts_with(word.as_str())))
    })
}

fn meets(event: &Document, query: &Query) -> bool {
    let mut folder = text::Folder::default();
    let upcoming = query.from.is_some() || query.days.is_some() || event.starts_at >= at(NOW);
    let in_area = match &query.area {
        None => true,
        Some(Area::City(city)) => folder.key(city) == folder.key(&event.venue.city),
        Some(Area::Circle { middle, radius_m }) => {
            event.venue.place.is_some_and(|place| place.distance_m(middle.place().unwrap()) <= f64::from(*radius_m))
        }
    };
    let of_performer = query.performer.as_ref().is_none_or(|asked| {
        event.performers.iter().any(|one| one.id.to_string() == *asked || folder.key(&one.name) == folder.key(asked))
    });
    upcoming
        && in_area
        && of_performer
        && has_words(event, &query.term)
        && (query.kinds.is_empty() || query.kinds.contains(&event.kind))
        && query.days.is_none_or(|(first, last)| (first..=last).contains(&local_day(event)))
        && query.from.is_none_or(|from| event.starts_at >= from)
        && query.until.is_none_or(|until| event.starts_at < until)
        && query.price_min.is_none_or(|least| event.price_to.is_some_and(|price| price >= least))
        && query.price_max.is_none_or(|most| event.price_from.is_some_and(|price| price <= most))
        && query.currency.is_none_or(|currency| event.currency == currency)
        && (query.availability == Availability::Any || event.available)
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Over several commits with changes and removals, every query gives what a reading of all documents gives: the same
    /// events, each once, in order, over all pages, and the same counts.
    #[test]
    fn answers_are_those_of_a_brute_force_reading(
        batches in prop::collection::vec(prop::collection::vec((any_document(), prop::bool::weighted(0.15)), 1..60), 1..5),
        queries in prop::collection::vec(any_query(), 40),
        compacted in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let search = Tantivy::open(folder.path()).unwrap();
        let mut kept: BTreeMap<EventId, Document> = BTreeMap::new();
        for (seq, batch) in (1..).zip(batches) {
            let mut changes = Vec::new();
            for (event, removed) in batch {
                // Some removals are of what is there.
                let id = match kept.keys().next() { Some(first) if removed => *first, _ => event.id };
                if removed {
                    kept.remove(&id);
                    changes.push(Change::Remove(id));
                } else {
                    kept.insert(event.id, event.clone());
                    changes.push(Change::Put(Box::new(event)));
                }
            }
            runtime.block_on(search.write(changes)).unwrap();
            runtime.block_on(search.commit(Position { seq, rebuild: 0 })).unwrap();
        }
        if compacted {
            runtime.block_on(search.compact()).unwrap();
        }
        for query in queries {
            let expected: Vec<&Document> = kept.values().filter(|event| meets(event, &query)).collect();
            let mut page = Query { ..query.clone() };
            let mut found: Vec<Document> = Vec::new();
            for number in 0.. {
                let hits = search.find_here(&page, at(NOW)).unwrap();
                prop_assert!(hits.items.len() <= query.limit);
                if hits.matched != Match::Exact {
                    // Fewer than a handful match as typed: what is forgiven is tested by example.
                    prop_assert!(expected.len() < 3, "{query:?}");
                    found.clear();
                    break;
                }
                if number == 0 && query.counts == Counts::All {
                    let facets = hits.facets.unwrap();
                    prop_assert_eq!(hits.total, Some(expected.len() as u64));
                    let kinds = counted(expected.iter().map(|event| event.kind.clone()));
                    prop_assert_eq!(facets.kind.into_iter().collect::<BTreeMap<_, _>>(), kinds);
                    let cities = counted(expected.iter().map(|event| event.venue.city.clone()));
                    prop_assert_eq!(facets.city.into_iter().collect::<BTreeMap<_, _>>(), cities);
                    prop_assert_eq!(facets.month.iter().map(|(_, count)| count).sum::<u64>(), expected.len() as u64);
                }
                found.extend(hits.items.into_iter().map(|hit| hit.document));
                page.after = hits.next;
                if page.after.is_none() {
                    let mut ids: Vec<EventId> = found.iter().map(|event| event.id).collect();
                    ids.sort_unstable();
                    let expected: Vec<EventId> = expected.iter().map(|event| event.id).collect();
                    prop_assert_eq!(&ids, &expected, "{:?}", &query);
                    break;
                }
            }
            let in_order = |one: &Document, two: &Document| match query.sort {
                Sort::Date => (one.starts_at, one.id) < (two.starts_at, two.id),
                Sort::Price => {
                    let price = |event: &Document| event.price_from.unwrap_or(i64::MAX);
                    (price(one), one.id) < (price(two), two.id)
                }
                Sort::Distance => {
                    let middle = query.middle().unwrap();
                    let metres = |event: &Document| event.venue.place.map_or(f64::MAX, |place| place.distance_m(middle).ceil());
                    metres(one) <= metres(two)
                }
                Sort::Relevance => true,
            };
            prop_assert!(found.windows(2).all(|pair| in_order(&pair[0], &pair[1])), "{query:?}");
            prop_assert!(found.iter().all(|event| kept.get(&event.id) == Some(event)));
        }
    }
}

#[tokio::test]
async fn many_ask_while_it_changes() {
    let rig = rig(season()).await;
    let search: Arc<dyn Search> = Arc::new(rig.search.clone());
    for round in 0_i64..20 {
        let finds = (0..8).map(|_| search.find(Arc::new(term("benfica")), at(NOW)));
        let change = document(6, &format!("Noite {round}"), &[], "Porto");
        let (found, written) =
            futures::future::join(futures::future::join_all(finds), search.write(vec![Change::Put(Box::new(change))]))
                .await;
        written.unwrap();
        assert!(found.into_iter().all(|hits| hits.unwrap().total == Some(3)));
        search.commit(Position { seq: round + 2, rebuild: 0 }).await.unwrap();
        assert_eq!(rig.names(&term("noite ")), [format!("Noite {round}")]);
    }
}
