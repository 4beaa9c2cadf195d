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
use super::text::{ModelFailed, Output};
use super::token_budget::TokenPermit;
use super::tokenizer::Tokens;

/// Entries below which the table is not swept: they are a few tens of kilobytes.
const LEAST_SWEEP: usize = 1024;

/// What there is of a text.
pub enum Lookup {
    /// It is on its way.
    InFlight(Arc<Flight>),
    /// It has been computed before.
    Cached(Arc<Output>),
}

impl Lookup {
    /// Tokens that the model reads, and tokens that the text has.
    pub fn lengths(&self) -> (usize, usize) {
        match self {
            Self::InFlight(flight) => flight.tokens.lengths(),
            Self::Cached(output) => (output.tokens, output.tokens_total),
        }
    }

    /// Its flight, if it is on its way.
    pub fn flight(&self) -> Option<&Arc<Flight>> {
        match self {
            Self::InFlight(flight) => Some(flight),
            Self::Cached(_) => None,
        }
    }

    /// Its vector, once it is known.
    pub async fn outcome(&self) -> Outcome {
        match self {
            Self::InFlight(flight) => flight.outcome().await,
            Self::Cached(output) => Ok(Arc::clone(output)),
        }
    }
}

/// The flights of one model, and what became of earlier ones.
pub struct SingleFlight {
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

impl SingleFlight {
    /// No flights yet. `cache`: where vectors are kept.
    pub fn new(cache: Cache) -> Self {
        Self { table: Mutex::default(), cache }
    }

    /// What there is of each text, to be held by whoever waits for it.
    pub fn look_up(&self, keys: &[Key]) -> Vec<Option<Lookup>> {
        // The cache first, which has no lock that all calls share. What lands in between, `board` finds.
        let mut found: Vec<_> = keys.iter().map(|key| self.cache.get(key).map(Lookup::Cached)).collect();
        if found.iter().any(Option::is_none) {
            let table = self.lock();
            for (key, found) in keys.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *found = table.find(key).map(Lookup::InFlight);
            }
        }
        found
    }

    /// What there is of each text by now, in order, or else a new flight, which takes its room out of
    /// the call's. `room`: enough for all of them.
    pub fn submit(&self, texts: Vec<(Key, Tokens)>, mut permit: TokenPermit) -> Vec<Lookup> {
        let mut table = self.lock();
        // The last text first: a call that is larger than all the room there is holds it to its end.
        let mut submitted: Vec<_> = texts
            .into_iter()
            .rev()
            .map(|(key, tokens)| {
                if let Some(flight) = table.find(&key) {
                    return Lookup::InFlight(flight);
                }
                match self.cache.peek(&key) {
                    Some(output) => Lookup::Cached(output),
                    None => Lookup::InFlight(table.add(Flight::new(key, tokens, &mut permit))),
                }
            })
            .collect();
        submitted.reverse();
        submitted
    }

