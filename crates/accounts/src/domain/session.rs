//! A session: what begins with a sign-in and goes on with refresh tokens, each of which is used once.

use std::time::Duration;

use tessera_kernel::Timestamp;

use super::ids::{ClientId, SessionId, UserId};

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// The program that signed its person in; none for our own pages.
    pub client: Option<ClientId>,
    /// What its tokens are worked out of, besides the installation's secret.
    pub seed: Vec<u8>,
    /// The number of its present token.
    pub generation: u32,
    /// When it began: its person had shown the password, or a program redeemed a code.
    pub created_at: Timestamp,
    /// Since when that is the present one.
    pub rotated_at: Timestamp,
    /// When it ends, whatever happens.
    pub ends_at: Timestamp,
    /// Whether it was ended before.
    pub is_ended: bool,
}

/// How tokens follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For how long after its use a token may come again: two tabs that ask at once, an answer that was lost.
    pub grace: Duration,
    /// How long a session may lie idle.
    pub idle: Duration,
}

/// What becomes of a token that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next one takes its place.
    Next,
    /// It has just been taken its place, or just begun: the present one is given again.
    Again,
    /// It was used before, so somebody else has it: the session ends.
    Stolen,
    /// The session is over.
    Over,
}

impl Session {
    /// Whether it was ended, or has lasted or lain idle for too long.
    pub fn is_over(&self, now: Timestamp, rules: Rules) -> bool {
        self.is_ended || now >= self.ends_at || now >= self.rotated_at.plus(rules.idle)
    }

    /// What becomes of the token of that number.
    ///
    /// Within the grace the present token is given again rather than a next one made. So of all tokens that were present within it there
    /// are two at the most, and whoever comes late by less than it is never taken for a thief.
    pub fn turn(&self, generation: u32, now: Timestamp, rules: Rules) -> Turn {
        let is_graced = now < self.rotated_at.plus(rules.grace);
        match self.generation.checked_sub(generation) {
            _ if self.is_over(now, rules) => Turn::Over,
            // Ours and not made yet: the database is older than the token.
            None => Turn::Over,
            Some(0 | 1) if is_graced => Turn::Again,
            Some(0) => Turn::Next,
            Some(_) => Turn::Stolen,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tessera_kernel::Uuid;

    use super::*;

    const RULES: Rules = Rules { grace: Duration::from_secs(10), idle: Duration::from_secs(1_000) };

    fn session() -> Session {
        Session {
            id: Uuid::from_u128(1).into(),
            user: Uuid::from_u128(2).into(),
            client: None,
            seed: vec![1],
            generation: 0,
            created_at: Timestamp::from_micros(0),
            rotated_at: Timestamp::from_micros(0),
            ends_at: Timestamp::from_micros(i64::MAX),
            is_ended: false,
        }
    }

    /// As the store does it.
    fn refresh(session: &mut Session, generation: u32, now: Timestamp) -> Turn {
        let turn = session.turn(generation, now, RULES);
        match turn {
            Turn::Next => (session.generation, session.rotated_at) = (session.generation + 1, now),
            Turn::Stolen => session.is_ended = true,
            Turn::Again | Turn::Over => {}
        }
        turn
    }

    proptest! {
        /// Tabs of one browser that share the newest token they have seen, and come late by less than the grace, are never refused.
        #[test]
        fn tabs_are_no_thieves(steps in prop::collection::vec((0_u64..40, 0_u64..10), 1..60)) {
            let mut session = session();
            // The token of the browser at each second.
            let (mut seen, mut second) = (vec![0], 0);
            for (pause, late) in steps {
                second += pause;
                seen.resize(usize::try_from(second).unwrap() + 1, session.generation);
                let read_at = usize::try_from(second.saturating_sub(late)).unwrap();
                let now = Timestamp::from_micros(0).plus(Duration::from_secs(second));
                let turn = refresh(&mut session, seen[read_at], now);
                prop_assert!(matches!(turn, Turn::Next | Turn::Again), "{turn:?} at {second}");
                *seen.last_mut().unwrap() = session.generation;
            }
        }

        /// A thief who uses a token and its owner who goes on with it: one of the two is told, and the session ends.
        #[test]
        fn a_thief_is_found(pauses in prop::collection::vec(10_u64..500, 2..20), first in any::<bool>()) {
            let mut session = session();
            let mut holds = [0, 0];
            let (mut now, mut who) = (Timestamp::from_micros(0), usize::from(first));
            let mut turns = Vec::new();
            for pause in pauses {
                now = now.plus(Duration::from_secs(pause));
                turns.push(refresh(&mut session, holds[who], now));
                holds[who] = session.generation;
                who = 1 - who;
            }
            prop_assert_eq!(turns[0], Turn::Next);
            prop_assert_eq!(turns[1], Turn::Stolen);
            prop_assert!(turns[2..].iter().all(|turn| *turn == Turn::Over));
        }
    }

    #[test]
    fn idle_old_and_ended_sessions_are_over() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let session = session();
        assert_eq!(session.turn(0, at(999), RULES), Turn::Next);
        assert_eq!(session.turn(0, at(1_000), RULES), Turn::Over);
        assert_eq!(session.turn(1, at(20), RULES), Turn::Over);
        assert_eq!(Session { ends_at: at(20), ..session.clone() }.turn(0, at(20), RULES), Turn::Over);
        assert_eq!(Session { is_ended: true, ..session }.turn(0, at(5), RULES), Turn::Over);
    }
}
