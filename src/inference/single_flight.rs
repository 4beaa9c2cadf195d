//! Single flight: each text is computed once. A call for a text that is on its way shares its flight, and a call for a
//! text that was computed before gets the vector from the cache.
//!
//! Invariant: a complete text enters the cache before it leaves the table of flights. A new submission searches the
//! table and then the cache under the lock of the table. So there is no moment at which a text is in neither and would
//! be computed again.
//!
//! Callers hold a flight strongly, the table weakly. One caller who leaves takes nothing from the others, and the text
//! is dropped when the last one has left. A call that shares a flight takes no tokens of the budget, because it adds
//! nothing to the queue: a crowd that asks for one text is not refused. The permit belongs to the flight until it is
//! complete, even if the caller who paid for it has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::cache::{Cache, CacheStats};
use super::flight::{Flight, Outcome};
use super::key::Key;
use super::text::{ModelFailed, Output};
use super::token_budget::TokenPermit;
use super::tokenizer::Tokens;
use super::traced::Waits;

/// The least entries of a table that is swept. Fewer take a few tens of kilobytes at most.
const LEAST_SWEEP: usize = 1024;

/// The state of a text that is known.
pub enum Lookup {
    /// The text is on its way.
    InFlight(Arc<Flight>),
    /// The text was computed before.
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

    /// The flight, if the text is on its way.
    pub fn flight(&self) -> Option<&Arc<Flight>> {
        match self {
            Self::InFlight(flight) => Some(flight),
            Self::Cached(_) => None,
        }
    }

    /// Waits for the vector.
    pub async fn outcome(&self) -> Outcome {
        match self {
            Self::InFlight(flight) => flight.outcome().await,
            Self::Cached(output) => Ok(Arc::clone(output)),
        }
    }
}

/// The flights of one model, and the cache of earlier results.
pub struct SingleFlight {
    table: Mutex<Table>,
    cache: Cache,
}

#[derive(Default)]
struct Table {
    flights: HashMap<Key, Weak<Flight>>,
    /// The number of entries at which those without a caller are removed: twice the number left by the last sweep.
    sweep_at: usize,
}

impl SingleFlight {
    /// Creates a table without flights. `cache` gets the vectors of complete texts.
    pub fn new(cache: Cache) -> Self {
        Self { table: Mutex::default(), cache }
    }

    /// Looks up each text. The caller holds the flights that it waits for.
    pub fn look_up(&self, keys: &[Key]) -> Vec<Option<Lookup>> {
        // The cache first: it has no lock that all calls share. `submit` finds the texts that complete meanwhile.
        let mut found: Vec<_> = keys.iter().map(|key| self.cache.get(key).map(Lookup::Cached)).collect();
        if found.iter().any(Option::is_none) {
            let table = self.lock();
            for (key, found) in keys.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *found = table.find(key).map(Lookup::InFlight);
            }
        }
        found
    }

    /// Looks up each text again, in order, and makes a flight of each that is still unknown. A new flight takes the
    /// permit for its tokens out of `permit`, which suffices for all of them.
    pub fn submit(&self, texts: Vec<(Key, Tokens)>, mut permit: TokenPermit, waits: Option<&Waits>) -> Vec<Lookup> {
        let mut table = self.lock();
        // The last text first: a call that exceeds the whole token budget holds all of it until little is left.
        let mut submitted: Vec<_> = texts
            .into_iter()
            .rev()
            .map(|(key, tokens)| {
                if let Some(flight) = table.find(&key) {
                    return Lookup::InFlight(flight);
                }
                match self.cache.peek(&key) {
                    Some(output) => Lookup::Cached(output),
                    None => Lookup::InFlight(table.add(Flight::new(key, tokens, &mut permit).traced(waits))),
                }
            })
            .collect();
        submitted.reverse();
        submitted
    }

    /// Completes a flight with the result of the model.
    pub fn complete(&self, flight: &Flight, values: Result<Vec<f32>, ModelFailed>) {
        let outcome = values.map(|values| Arc::new(Output::new(values, &flight.tokens)));
        if let Ok(output) = &outcome {
            self.cache.insert(flight.key, output);
        }
        // The table has no other flight of this key: the flight was in the table as long as anyone held it.
        self.lock().flights.remove(&flight.key);
        flight.complete(outcome);
    }

    /// The contents of the cache, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock. Even after a panic the table itself is whole.
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
        Keys::new("model").key(text)
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

    /// Submits texts of 10 tokens each, with permits of `semaphore`, which has 100.
    fn submit(single_flight: &SingleFlight, semaphore: &Arc<Semaphore>, texts: &[&str]) -> Vec<Lookup> {
        let wanted: Vec<_> = texts.iter().map(|text| (key(text), Tokens::of_text(vec![7; 10], 12))).collect();
        let permit = Arc::clone(semaphore).try_acquire_many_owned(10 * texts.len() as u32).expect("permits are left");
        single_flight.submit(wanted, permit.into(), None)
    }

    #[tokio::test]
    async fn a_call_that_shares_a_flight_gets_the_same_vector_and_takes_no_tokens() {
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
        assert!(look_up(&single_flight, "b").is_none(), "it is complete");
    }

    #[test]
    fn a_text_that_completes_between_look_up_and_submission_is_not_computed_again() {
        let (single_flight, semaphore) = (SingleFlight::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = submit(&single_flight, &semaphore, &["a"]);
        single_flight.complete(flight(&first[0]), Ok(vec![1.5]));
        assert!(
            matches!(&submit(&single_flight, &semaphore, &["a"])[0], Lookup::Cached(output) if output.values == [1.5])
        );
        assert_eq!(semaphore.available_permits(), 100);
        // Only the first look-up of a call counts.
        assert_eq!((single_flight.cache_stats().hits, single_flight.cache_stats().misses), (0, 0));
    }

    #[test]
    fn a_failure_is_not_cached() {
        let (single_flight, semaphore) = (SingleFlight::new(Cache::new(1 << 20, 1)), Arc::new(Semaphore::new(100)));
        let first = submit(&single_flight, &semaphore, &["a"]);
        single_flight.complete(flight(&first[0]), Err(ModelFailed));
        assert!(look_up(&single_flight, "a").is_none());
    }

    #[test]
    fn a_flight_lives_until_its_last_caller_has_left() {
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
    fn a_call_larger_than_the_token_budget_holds_it_until_little_is_left() {
        let (single_flight, semaphore) = (without_cache().0, Arc::new(Semaphore::new(15)));
        let wanted: Vec<_> = ["a", "b", "c"].map(|text| (key(text), Tokens::of_text(vec![7; 10], 10))).into();
        let mut call =
            single_flight.submit(wanted, Arc::clone(&semaphore).try_acquire_many_owned(15).unwrap().into(), None);
        for free in [0, 5, 15] {
            single_flight.complete(flight(&call.remove(0)), Ok(vec![]));
            assert_eq!(semaphore.available_permits(), free);
        }
    }

    #[test]
    fn the_entries_of_callers_who_left_are_bounded() {
        let (single_flight, semaphore) = without_cache();
        for n in 0..5000 {
            drop(submit(&single_flight, &semaphore, &[&n.to_string()]));
        }
        assert!(single_flight.lock().flights.len() <= LEAST_SWEEP);
    }
}
