//! Texts that are on their way or were before, by their keys: a text that is asked for again joins
//! its flight, or gets the vector that is kept.
//!
//! Invariant: a text that lands is kept first and taken from the table then, and who looks under the
//! table's lock looks there first: no moment is between the two at which it would be computed again.
//!
//! Whoever asks holds the flight, the table only points at it. So one caller who leaves takes nothing
//! from the others, and the text is dropped when the last one has left. Who joins takes no room in
//! the queue, as nothing is added to it: a crowd that asks for one text is not refused. The room is
//! the flight's own and held until it lands, even when the caller who paid for it has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::cache::{Cache, CacheStats};
use super::flight::{Flight, Outcome};
use super::key::Key;
use super::room::Space;
use super::text::{ModelFailed, Output};
use super::tokenizer::Tokens;

/// Entries below which the table is not swept: they are a few tens of kilobytes.
const LEAST_SWEEP: usize = 1024;

/// What there is of a text.
pub enum Found {
    /// It is on its way.
    Flying(Arc<Flight>),
    /// It has been computed before.
    Kept(Arc<Output>),
}

impl Found {
    /// Tokens that the model reads, and tokens that the text has.
    pub fn lengths(&self) -> (usize, usize) {
        match self {
            Self::Flying(flight) => flight.tokens.lengths(),
            Self::Kept(output) => (output.tokens, output.tokens_total),
        }
    }

    /// Its flight, if it is on its way.
    pub fn flight(&self) -> Option<&Arc<Flight>> {
        match self {
            Self::Flying(flight) => Some(flight),
            Self::Kept(_) => None,
        }
    }

    /// Its vector, once it is known.
    pub async fn landed(&self) -> Outcome {
        match self {
            Self::Flying(flight) => flight.landed().await,
            Self::Kept(output) => Ok(Arc::clone(output)),
        }
    }
}

/// The flights of one model, and what became of earlier ones.
pub struct Flights {
    table: Mutex<Table>,
    cache: Cache,
}

#[derive(Default)]
struct Table {
    flights: HashMap<Key, Weak<Flight>>,
    /// The number of entries at which those that everyone has left are swept out: twice what was
    /// left the last time.
    sweep_at: usize,
}

impl Flights {
    /// No flights yet. `cache`: where vectors are kept.
    pub fn new(cache: Cache) -> Self {
        Self { table: Mutex::default(), cache }
    }

