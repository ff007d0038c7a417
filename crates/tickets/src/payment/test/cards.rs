//! The cards of the test provider, and what each does. Where Stripe has a test card that does the same, it has the same
//! number and name; the ones that begin with 4000 0000 0001 are ours alone.

use std::time::Duration;

/// How a card behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// The money is set aside at once.
    Succeeds,
    /// It is declined, with this code.
    Declines(&'static str),
    /// The buyer has to agree on a page of this server.
    AsksForSecondStep,
    /// The answer takes so long; until then the payment is pending.
    AnswersAfter(Duration),
    /// No answer comes, yet the money is set aside.
    TimesOutCharged,
    /// No answer comes, as the request never arrived.
    TimesOutNotCharged,
    /// Set aside, but for so long there is no answer to anything about it, look-ups included.
    SilentFor(Duration),
    /// The provider cannot be reached.
    Away,
    /// Succeeds; capturing it is done but not answered.
    CaptureTimesOut,
    /// Succeeds; capturing it is refused, as the bank has let go of the money, which voids it.
    CaptureRefused,
    /// Succeeds; refunding it is done but not answered.
    RefundTimesOut,
}

/// A card of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestCard {
    /// Its number.
    pub number: &'static str,
    /// Its name as a saved payment method; also what is stored of it.
    pub name: &'static str,
    /// What it does.
    pub behaviour: Behaviour,
}

const fn card(number: &'static str, name: &'static str, behaviour: Behaviour) -> TestCard {
    TestCard { number, name, behaviour }
}

/// All of them. Another number is declined as `incorrect_number`.
pub const CARDS: &[TestCard] = &[
    card("4242424242424242", "pm_card_visa", Behaviour::Succeeds),
    card("4000000000000002", "pm_card_visa_chargeDeclined", Behaviour::Declines("generic_decline")),
    card("4000000000009995", "pm_card_visa_chargeDeclinedInsufficientFunds", Behaviour::Declines("insufficient_funds")),
    card("4000000000000069", "pm_card_chargeDeclinedExpiredCard", Behaviour::Declines("expired_card")),
    card("4000000000009979", "pm_card_visa_chargeDeclinedStolenCard", Behaviour::Declines("stolen_card")),
    card("4000002760003184", "pm_card_authenticationRequired", Behaviour::AsksForSecondStep),
    card("4000000000010001", "pm_test_answersAfter2s", Behaviour::AnswersAfter(Duration::from_secs(2))),
    card("4000000000010019", "pm_test_answersAfter20s", Behaviour::AnswersAfter(Duration::from_secs(20))),
    card("4000000000010027", "pm_test_timesOutCharged", Behaviour::TimesOutCharged),
    card("4000000000010035", "pm_test_timesOutNotCharged", Behaviour::TimesOutNotCharged),
    card("4000000000010043", "pm_test_silentFor30s", Behaviour::SilentFor(Duration::from_secs(30))),
    card("4000000000010050", "pm_test_away", Behaviour::Away),
    card("4000000000010068", "pm_test_captureTimesOut", Behaviour::CaptureTimesOut),
    card("4000000000010076", "pm_test_captureRefused", Behaviour::CaptureRefused),
    card("4000000000010084", "pm_test_refundTimesOut", Behaviour::RefundTimesOut),
];

/// What a number or name that is not in the table gets.
pub(super) const UNKNOWN: TestCard = card("", "unknown", Behaviour::Declines("incorrect_number"));
/// What a card past its month gets.
pub(super) const EXPIRED: TestCard = card("", "expired", Behaviour::Declines("expired_card"));

/// The card with this number.
pub(super) fn by_number(number: &str) -> TestCard {
    CARDS.iter().find(|card| card.number == number).copied().unwrap_or(UNKNOWN)
}

/// The card with this name.
pub(super) fn by_name(name: &str) -> TestCard {
    CARDS.iter().chain([&EXPIRED]).find(|card| card.name == name).copied().unwrap_or(UNKNOWN)
}

/// What a buyer is told of a decline.
pub(super) fn reason(code: &str) -> &'static str {
    match code {
        "insufficient_funds" => "the card does not have the money for it",
        "expired_card" => "the card has expired",
        "stolen_card" => "the bank does not accept this card",
        "incorrect_number" => "the card's number is not one of the test cards; try 4242 4242 4242 4242",
        "authentication_failed" => "the second step was not agreed to",
        _ => "the bank has declined it without saying why",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Card;
    use super::*;

    #[test]
    fn every_card_of_the_table_can_be_typed_in_and_found() {
        for card in CARDS {
            Card::new(card.number, 12, 2034, "123").unwrap();
            assert_eq!(by_number(card.number), *card);
            assert_eq!(by_name(card.name), *card);
        }
        assert_eq!(by_number("4111111111111111"), UNKNOWN);
        assert_eq!(by_name("expired"), EXPIRED);
    }
}
