//! What a fan will do, drawn from the seed before the fan sets out. Nothing here depends on what the server answers.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

/// Cards that a fan has at hand.
pub const CARDS: usize = 3;
/// The most tickets that a fan wants.
pub const MAX_QUANTITY: u32 = 6;

/// How a fan chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Seats picked on the map.
    Named,
    /// The best there are.
    Best,
    /// Places without numbers.
    Standing,
}

/// What a fan does with a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Pays.
    Pays,
    /// Thinks better of it and gives the seats back.
    Releases,
    /// Walks away; the hold lapses by itself.
    WalksAway,
}

/// A card of the test provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Card {
    /// Is charged.
    Good,
    /// Is declined, with or without a reason.
    Declined,
    /// Has no money.
    Empty,
    /// Wants the buyer to agree on another page.
    SecondStep,
    /// Answers after two seconds.
    Slow,
    /// Does not answer, yet is charged.
    SilentCharged,
    /// Does not answer, and is not charged.
    SilentNotCharged,
    /// Its capture is not answered.
    SilentCapture,
}

impl Card {
    /// Its number at the test provider.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Good => "4242424242424242",
            Self::Declined => "4000000000000002",
            Self::Empty => "4000000000009995",
            Self::SecondStep => "4000002760003184",
            Self::Slow => "4000000000010001",
            Self::SilentCharged => "4000000000010027",
            Self::SilentNotCharged => "4000000000010035",
            Self::SilentCapture => "4000000000010068",
        }
    }
}

/// What there is to decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether there are numbered seats.
    pub has_seats: bool,
    /// Whether there is general admission.
    pub has_standing: bool,
    /// About how long a fan looks at a page before the next step.
    pub hesitates: Duration,
    /// Whether cards may be drawn that keep one waiting for many seconds.
    pub patient_cards: bool,
}

/// A fan's decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fan {
    /// Which one, from 0; the order of arrival.
    pub index: u64,
    /// How seats are chosen.
    pub wish: Wish,
    /// How many.
    pub quantity: u32,
    /// Where, in thousandths from the front of the map to its back; most want to be at the front.
    pub place: u32,
    /// How long the map is looked at.
    pub looks: Duration,
    /// How long lies between hold and payment.
    pub hesitates: Duration,
    /// What becomes of a hold.
    pub end: End,
    /// The cards, in the order in which they are tried.
    pub cards: [Card; CARDS],
    /// How often seats are tried for.
    pub patience: u32,
    /// Whether each request is sent twice, as of two taps on a button.
    pub double_taps: bool,
    /// Whether the second step is agreed to.
    pub agrees: bool,
}

impl Fan {
    /// The fan with this number.
    pub fn draw(seed: u64, index: u64, manner: &Manner) -> Self {
        let mut rng = rng(seed, index);
        let wish = match rng.random_range(0..100_u32) {
            0..55 if manner.has_seats => Wish::Named,
            55..85 if manner.has_seats => Wish::Best,
            _ if manner.has_standing => Wish::Standing,
            _ => Wish::Best,
        };
        let quantity = match rng.random_range(0..100_u32) {
            0..22 => 1,
            22..72 => 2,
            72..82 => 3,
            82..95 => 4,
            _ => rng.random_range(5..=MAX_QUANTITY),
        };
        let front: f64 = rng.random_range(0.0..1.0);
        let end = match rng.random_range(0..100_u32) {
            0..82 => End::Pays,
            82..92 => End::Releases,
            _ => End::WalksAway,
        };
        let cards = std::array::from_fn(|at| draw_card(&mut rng, at, manner.patient_cards));
        let mut pause = || manner.hesitates.mul_f64(rng.random_range(0.2..1.8));
        let (looks, hesitates) = (pause(), pause());
        Self {
            index,
            wish,
            quantity,
            place: (front * front * 1000.0) as u32,
            looks,
            hesitates,
            end,
            cards,
            patience: rng.random_range(2..=6),
            double_taps: rng.random_range(0..100_u32) < 5,
            agrees: rng.random_range(0..100_u32) < 80,
        }
    }
}

/// The first card is mostly good; who has to look for another finds a better one.
fn draw_card(rng: &mut StdRng, at: usize, patient_cards: bool) -> Card {
    let limit = if at == 0 { 1000 } else { 3000 };
    match rng.random_range(0..limit) {
        0..50_u32 => Card::Declined,
        50..80 => Card::Empty,
        80..110 => Card::SecondStep,
        110..125 => Card::Slow,
        125..128 if patient_cards => Card::SilentCharged,
        128..131 if patient_cards => Card::SilentNotCharged,
        131..134 if patient_cards => Card::SilentCapture,
        _ => Card::Good,
    }
}

/// The randomness of one fan or bot: far from that of its neighbours.
pub fn rng(seed: u64, index: u64) -> StdRng {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(index.to_be_bytes());
    StdRng::from_seed(hash.finalize().into())
}

/// All decisions of so many fans in 16 hexadecimal digits: two runs with the same are the same crowd.
pub fn digest(seed: u64, fans: u64, manner: &Manner) -> String {
    let mut hash = Sha256::new();
    for index in 0..fans {
        let fan = Fan::draw(seed, index, manner);
        hash.update(format!("{fan:?}"));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANNER: Manner =
        Manner { has_seats: true, has_standing: true, hesitates: Duration::from_millis(500), patient_cards: true };

    #[test]
    fn a_seed_repeats_its_crowd_and_another_has_another() {
        assert_eq!(Fan::draw(7, 3, &MANNER), Fan::draw(7, 3, &MANNER));
        assert_eq!(digest(7, 200, &MANNER), digest(7, 200, &MANNER));
        assert_ne!(digest(7, 200, &MANNER), digest(8, 200, &MANNER));
        assert_ne!(Fan::draw(7, 3, &MANNER), Fan { index: 3, ..Fan::draw(7, 4, &MANNER) });
    }

    #[test]
    fn a_crowd_does_all_there_is_to_do() {
        let fans: Vec<Fan> = (0..20_000).map(|index| Fan::draw(1, index, &MANNER)).collect();
        let share = |wanted: &dyn Fn(&Fan) -> bool| fans.iter().filter(|fan| wanted(fan)).count() * 100 / fans.len();
        assert!((50..60).contains(&share(&|fan| fan.wish == Wish::Named)));
        assert!((10..20).contains(&share(&|fan| fan.wish == Wish::Standing)));
        assert!((78..86).contains(&share(&|fan| fan.end == End::Pays)));
        assert!((84..92).contains(&share(&|fan| fan.cards[0] == Card::Good)));
        assert!(fans.iter().any(|fan| fan.cards[0] == Card::SilentCharged));
        assert!(fans.iter().all(|fan| (1..=MAX_QUANTITY).contains(&fan.quantity) && fan.place < 1000));
        let seated = Manner { has_standing: false, patient_cards: false, ..MANNER };
        let standing = Manner { has_seats: false, ..MANNER };
        for index in 0..2_000 {
            assert_ne!(Fan::draw(1, index, &seated).wish, Wish::Standing);
            assert!(!matches!(Fan::draw(1, index, &seated).cards[0], Card::SilentCharged | Card::SilentNotCharged));
            assert_eq!(Fan::draw(1, index, &standing).wish, Wish::Standing);
        }
    }
}
