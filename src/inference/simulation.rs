//! A simulation of lanes, batches and admission under overload. Its clock is only a number.
//!
//! Clients send calls of 1, 16 and 256 texts without a pause and with a deadline of two seconds, to two workers: many
//! times the work that these can do. Another client sends a text four times a second and waits for each answer without
//! a deadline. A third worker serves the express lane. The speed of the workers is a function of time, because a
//! shared machine is sometimes slow.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_queue::{Batch, BatchQueue, CallTexts};
use super::flight::Flight;
use super::flight::tests::flight;
use super::lane::Lane;
use super::pace::Pace;
use crate::compute::Caller;

const WORKERS: usize = 2;
const TOKENS_A_SECOND: f64 = 4_550.0;
const BATCH_TOKENS: usize = 512;
const CLIENTS: usize = 64;
/// The number of the client that sends single texts.
const PATIENT: usize = CLIENTS;
const DEADLINE: u64 = 2_000;
const CHECK_INTERVAL: u64 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { client: usize },
    Ends { batch: usize, is_express: bool },
    Check { call: usize },
}

struct Call {
    client: usize,
    lane: Lane,
    begun: u64,
    /// The texts; empty when the caller has left.
    texts: Vec<Arc<Flight>>,
    tokens: usize,
    left: usize,
}

struct Simulation<S> {
    speed: S,
    zero: Instant,
    /// The time in milliseconds.
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sent: u64,
    queue: BatchQueue,
    pace: Pace,
    idle: usize,
    express_is_idle: bool,
    batches: Vec<Option<Batch>>,
    calls: Vec<Call>,
    call_of: HashMap<*const Flight, usize>,
    result: Results,
}

#[derive(Debug, Default)]
struct Results {
    /// Tokens that were computed.
    computed: usize,
    /// Tokens that were answered in time.
    useful: usize,
    answered: usize,
    refused: usize,
    late: usize,
    /// The milliseconds of each call of the patient client.
    patient: Vec<u64>,
}

impl Results {
    fn goodput(&self) -> f64 {
        self.useful as f64 / self.computed as f64
    }

    /// The milliseconds within which this percentage of the patient client's calls is answered.
    fn patient(&mut self, percent: usize) -> u64 {
        self.patient.sort_unstable();
        self.patient[self.patient.len() * percent / 100]
    }
}

/// Simulates `seconds`. `speed` returns the fraction of the full speed at a second.
fn simulate(seconds: u64, speed: impl Fn(u64) -> f64) -> Results {
    let zero = Instant::now();
    let mut simulation = Simulation {
        speed,
        zero,
        now: 0,
        events: BinaryHeap::new(),
        sent: 0,
        queue: BatchQueue::new(BATCH_TOKENS, WORKERS),
        pace: Pace::new(zero),
        idle: WORKERS,
        express_is_idle: true,
        batches: Vec::new(),
        calls: Vec::new(),
        call_of: HashMap::new(),
        result: Results::default(),
    };
    // The speed is known before the overload begins.
    simulation.pace.set_rate(TOKENS_A_SECOND * WORKERS as f64 * (simulation.speed)(0));
    (0..=CLIENTS).for_each(|client| simulation.at(1_000 + client as u64, Event::Arrives { client }));
    while let Some(Reverse((now, _, event))) = simulation.events.pop().filter(|event| event.0.0 < seconds * 1_000) {
        simulation.now = now;
        match event {
            Event::Arrives { client } => simulation.arrives(client),
            Event::Ends { batch, is_express } => simulation.ends(batch, is_express),
            Event::Check { call } => simulation.check(call),
        }
    }
    simulation.result
}

impl<S: Fn(u64) -> f64> Simulation<S> {
    fn at(&mut self, time: u64, event: Event) {
        self.sent += 1;
        self.events.push(Reverse((time, self.sent, event)));
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_millis(self.now)
    }