    /// What there is of each text, to be held by whoever waits for it.
    pub fn look(&self, keys: &[Key]) -> Vec<Option<Found>> {
        // The cache first, which has no lock that all calls share. What lands in between, `board` finds.
        let mut found: Vec<_> = keys.iter().map(|key| self.cache.get(key).map(Found::Kept)).collect();
        if found.iter().any(Option::is_none) {
            let table = self.lock();
            for (key, found) in keys.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *found = table.find(key).map(Found::Flying);
            }
        }
        found
    }

    /// What there is of each text by now, in order, or else a new flight, which takes its room out of
    /// the call's. `room`: enough for all of them.
    pub fn board(&self, texts: Vec<(Key, Tokens)>, mut room: Space) -> Vec<Found> {
        let mut table = self.lock();
        // The last text first: a call that is larger than all the room there is holds it to its end.
        let mut boarded: Vec<_> = texts
            .into_iter()
            .rev()
            .map(|(key, tokens)| {
                if let Some(flight) = table.find(&key) {
                    return Found::Flying(flight);
                }
                match self.cache.get_again(&key) {
                    Some(output) => Found::Kept(output),
                    None => Found::Flying(table.add(Flight::board(key, tokens, &mut room))),
                }
            })
            .collect();
        boarded.reverse();
        boarded
    }

    /// Ends a flight with what the model made of it.
    pub fn land(&self, flight: &Flight, values: Result<Vec<f32>, ModelFailed>) {
        let outcome = values.map(|values| Arc::new(Output::new(values, &flight.tokens)));
        if let Ok(output) = &outcome {
            self.cache.insert(flight.key, output);
        }
        // Others of its key there are none: it was in the table as long as anyone held it.
        self.lock().flights.remove(&flight.key);
        flight.land(outcome);
    }

    /// What is kept, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock; were it so, the table itself is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, key: &Key) -> Option<Arc<Flight>> {
        self.flights.get(key)?.upgrade()
    }

    fn add(&mut self, flight: Flight) -> Arc<Flight> {
        if self.flights.len() >= self.sweep_at.max(LEAST_SWEEP) {
            self.flights.retain(|_, flight| flight.strong_count() > 0);
            self.sweep_at = 2 * self.flights.len();
        }
        let flight = Arc::new(flight);
        self.flights.insert(flight.key, Arc::downgrade(&flight));
        flight
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::super::key::Keys;
    use super::*;

    fn key(text: &str) -> Key {
        Keys::new("model").key("", text)
    }

    fn without_cache() -> (Flights, Arc<Semaphore>) {
        (Flights::new(Cache::new(0, 1)), Arc::new(Semaphore::new(100)))
    }

    fn look(flights: &Flights, text: &str) -> Option<Found> {
        flights.look(&[key(text)]).remove(0)
    }

    fn flight(found: &Found) -> &Arc<Flight> {
        found.flight().expect("it is on its way")
    }

    /// Texts of 10 tokens each, in a room of 100.
    fn board(flights: &Flights, rooms: &Arc<Semaphore>, texts: &[&str]) -> Vec<Found> {
        let wanted: Vec<_> = texts.iter().map(|text| (key(text), Tokens { ids: vec![7; 10], total: 12 })).collect();
        let room = Arc::clone(rooms).try_acquire_many_owned(10 * texts.len() as u32).expect("there is room");
        flights.board(wanted, room.into())
    }

    #[tokio::test]
    async fn whoever_joins_gets_the_same_vector_and_takes_no_room() {
        let (flights, rooms) = without_cache();
        let mut one = board(&flights, &rooms, &["a", "b"]);
        let mut other = board(&flights, &rooms, &["b", "c"]);
        let (b, b_again) = (one.remove(1), other.remove(0));
        assert!(Arc::ptr_eq(flight(&b), flight(&b_again)));
        assert_eq!(rooms.available_permits(), 70);
        assert!(look(&flights, "c").is_some() && look(&flights, "d").is_none());

        flights.land(flight(&b), Ok(vec![1.5]));
        let output = Arc::new(Output { values: vec![1.5], tokens: 10, tokens_total: 12 });
        assert_eq!(tokio::join!(b.landed(), b_again.landed()), (Ok(Arc::clone(&output)), Ok(output)));
        assert_eq!(rooms.available_permits(), 80);
        assert!(look(&flights, "b").is_none(), "it has landed");
    }

    #[test]
    fn what_landed_while_a_call_was_on_its_way_to_the_queue_is_not_computed_again() {
        let (flights, rooms) = (Flights::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = board(&flights, &rooms, &["a"]);
        flights.land(flight(&first[0]), Ok(vec![1.5]));
        assert!(matches!(&board(&flights, &rooms, &["a"])[0], Found::Kept(output) if output.values == [1.5]));
        assert_eq!(rooms.available_permits(), 100);
        // Only the first look of a call counts.
        assert_eq!((flights.cache_stats().hits, flights.cache_stats().misses), (0, 0));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let (flights, rooms) = (Flights::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = board(&flights, &rooms, &["a"]);
        flights.land(flight(&first[0]), Err(ModelFailed));
        assert!(look(&flights, "a").is_none());
    }

    #[test]
    fn a_text_flies_on_until_the_last_who_waits_has_left() {
        let (flights, rooms) = without_cache();
        let first = board(&flights, &rooms, &["a"]);
        let second = look(&flights, "a");
        drop(first);
        assert!(look(&flights, "a").is_some());
        assert_eq!(rooms.available_permits(), 90);
        drop(second);
        assert!(look(&flights, "a").is_none());
        assert_eq!(rooms.available_permits(), 100);
    }

    #[test]
    fn a_call_larger_than_the_room_holds_it_until_little_is_left() {
        let (flights, rooms) = (without_cache().0, Arc::new(Semaphore::new(15)));
        let wanted: Vec<_> = ["a", "b", "c"].map(|text| (key(text), Tokens { ids: vec![7; 10], total: 10 })).into();
        let mut call = flights.board(wanted, Arc::clone(&rooms).try_acquire_many_owned(15).unwrap().into());
        for free in [0, 5, 15] {
            flights.land(flight(&call.remove(0)), Ok(vec![]));
            assert_eq!(rooms.available_permits(), free);
        }
    }

    #[test]
    fn what_callers_who_left_leave_behind_is_bounded() {
        let (flights, rooms) = without_cache();
        for n in 0..5000 {
            drop(board(&flights, &rooms, &[&n.to_string()]));
        }
        assert!(flights.lock().flights.len() <= LEAST_SWEEP);
    }
}
