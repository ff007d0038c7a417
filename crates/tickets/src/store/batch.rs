//! A batch of writes, applied in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tessera_store::claims;
use tessera_store::lines;
use tessera_store::sql::{self, Tx};
use tessera_store::writer::Apply;

use super::answers::{self, Answered, Asked, Turn};
use super::bookings::{self, Scan, Scanned, Transfer, Transferred};
use super::edits::{self, Edit, Edited};
use super::feed;
use super::holds::{self, Held, NewHold, ReleaseHold, Released};
use super::orders::{self, Advance, Advanced, Begun, NewOrder};
use super::outbox::{self, Kind, Outbox};
use super::queues::{self, QueueWrite, QueueWrote};
use super::sweep::{self, Sweep};
use crate::domain::ids::{EventId, HoldId};
use crate::domain::order::{Event, State};
use crate::seats::Change;

/// What can be written.
#[derive(Debug)]
pub enum Write {
    /// A change of claims alone.
    Claims(claims::Command),
    /// Seats for a buyer.
    Hold(Box<NewHold>),
    /// Seats given back.
    Release(ReleaseHold),
    /// A hold that is about to be paid.
    Begin(Box<NewOrder>),
    /// News of an order.
    Advance(Box<Advance>),
    /// A change of the catalogue.
    Edit(Box<Edit>),
    /// What is over is removed.
    Sweep(Sweep),
    /// A ticket passed on.
    Transfer(Transfer),
    /// Tickets shown at the door, and under which key.
    CheckIn(Option<Asked>, Vec<Scan>),
    /// A change of those who wait.
    Lines(lines::Command),
    /// A change of a waiting room.
    Queue(QueueWrite),
}

/// What came of a [`Write`], in its order.
#[derive(Debug)]
pub enum What {
    /// To [`Write::Claims`].
    Claims(claims::Answer),
    /// To [`Write::Hold`].
    Held(Held),
    /// To [`Write::Release`].
    Released(Released),
    /// To [`Write::Begin`].
    Begun(Box<Begun>),
    /// To [`Write::Advance`].
    Advanced(Option<Box<Advanced>>),
    /// To [`Write::Edit`].
    Edited(Edited),
    /// To [`Write::Sweep`]: how many rows.
    Swept(u64),
    /// To [`Write::Transfer`].
    Transferred(Transferred),
    /// To [`Write::CheckIn`].
    CheckedIn(Vec<Scanned>),
    /// To [`Write::Lines`].
    Lines(lines::Answer),
    /// To [`Write::Queue`].
    Queue(QueueWrote),
    /// To what was done before under the same key: what was answered then.
    Said(Answered),
    /// To a write whose key was used for another request.
    KeyReused,
    /// To a write whose key another one has that is being refused.
    KeyBusy,
}

impl Write {
    /// Under which key it is asked for. Holds and orders have theirs in their ids.
    pub(super) fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Release(release) => release.asked.as_ref(),
            Self::Advance(news) => news.asked.as_ref(),
            Self::Edit(edit) => edit.asked.as_ref(),
            Self::Transfer(transfer) => transfer.asked.as_ref(),
            Self::CheckIn(asked, _) => asked.as_ref(),
            Self::Queue(room) => room.asked.as_ref(),
            Self::Claims(_) | Self::Hold(_) | Self::Begin(_) | Self::Sweep(_) | Self::Lines(_) => None,
        }
    }
}

impl What {
    /// What is kept of it to be answered again: what was done. Who was refused may try again under the same key.
    fn kept(&self) -> Option<Answered> {
        match self {
            Self::Released(Released::Done(_, count)) => Some(Answered::of(count)),
            Self::Advanced(Some(told)) if told.refused.is_none() && told.unreturnable.is_none() => {
                Some(Answered::of(&told.open.order.id))
            }
            Self::Edited(Edited::Done(answered)) => Some(answered.clone()),
            Self::Transferred(Transferred::Done(serial)) => Some(Answered::of(serial)),
            Self::CheckedIn(scanned) => Some(Answered::of(scanned)),
            Self::Queue(QueueWrote::Done) => Some(Answered::of(&())),
            _ => None,
        }
    }
}

/// What a batch changed of seats: for each event the sequence of its feed and the changes under it.
pub type Fed = Arc<Vec<(EventId, i64, Arc<[Change]>)>>;