    fn random(&self, below: u64) -> u64 {
        (self.sent.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % below
    }

    /// The time in which a client does something else.
    fn pause(&self) -> u64 {
        5 + self.random(15)
    }

    fn arrives(&mut self, client: usize) {
        let n = if client == PATIENT { 1 } else { [1, 16, 256][self.random(3) as usize] };
        let lengths: Vec<usize> = (0..n).map(|text| 20 + (text * 5 + client) % 7).collect();
        let tokens = lengths.iter().sum();
        let is_quiet = self.queue.ask(Caller::of_connection(client as u64), tokens);
        let lane = Lane::of(tokens, BATCH_TOKENS, is_quiet);
        let needed = self.pace.estimate_time(tokens, lane, self.instant());
        if client != PATIENT && !Pace::is_in_time(needed, Duration::from_millis(DEADLINE)) {
            self.result.refused += 1;
            return self.at(self.now + 50 + self.pause(), Event::Arrives { client });
        }
        let texts: Vec<_> = lengths.into_iter().map(|tokens| flight(tokens).0).collect();
        let call = self.calls.len();
        self.call_of.extend(texts.iter().map(|text| (Arc::as_ptr(text), call)));
        self.pace.add_waiting(tokens, lane);
        self.queue.push(lane, CallTexts { flights: &texts, has_deadline: client != PATIENT }, self.instant());
        self.calls.push(Call { client, lane, begun: self.now, texts, tokens, left: tokens });
        if client != PATIENT {
            self.at(self.now + CHECK_INTERVAL, Event::Check { call });
        }
        self.work();
    }

    fn work(&mut self) {
        while self.idle > 0
            && let Some(batch) = self.queue.next_batch(self.instant())
        {
            self.idle -= 1;
            self.begins(batch, false);
        }
        if self.idle == 0
            && self.express_is_idle
            && let Some(batch) = self.queue.next_express()
        {
            self.express_is_idle = false;
            self.begins(batch, true);
        }
    }

    fn begins(&mut self, batch: Batch, is_express: bool) {
        self.pace.batch_started(self.instant());
        let seconds = batch.tokens() as f64 / TOKENS_A_SECOND / (self.speed)(self.now / 1_000);
        let ends = Event::Ends { batch: self.batches.len(), is_express };
        self.at(self.now + 1 + (seconds * 1_000.0) as u64, ends);
        self.batches.push(Some(batch));
    }

    fn ends(&mut self, batch: usize, is_express: bool) {
        if is_express {
            self.express_is_idle = true;
        } else {
            self.idle += 1;
        }
        let Batch { lane, jobs } = self.batches[batch].take().expect("a batch ends once");
        let lengths: Vec<usize> = jobs.iter().map(|job| job.sequence().ids.len()).collect();
        self.result.computed += lengths.iter().sum::<usize>();
        self.pace.batch_finished(lengths.iter().sum(), lane, self.instant());
        for (job, tokens) in jobs.iter().zip(lengths) {
            let number = self.call_of.remove(&std::ptr::from_ref(job.flight())).expect("a text has a call");
            let call = &mut self.calls[number];
            if call.texts.is_empty() {
                continue; // its caller has left
            }
            call.left -= tokens;
            self.pace.remove_waiting(tokens, call.lane);
            if call.left == 0 {
                let Call { client, begun, tokens, .. } = *call;
                call.texts.clear();
                self.result.useful += tokens;
                self.result.answered += 1;
                if client == PATIENT {
                    self.result.patient.push(self.now - begun);
                }
                let pause = if client == PATIENT { 250 } else { self.pause() };
                self.at(self.now + pause, Event::Arrives { client });
            }
        }
        self.work();
    }

    fn check(&mut self, number: usize) {
        let call = &mut self.calls[number];
        if call.texts.is_empty() {
            return;
        }
        let left = (call.begun + DEADLINE).saturating_sub(self.now);
        if left > 0 && self.pace.estimate_time_alone(call.left) <= Duration::from_millis(left) {
            return self.at(self.now + CHECK_INTERVAL.min(left), Event::Check { call: number });
        }
        call.texts.clear();
        let client = call.client;
        self.pace.remove_waiting(call.left, call.lane);
        self.result.late += 1;
        self.at(self.now + 50 + self.pause(), Event::Arrives { client });
    }
}

#[test]
fn nearly_all_work_is_answered_in_time_while_clients_send_many_times_the_work_that_can_be_done() {
    let mut at_full_speed = simulate(20, |_| 1.0);
    assert!(at_full_speed.goodput() > 0.9 && at_full_speed.patient(50) <= 10, "{at_full_speed:?}");
    let mut at_half_speed = simulate(20, |_| 0.5);
    assert!(at_half_speed.goodput() > 0.9 && at_half_speed.patient(50) <= 20, "{at_half_speed:?}");
    let mut shared = simulate(20, |second| [1.0, 0.4, 0.8, 0.3][(second % 4) as usize]);
    assert!(shared.goodput() > 0.8 && shared.patient(50) <= 30, "{shared:?}");
    for result in [&mut at_full_speed, &mut at_half_speed, &mut shared] {
        // Alone, a text takes 5 to 16 ms.
        assert!(result.patient(95) <= 100, "{} ms", result.patient(95));
    }
    for Results { answered, refused, late, .. } in [at_full_speed, at_half_speed, shared] {
        assert!(answered > 0 && refused > 10 * late, "{answered} answered, {refused} refused, {late} late");
    }
}

#[test]
fn large_calls_are_admitted_if_small_ones_leave_them_time() {
    let now = Instant::now();
    let pace = Pace::new(now);
    let is_in_time =
        |tokens, lane, now| Pace::is_in_time(pace.estimate_time(tokens, lane, now), Duration::from_secs(2));
    pace.add_waiting(400, Lane::Interactive);
    pace.set_rate(9_000.0);
    assert!(is_in_time(6_000, Lane::Bulk, now));
    // Small calls take all the speed of the model.
    pace.batch_finished(9_000, Lane::Interactive, now);
    pace.set_rate(9_000.0);
    assert!(!is_in_time(6_000, Lane::Bulk, now) && is_in_time(400, Lane::Interactive, now));
    assert!(is_in_time(6_000, Lane::Bulk, now + Duration::from_secs(30)), "they have left");
}
