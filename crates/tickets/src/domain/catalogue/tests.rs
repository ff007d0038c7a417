//! What organisers may write, and what a published event still allows.

use tessera_kernel::Uuid;

use super::*;

fn input() -> EventInput {
    let level = |key: &str, price| PriceLevel {
        key: key.into(),
        name: key.to_uppercase(),
        price,
        color: "#aa0000".into(),
        categories: Vec::new(),
    };
    EventInput {
        name: " Nordlicht ".into(),
        kind: "Concert".into(),
        venue: Uuid::from_u128(1).into(),
        plan: None,
        seated: true,
        performers: Vec::new(),
        starts_at: "2026-06-01T20:00:00Z".parse().unwrap(),
        currency: "EUR".parse().unwrap(),
        description: String::new(),
        doors_at: None,
        ends_at: None,
        on_sale_at: None,
        off_sale_at: None,
        price_levels: vec![level("floor", 4_500)],
        areas: vec![AreaInput {
            key: "standing".into(),
            name: "Standing".into(),
            capacity: 100,
            price_level: "floor".into(),
        }],
        blocked: None,
        rules: Rules::default(),
        queue: Queue::default(),
    }
}

fn published() -> Event {
    input().draft(Uuid::from_u128(1 << 64).into(), "ona".into(), None).unwrap().publish(None).unwrap()
}

#[test]
fn a_draft_is_tidied_and_published_once() {
    let draft = input().draft(Uuid::from_u128(1 << 64).into(), "ona".into(), None).unwrap();
    assert_eq!((&*draft.name, &*draft.kind, draft.status), ("Nordlicht", "concert", Status::Draft));
    let event = draft.publish(None).unwrap();
    assert_eq!((event.status, event.version, &*event.details.areas[0].blocks), (Status::Published, 2, &[(0, 100)][..]));
    assert!(event.publish(None).unwrap_err().to_string().contains("already"));
    let cancelled = event.cancel().unwrap();
    assert!(cancelled.publish(None).is_err() && cancelled.cancel().is_err());
    assert!(input().change(&cancelled, None, |_| false).is_err());
}

#[test]
fn a_published_event_keeps_its_numbers() {
    let event = published();
    let change = |edit: fn(&mut EventInput)| {
        let mut input = input();
        edit(&mut input);
        input.change(&event, None, |seat| seat.0 < 10)
    };
    let changed = change(|input| input.name = "Südlicht".into()).unwrap();
    assert_eq!((&*changed.name, changed.version, &changed.details.areas), ("Südlicht", 3, &event.details.areas));
    assert_eq!(change(|input| input.areas[0].capacity = 120).unwrap().details.areas[0].blocks, [(0, 120)]);
    assert_eq!(change(|input| input.areas[0].capacity = 10).unwrap().details.areas[0].closed, [(10, 90)]);
    let refused = |edit: fn(&mut EventInput)| change(edit).unwrap_err().to_string();
    assert!(refused(|input| input.areas[0].capacity = 9).contains("10 places are taken"));
    assert!(refused(|input| input.areas.clear()).contains("area `standing` cannot go"));
    assert!(refused(|input| input.currency = "USD".parse().unwrap()).contains("stays EUR"));
    assert!(refused(|input| input.plan = Some(Uuid::from_u128(7).into())).contains("seat plan stays"));
}

#[test]
fn seats_are_blocked_and_sold_again() {
    let seats = |numbers: &[u32]| numbers.iter().copied().map(SeatNumber).collect::<Vec<_>>();
    let event = published().with_blocked(&seats(&[3, 4, 5, 9]), &[], None).unwrap();
    assert_eq!(event.details.blocked, [(3, 3), (9, 1)]);
    let event = event.with_blocked(&[], &seats(&[4]), None).unwrap();
    assert_eq!(event.details.blocked, [(3, 1), (5, 1), (9, 1)]);
    assert!(event.with_blocked(&seats(&[100]), &[], None).is_err());
    let kept = input().change(&event, None, |_| false).unwrap();
    assert_eq!(kept.details.blocked, event.details.blocked);
}

#[test]
fn what_does_not_hold_together_is_named() {
    let refused = |edit: fn(&mut EventInput)| {
        let mut input = input();
        edit(&mut input);
        input.draft(Uuid::from_u128(1 << 64).into(), "ona".into(), None).unwrap_err().to_string()
    };
    assert!(refused(|input| input.name = "  ".into()).contains("`name` is empty"));
    assert!(refused(|input| input.name = "a\u{0}b".into()).contains("control character 0x0"));
    assert!(refused(|input| input.description = "x".repeat(20_001)).contains("20001 characters"));
    assert!(refused(|input| input.price_levels.clear()).contains("`price_levels` has 0"));
    assert!(refused(|input| input.price_levels[0].price = -1).contains("price -1"));
    assert!(refused(|input| input.price_levels[0].color = "red".into()).contains("color `red`"));
    assert!(refused(|input| input.price_levels[0].key = "a b".into()).contains("key"));
    assert!(refused(|input| input.price_levels.push(input.price_levels[0].clone())).contains("twice"));
    assert!(refused(|input| input.areas[0].price_level = "gold".into()).contains("`gold`"));
    assert!(refused(|input| input.areas[0].capacity = u32::MAX).contains("250000"));
    assert!(refused(|input| input.areas.push(input.areas[0].clone())).contains("twice"));
    assert!(refused(|input| input.rules.hold_ttl_s = 5).contains("hold_ttl_s"));
    assert!(refused(|input| input.rules.max_per_customer = 0).contains("max_per_customer"));
    assert!(refused(|input| input.queue.max_inside = 0).contains("max_inside"));
    assert!(refused(|input| input.doors_at = Some("2026-06-02".parse().unwrap())).contains("doors"));
    assert!(refused(|input| input.ends_at = Some("2026-05-02".parse().unwrap())).contains("ends_at"));
    assert!(refused(|input| input.on_sale_at = Some("2026-06-02".parse().unwrap())).contains("on_sale_at"));
    assert!(refused(|input| input.blocked = Some(vec![(99, 2)])).contains("blocked seats 99"));
}

#[test]
fn venues_have_a_place_and_a_time_zone_or_neither() {
    let venue = |edit: fn(&mut VenueInput)| {
        let mut input =
            VenueInput { name: "Halle".into(), city: "Köln".into(), country: "DE".into(), ..VenueInput::default() };
        edit(&mut input);
        input.venue(Uuid::nil().into(), "ona".into(), 1)
    };
    assert_eq!(venue(|_| {}).unwrap().timezone, "UTC");
    assert!(venue(|input| input.lat = Some(50.9)).unwrap_err().to_string().contains("go together"));
    assert!(venue(|input| (input.lat, input.lng) = (Some(91.0), Some(7.0))).unwrap_err().to_string().contains("91"));
    assert!(venue(|input| input.timezone = Some("Mars".into())).unwrap_err().to_string().contains("`Mars`"));
}
