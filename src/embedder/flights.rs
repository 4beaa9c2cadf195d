//! Texts that are on their way, by their keys: a text that is asked for again joins its flight.
//!
//! Whoever asks holds the flight, the table only points at it. So one caller who leaves takes nothing
//! from the others, and the text is dropped when the last one has left. Who joins takes no room in
//! the queue, as nothing is added to it: a crowd that asks for one text is not refused. The room is
//! the flight's own and held until it lands, even when the caller who paid for it has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OwnedSemaphorePermit;

use super::flight::Flight;
use super::key::Key;
use super::text::{EncodeFailed, Pooled};
use super::tokenizer::Tokens;

/// Entries below which the table is not swept: they are a few tens of kilobytes.
const LEAST_SWEEP: usize = 1024;

/// The flights of one model.
#[derive(Default)]
pub struct Flights {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    flights: HashMap<Key, Weak<Flight>>,
    /// The number of entries at which those that everyone has left are swept out: twice what was
    /// left the last time.
    sweep_at: usize,
}

impl Flights {
    /// What there is of each text: its flight, to be held by whoever waits for it.
    pub fn look(&self, keys: &[Key]) -> Vec<Option<Arc<Flight>>> {
        let table = self.lock();
        keys.iter().map(|key| table.find(key)).collect()
    }

    /// A flight for each text, in order: the one there is by now, or a new one, which takes its room
    /// out of the call's. `room`: enough for all of them.
    pub fn board(&self, texts: Vec<(Key, Tokens)>, mut room: OwnedSemaphorePermit) -> Vec<Arc<Flight>> {
        let mut table = self.lock();
        // The last text first: a call that is larger than all the room there is holds it to its end.
        let mut boarded: Vec<_> = texts
            .into_iter()
            .rev()
            .map(|(key, tokens)| table.find(&key).unwrap_or_else(|| table.add(Flight::board(key, tokens, &mut room))))
            .collect();
        boarded.reverse();
        boarded
    }

    /// Ends a flight with what the model made of it.
    pub fn land(&self, flight: &Flight, values: Result<Vec<f32>, EncodeFailed>) {
        // Others of its key there are none: it was in the table as long as anyone held it.
        self.lock().flights.remove(&flight.key);
        flight.land(values.map(|values| Arc::new(Pooled::new(values, &flight.tokens))));
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

    use super::super::flight::Job;
    use super::super::key::Keys;
    use super::*;

    fn key(text: &str) -> Key {
        Keys::new("model").key("", text)
    }

    /// Texts of 10 tokens each, in a room of 100.
    fn board(flights: &Flights, rooms: &Arc<Semaphore>, texts: &[&str]) -> Vec<Arc<Flight>> {
        let wanted: Vec<_> = texts.iter().map(|text| (key(text), Tokens { ids: vec![7; 10], total: 12 })).collect();
        let room = Arc::clone(rooms).try_acquire_many_owned(10 * texts.len() as u32).expect("there is room");
        flights.board(wanted, room)
    }

    #[tokio::test]
    async fn whoever_joins_gets_the_same_vector_and_takes_no_room() {
        let (flights, rooms) = (Flights::default(), Arc::new(Semaphore::new(100)));
        let first = board(&flights, &rooms, &["a", "b"]);
        let second = board(&flights, &rooms, &["b", "c"]);
        assert!(Arc::ptr_eq(&first[1], &second[0]));
        assert_eq!(rooms.available_permits(), 70);
        assert!(flights.look(&[key("c")])[0].is_some() && flights.look(&[key("d")])[0].is_none());

        let job = Job::new(Arc::clone(&first[1]));
        flights.land(job.flight(), Ok(vec![1.5]));
        let (one, other) = tokio::join!(first[1].landed(), second[0].landed());
        assert_eq!(one, Ok(Arc::new(Pooled { values: vec![1.5], tokens: 10, tokens_total: 12 })));
        assert_eq!(one, other);
        assert_eq!(rooms.available_permits(), 80);
        assert!(flights.look(&[key("b")])[0].is_none(), "it has landed");
    }

    #[test]
    fn a_text_flies_on_until_the_last_who_waits_has_left() {
        let (flights, rooms) = (Flights::default(), Arc::new(Semaphore::new(100)));
        let first = board(&flights, &rooms, &["a"]);
        let second = flights.look(&[key("a")]);
        drop(first);
        assert!(flights.look(&[key("a")])[0].is_some());
        assert_eq!(rooms.available_permits(), 90);
        drop(second);
        assert!(flights.look(&[key("a")])[0].is_none());
        assert_eq!(rooms.available_permits(), 100);
    }

    #[test]
    fn a_call_larger_than_the_room_holds_it_until_little_is_left() {
        let (flights, rooms) = (Flights::default(), Arc::new(Semaphore::new(15)));
        let wanted: Vec<_> = ["a", "b", "c"].map(|text| (key(text), Tokens { ids: vec![7; 10], total: 10 })).into();
        let mut call = flights.board(wanted, Arc::clone(&rooms).try_acquire_many_owned(15).unwrap());
        for free in [0, 5, 15] {
            flights.land(&call.remove(0), Ok(vec![]));
            assert_eq!(rooms.available_permits(), free);
        }
    }

    #[test]
    fn what_callers_who_left_leave_behind_is_bounded() {
        let (flights, rooms) = (Flights::default(), Arc::new(Semaphore::new(100)));
        for n in 0..5000 {
            drop(board(&flights, &rooms, &[&n.to_string()]));
        }
        assert!(flights.lock().flights.len() <= LEAST_SWEEP);
    }
}