    /// Ends a flight with what the model made of it.
    pub fn complete(&self, flight: &Flight, values: Result<Vec<f32>, ModelFailed>) {
        let outcome = values.map(|values| Arc::new(Output::new(values, &flight.tokens)));
        if let Ok(output) = &outcome {
            self.cache.insert(flight.key, output);
        }
        // Others of its key there are none: it was in the table as long as anyone held it.
        self.lock().flights.remove(&flight.key);
        flight.complete(outcome);
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

    fn without_cache() -> (SingleFlight, Arc<Semaphore>) {
        (SingleFlight::new(Cache::new(0, 1)), Arc::new(Semaphore::new(100)))
    }

    fn look_up(single_flight: &SingleFlight, text: &str) -> Option<Lookup> {
        single_flight.look_up(&[key(text)]).remove(0)
    }

    fn flight(found: &Lookup) -> &Arc<Flight> {
        found.flight().expect("it is on its way")
    }

    /// Texts of 10 tokens each, in a room of 100.
    fn submit(single_flight: &SingleFlight, semaphore: &Arc<Semaphore>, texts: &[&str]) -> Vec<Lookup> {
        let wanted: Vec<_> = texts.iter().map(|text| (key(text), Tokens { ids: vec![7; 10], total: 12 })).collect();
        let permit = Arc::clone(semaphore).try_acquire_many_owned(10 * texts.len() as u32).expect("there is room");
        single_flight.submit(wanted, permit.into())
    }

    #[tokio::test]
    async fn whoever_joins_gets_the_same_vector_and_takes_no_room() {
        let (single_flight, semaphore) = without_cache();
        let mut one = submit(&single_flight, &semaphore, &["a", "b"]);
        let mut other = submit(&single_flight, &semaphore, &["b", "c"]);
        let (b, b_again) = (one.remove(1), other.remove(0));
        assert!(Arc::ptr_eq(flight(&b), flight(&b_again)));
        assert_eq!(semaphore.available_permits(), 70);
        assert!(look_up(&single_flight, "c").is_some() && look_up(&single_flight, "d").is_none());

        single_flight.complete(flight(&b), Ok(vec![1.5]));
        let output = Arc::new(Output { values: vec![1.5], tokens: 10, tokens_total: 12 });
        assert_eq!(tokio::join!(b.outcome(), b_again.outcome()), (Ok(Arc::clone(&output)), Ok(output)));
        assert_eq!(semaphore.available_permits(), 80);
        assert!(look_up(&single_flight, "b").is_none(), "it has landed");
    }

    #[test]
    fn what_landed_while_a_call_was_on_its_way_to_the_queue_is_not_computed_again() {
        let (single_flight, semaphore) = (SingleFlight::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = submit(&single_flight, &semaphore, &["a"]);
        single_flight.complete(flight(&first[0]), Ok(vec![1.5]));
        assert!(
            matches!(&submit(&single_flight, &semaphore, &["a"])[0], Lookup::Cached(output) if output.values == [1.5])
        );
        assert_eq!(semaphore.available_permits(), 100);
        // Only the first look of a call counts.
        assert_eq!((single_flight.cache_stats().hits, single_flight.cache_stats().misses), (0, 0));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let (single_flight, semaphore) = (SingleFlight::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = submit(&single_flight, &semaphore, &["a"]);
        single_flight.complete(flight(&first[0]), Err(ModelFailed));
        assert!(look_up(&single_flight, "a").is_none());
    }

    #[test]
    fn a_text_flies_on_until_the_last_who_waits_has_left() {
        let (single_flight, semaphore) = without_cache();
        let first = submit(&single_flight, &semaphore, &["a"]);
        let second = look_up(&single_flight, "a");
        drop(first);
        assert!(look_up(&single_flight, "a").is_some());
        assert_eq!(semaphore.available_permits(), 90);
        drop(second);
        assert!(look_up(&single_flight, "a").is_none());
        assert_eq!(semaphore.available_permits(), 100);
    }

    #[test]
    fn a_call_larger_than_the_room_holds_it_until_little_is_left() {
        let (single_flight, semaphore) = (without_cache().0, Arc::new(Semaphore::new(15)));
        let wanted: Vec<_> = ["a", "b", "c"].map(|text| (key(text), Tokens { ids: vec![7; 10], total: 10 })).into();
        let mut call = single_flight.submit(wanted, Arc::clone(&semaphore).try_acquire_many_owned(15).unwrap().into());
        for free in [0, 5, 15] {
            single_flight.complete(flight(&call.remove(0)), Ok(vec![]));
            assert_eq!(semaphore.available_permits(), free);
        }
    }

    #[test]
    fn what_callers_who_left_leave_behind_is_bounded() {
        let (single_flight, semaphore) = without_cache();
        for n in 0..5000 {
            drop(submit(&single_flight, &semaphore, &[&n.to_string()]));
        }
        assert!(single_flight.lock().flights.len() <= LEAST_SWEEP);
    }
}