/// The answer to one write.
#[derive(Debug)]
pub struct Answer {
    /// What came of it.
    pub what: What,
    /// What its whole batch changed.
    pub fed: Fed,
}

/// What a batch has changed of seats so far, in the order in which it happened.
pub type Changes = BTreeMap<EventId, Vec<Change>>;

/// Applies batches.
#[derive(Clone, Copy, Debug)]
pub struct Batch;

impl Apply for Batch {
    type Command = Write;
    type Answer = Answer;

    async fn apply(&self, tx: &mut Tx<'_>, writes: &[Write]) -> Result<Vec<Answer>, sql::Error> {
        let mut whats: Vec<Option<What>> = writes.iter().map(|_| None).collect();
        let mut changes = Changes::new();
        let all = writes;
        let turns = answers::turns(tx, &all.iter().map(Write::asked).collect::<Vec<_>>()).await?;
        let going = all.iter().enumerate().filter(|(place, _)| turns[*place] == Turn::Go);
        let writes: &[(usize, &Write)] = &going.collect::<Vec<_>>();

        // The order of locks is the same in every transaction: keys, customers, holds, orders, claims, bookings, the catalogue,
        // waiting rooms, lines, feeds, the outbox.
        let new = pick(writes, |write| if let Write::Hold(new) = write { Some(&**new) } else { None });
        let back = pick(writes, |write| if let Write::Release(hold) = write { Some(hold) } else { None });
        let alone = pick(writes, |write| if let Write::Claims(command) = write { Some(command) } else { None });
        let edit = pick(writes, |write| if let Write::Edit(edit) = write { Some(&**edit) } else { None });
        let sweeps = pick(writes, |write| if let Write::Sweep(sweep) = write { Some(sweep) } else { None });
        let mut outbox = Outbox::default();
        let moved = pick(writes, |write| if let Write::Transfer(transfer) = write { Some(transfer) } else { None });
        let shown = pick(writes, |write| if let Write::CheckIn(_, scans) = write { Some(scans) } else { None });

        let pay = pick(writes, |write| if let Write::Begin(new) = write { Some(&**new) } else { None });
        let news = pick(writes, |write| if let Write::Advance(news) = write { Some(&**news) } else { None });

        let mut commands: Vec<claims::Command> = alone.items.iter().copied().cloned().collect();
        let wishes = holds::before_claims(tx, &new.items, &mut commands).await?;
        let (given_back, paid) = (back.items.iter().map(|back| back.hold), pay.items.iter().map(|new| new.hold));
        let booked = news.items.iter().filter(|news| news.events.contains(&Event::Book)).map(|news| news.order);
        holds::lock(tx, given_back.chain(paid), booked).await?;
        let releases = holds::before_release(tx, &back.items, &mut commands).await?;
        let given_back: HashSet<HoldId> = releases.iter().filter_map(holds::Release::hold).collect();
        let payments = orders::before_claims(tx, &pay.items, &given_back, &mut commands).await?;
        let kept = orders::lock(tx, &news.items).await?;
        let mut answers = claims::apply_and_keep(tx, &commands.iter().collect::<Vec<_>>(), &kept).await?;
        let held = holds::after_claims(tx, &new.items, wishes, &answers, &mut changes).await?;
        new.put(&mut whats, held.into_iter().map(What::Held));
        let released = holds::after_release(tx, releases, &answers, &mut changes).await?;
        back.put(&mut whats, released.into_iter().map(What::Released));
        let begun = orders::after_claims(tx, &pay.items, payments, &answers, &mut changes).await?;
        pay.put(&mut whats, begun.into_iter().map(|begun| What::Begun(Box::new(begun))));
        let advanced = orders::advance(tx, &news.items, &mut changes).await?;
        for told in advanced.iter().flatten() {
            // What is for sale has changed, which the search index shows.
            if told.changed && (told.open.order.money.state == State::Booked || !told.freed.is_empty()) {
                outbox.add(Kind::Event, told.open.order.event.uuid());
            }
        }
        news.put(&mut whats, advanced.into_iter().map(|advanced| What::Advanced(advanced.map(Box::new))));
        answers.truncate(alone.items.len());
        alone.put(&mut whats, answers.into_iter().map(What::Claims));
        let edited = edits::apply(tx, &edit.items, &mut outbox).await?;
        edit.put(&mut whats, edited.into_iter().map(What::Edited));
        let swept = sweep::apply(tx, &sweeps.items).await?;
        sweeps.put(&mut whats, swept.into_iter().map(What::Swept));

        let (transferred, scanned) = bookings::apply(tx, &moved.items, &shown.items).await?;
        moved.put(&mut whats, transferred.into_iter().map(What::Transferred));
        shown.put(&mut whats, scanned.into_iter().map(What::CheckedIn));

        let rooms = pick(writes, |write| if let Write::Queue(room) = write { Some(room) } else { None });
        let waiting = pick(writes, |write| if let Write::Lines(command) = write { Some(command) } else { None });
        let wrote = queues::apply(tx, &rooms.items).await?;
        rooms.put(&mut whats, wrote.into_iter().map(What::Queue));
        let stand = lines::apply(tx, &waiting.items).await?;
        waiting.put(&mut whats, stand.into_iter().map(What::Lines));

        say_again(tx, all, turns, &mut whats).await?;
        let fed = Arc::new(feed::write(tx, changes).await?);
        outbox::write(tx, outbox).await?;
        Ok(whats.into_iter().flatten().map(|what| Answer { what, fed: Arc::clone(&fed) }).collect())
    }
}

/// Keeps the answers of what was done under a key, and gives them to who asked for the same again.
async fn say_again(
    tx: &mut Tx<'_>,
    writes: &[Write],
    turns: Vec<Turn>,
    whats: &mut [Option<What>],
) -> Result<(), sql::Error> {
    let kept = |place: usize| whats[place].as_ref().and_then(What::kept);
    let done: HashMap<usize, (&Asked, Answered)> = (0..writes.len())
        .filter(|place| turns[*place] == Turn::Go)
        .filter_map(|place| Some((place, (writes[place].asked()?, kept(place)?))))
        .collect();
    if !done.is_empty() {
        let now = tx.now().await?;
        answers::keep(tx, &done.values().map(|(asked, answered)| (*asked, answered)).collect::<Vec<_>>(), now).await?;
    }
    for (place, turn) in turns.iter().enumerate() {
        let again = match turn {
            Turn::Go => continue,
            Turn::Said(answered) => What::Said(answered.clone()),
            Turn::Reused => What::KeyReused,
            Turn::Behind(first) => {
                let hash = |place: usize| writes[place].asked().map(|asked| asked.request_hash);
                match (&turns[*first], done.get(first)) {
                    _ if hash(place) != hash(*first) => What::KeyReused,
                    (Turn::Said(answered), _) | (_, Some((_, answered))) => What::Said(answered.clone()),
                    (Turn::Reused, None) => What::KeyReused,
                    (_, None) => What::KeyBusy,
                }
            }
        };
        whats[place] = Some(again);
    }
    Ok(())
}

/// The writes of one kind, and their places.
struct Picked<'a, T> {
    places: Vec<usize>,
    items: Vec<&'a T>,
}

fn pick<'a, T>(writes: &[(usize, &'a Write)], kind: impl Fn(&'a Write) -> Option<&'a T>) -> Picked<'a, T> {
    let (places, items) = writes.iter().filter_map(|(place, write)| Some((*place, kind(write)?))).unzip();
    Picked { places, items }
}

impl<T> Picked<'_, T> {
    fn put(self, whats: &mut [Option<What>], answers: impl Iterator<Item = What>) {
        for (place, answer) in self.places.into_iter().zip(answers) {
            whats[place] = Some(answer);
        }
    }
}

impl From<claims::Command> for Write {
    fn from(command: claims::Command) -> Self {
        Self::Claims(command)
    }
}

impl TryFrom<Answer> for claims::Answer {
    type Error = ();

    fn try_from(answer: Answer) -> Result<Self, ()> {
        match answer.what {
            What::Claims(answer) => Ok(answer),
            _ => Err(()),
        }
    }
}

impl From<lines::Command> for Write {
    fn from(command: lines::Command) -> Self {
        Self::Lines(command)
    }
}

impl TryFrom<Answer> for lines::Answer {
    type Error = ();

    fn try_from(answer: Answer) -> Result<Self, ()> {
        match answer.what {
            What::Lines(answer) => Ok(answer),
            _ => Err(()),
        }
    }
}
