//! A simulation of lanes, shares, batches and admission under load. Its clock is only a number.
//!
//! Clients send calls to two workers and wait for the answers. A third worker serves the express lane, and takes a core
//! from another one meanwhile. The speed of the workers is a function of time, because a shared machine is sometimes
//! slow.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_queue::{Batch, BatchQueue, CallTexts, Standing};
use super::flight::Flight;
use super::flight::tests::flight;
use super::lane::Lane;
use super::pace::{Pace, Position};
use crate::compute::{Caller, Deadline, Terms, WhenFull};

const WORKERS: usize = 2;
const TOKENS_A_SECOND: f64 = 4_550.0;
/// The milliseconds that a run of the model takes beside its tokens.
const RUN: f64 = 1.0;
const BATCH_TOKENS: usize = 512;
const CHECK_INTERVAL: u64 = 50;

/// A client that sends a call, waits for its answer and pauses.
#[derive(Clone)]
struct Client {
    /// The caller that it counts as.
    caller: u64,
    /// The numbers of texts in its calls, of which each is as likely.
    sizes: &'static [usize],
    /// The least and the most tokens of its texts.
    tokens: (usize, usize),
    /// The milliseconds within which it wants an answer.
    deadline: Option<u64>,
    /// The least milliseconds between two calls. It may be 15 more.
    pause: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { client: usize },
    Ends { batch: usize },
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

struct Running {
    batch: Batch,
    is_express: bool,
    ends: f64,
}

struct Simulation<'a, S> {
    clients: &'a [Client],
    speed: S,
    estimate: f64,
    zero: Instant,
    /// The time in milliseconds.
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sent: u64,
    queue: BatchQueue,
    pace: Pace,
    idle: usize,
    express_is_idle: bool,
    batches: Vec<Option<Running>>,
    calls: Vec<Call>,
    call_of: HashMap<*const Flight, usize>,
    result: Results,
}

#[derive(Default)]
struct Results {
    /// Tokens that were computed.
    computed: usize,
    /// Tokens that were answered in time.
    useful: usize,
    refused: usize,
    late: usize,
    /// The caller and the milliseconds of each call that was answered.
    answered: Vec<(u64, u64)>,
}

impl Results {
    fn goodput(&self) -> f64 {
        self.useful as f64 / self.computed as f64
    }

    /// The milliseconds within which this percentage of the calls of some callers is answered.
    fn percentile(&self, percent: usize, callers: impl Fn(u64) -> bool) -> u64 {
        let calls = self.answered.iter().filter(|(caller, _)| callers(*caller));
        let mut calls: Vec<u64> = calls.map(|(_, took)| *took).collect();
        calls.sort_unstable();
        calls[calls.len() * percent / 100]
    }
}

/// Simulates `seconds`. A caller is thought to ask for `estimate` times its tokens. `speed` returns the fraction of the
/// full speed at a second.
fn simulate(clients: &[Client], seconds: u64, estimate: f64, speed: impl Fn(u64) -> f64) -> Results {
    let zero = Instant::now();
    let mut simulation = Simulation {
        clients,
        speed,
        estimate,
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
    (0..clients.len()).for_each(|client| simulation.at(1_000 + client as u64, Event::Arrives { client }));
    while let Some(Reverse((now, _, event))) = simulation.events.pop().filter(|event| event.0.0 < seconds * 1_000) {
        simulation.now = now;
        match event {
            Event::Arrives { client } => simulation.arrives(client),
            Event::Ends { batch } => simulation.ends(batch),
            Event::Check { call } => simulation.check(call),
        }
    }
    simulation.result
}

impl<S: Fn(u64) -> f64> Simulation<'_, S> {
    fn at(&mut self, time: u64, event: Event) {
        self.sent += 1;
        self.events.push(Reverse((time, self.sent, event)));
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_millis(self.now)
    }

    fn random(&self, below: usize) -> usize {
        (self.sent.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % below
    }

    /// Sends the next call of a client after its pause.
    fn goes_on(&mut self, client: usize, after: u64) {
        let pause = self.clients[client].pause + self.random(15) as u64;
        self.at(self.now + after + pause, Event::Arrives { client });
    }

    fn arrives(&mut self, client: usize) {
        let Client { caller, sizes, tokens: (least, most), deadline, .. } = self.clients[client].clone();
        let n = sizes[self.random(sizes.len())];
        let lengths: Vec<usize> =
            (0..n).map(|text| least + (self.random(97) + 5 * text) % (most - least + 1)).collect();
        let tokens = lengths.iter().sum();
        let caller = Caller::of_connection(caller);
        let when = deadline.map_or(Deadline::NONE, |ms| Deadline::at(self.instant() + Duration::from_millis(ms)));
        let terms = Terms { caller, when_full: WhenFull::Refuse(when) };
        let Standing { asked, is_quiet, before } = self.queue.ask(terms, (tokens as f64 * self.estimate) as usize);
        let lane = Lane::of(tokens, BATCH_TOKENS, is_quiet);
        let needed = self.pace.estimate_time(tokens, Position { lane, before }, self.instant());
        if deadline.is_some_and(|deadline| !Pace::is_in_time(needed, Duration::from_millis(deadline))) {
            self.result.refused += 1;
            return self.goes_on(client, 50);
        }
        let texts: Vec<_> = lengths.into_iter().map(|tokens| flight(tokens).0).collect();
        let call = self.calls.len();
        self.call_of.extend(texts.iter().map(|text| (Arc::as_ptr(text), call)));
        self.pace.add_waiting(tokens, lane);
        self.queue.push(lane, CallTexts { terms, asked, flights: &texts }, self.instant());
        self.calls.push(Call { client, lane, begun: self.now, texts, tokens, left: tokens });
        if deadline.is_some() {
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
        let takes = RUN + seconds * 1_000.0;
        // The worker of the express lane takes a core from another worker.
        if is_express && let Some(other) = self.batches.iter_mut().rev().flatten().next() {
            other.ends += takes;
        }
        let ends = self.now as f64 + takes;
        self.at(ends.ceil() as u64, Event::Ends { batch: self.batches.len() });
        self.batches.push(Some(Running { batch, is_express, ends }));
    }

    fn ends(&mut self, batch: usize) {
        let running = self.batches[batch].take_if(|running| running.ends <= self.now as f64);
        let Some(Running { batch: Batch { lane, jobs }, is_express, .. }) = running else {
            let ends = self.batches[batch].as_ref().expect("a batch ends once").ends;
            return self.at(ends.ceil() as u64, Event::Ends { batch });
        };
        if is_express {
            self.express_is_idle = true;
        } else {
            self.idle += 1;
        }
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
                self.result.answered.push((self.clients[client].caller, self.now - begun));
                self.goes_on(client, 0);
            }
        }
        self.work();
    }

    fn check(&mut self, number: usize) {
        let call = &mut self.calls[number];
        if call.texts.is_empty() {
            return;
        }
        let deadline = self.clients[call.client].deadline.expect("only calls with a deadline are checked");
        let left = (call.begun + deadline).saturating_sub(self.now);
        if left > 0 && self.pace.estimate_time_alone(call.left) <= Duration::from_millis(left) {
            return self.at(self.now + CHECK_INTERVAL.min(left), Event::Check { call: number });
        }
        call.texts.clear();
        let client = call.client;
        self.pace.remove_waiting(call.left, call.lane);
        self.result.late += 1;
        self.goes_on(client, 50);
    }
}

/// A client that sends one text of 20 to 26 tokens at a time, without a pause.
const GREEDY: Client = Client { caller: 0, sizes: &[1], tokens: (20, 26), deadline: None, pause: 1 };

/// A client that sends calls of 1, 16 and 256 texts without a pause, and waits two seconds for each.
const FLOOD: Client = Client { sizes: &[1, 16, 256], deadline: Some(2_000), pause: 5, ..GREEDY };

/// A client that sends four texts a second. Alone, each takes 6 or 7 ms at full speed.
const QUIET: Client = Client { caller: 999, pause: 250, ..GREEDY };

/// A client that sends calls of 256 texts, each of 60 to 66 tokens, and waits for each.
const BULK: Client = Client { sizes: &[256], tokens: (60, 66), ..GREEDY };

/// `n` clients, of which each counts as a caller.
fn callers(n: u64, client: &Client) -> Vec<Client> {
    (0..n).map(|caller| Client { caller, ..client.clone() }).collect()
}

/// `n` clients that all count as one caller.
fn one_caller(n: usize, client: &Client) -> Vec<Client> {
    vec![client.clone(); n]
}

fn with_quiet(clients: Vec<Client>) -> Vec<Client> {
    [clients, vec![QUIET]].concat()
}

fn is_quiet(caller: u64) -> bool {
    caller == QUIET.caller
}

#[test]
fn nearly_all_work_is_answered_in_time_while_clients_send_many_times_the_work_that_can_be_done() {
    let clients = with_quiet(callers(64, &FLOOD));
    let at_full_speed = simulate(&clients, 20, 1.0, |_| 1.0);
    assert!(at_full_speed.goodput() > 0.9 && at_full_speed.percentile(50, is_quiet) <= 10);
    let at_half_speed = simulate(&clients, 20, 1.0, |_| 0.5);
    assert!(at_half_speed.goodput() > 0.9 && at_half_speed.percentile(50, is_quiet) <= 20);
    let shared = simulate(&clients, 20, 1.0, |second| [1.0, 0.4, 0.8, 0.3][(second % 4) as usize]);
    assert!(shared.goodput() > 0.8 && shared.percentile(50, is_quiet) <= 30);
    for result in [at_full_speed, at_half_speed, shared] {
        let late = result.percentile(95, is_quiet);
        assert!(late <= 100, "{late} ms");
        let (answered, Results { refused, late, .. }) = (result.answered.len(), result);
        assert!(answered > 0 && refused > 10 * late, "{answered} answered, {refused} refused, {late} late");
    }
}

#[test]
fn equal_callers_wait_as_long_as_in_a_queue_that_knows_no_callers() {
    for client in [GREEDY, Client { tokens: (8, 60), ..GREEDY }, Client { pause: 30, ..GREEDY }] {
        let as_one = simulate(&one_caller(32, &client), 20, 1.0, |_| 1.0);
        // The tokens that a caller asks for are an estimate.
        for estimate in [0.8, 1.0, 1.3] {
            let equal = simulate(&callers(32, &client), 20, estimate, |_| 1.0);
            let [equal_late, late] = [&equal, &as_one].map(|result| result.percentile(99, |_| true));
            assert!(equal_late as f64 <= 1.1 * late as f64, "{equal_late} and {late} ms at {estimate}");
            assert!(equal.computed as f64 >= 0.98 * as_one.computed as f64, "{} tokens", equal.computed);
        }
    }
}

#[test]
fn a_quiet_caller_beside_one_that_floods_waits_at_most_twice_as_long_as_alone() {
    let alone = simulate(&[QUIET], 30, 1.0, |_| 1.0).percentile(99, is_quiet);
    for (n, flood) in [(64, FLOOD), (256, GREEDY), (64, Client { sizes: &[16], ..GREEDY }), (16, BULK)] {
        let beside = simulate(&with_quiet(one_caller(n, &flood)), 30, 1.0, |_| 1.0).percentile(99, is_quiet);
        assert!(beside <= 2 * alone, "{beside} ms beside {n} clients, and {alone} ms alone");
    }
}

#[test]
fn a_caller_of_twenty_texts_a_second_does_not_wait_for_the_batches_of_large_calls() {
    let often = Client { pause: 45, ..QUIET };
    let alone = simulate(std::slice::from_ref(&often), 30, 1.0, |_| 1.0).percentile(99, is_quiet);
    for (n, sizes) in [(1, &[256]), (16, &[256]), (64, &[64]), (256, &[16])] {
        let clients = [one_caller(n, &Client { sizes, ..BULK }), vec![often.clone()]].concat();
        for estimate in [0.8, 1.0, 1.3] {
            let beside = simulate(&clients, 30, estimate, |_| 1.0).percentile(99, is_quiet);
            assert!(beside <= 2 * alone, "{beside} ms beside {n} clients at {estimate}, and {alone} ms alone");
        }
    }
}

#[test]
fn large_calls_are_admitted_if_small_ones_leave_them_time() {
    let now = Instant::now();
    let pace = Pace::new(now);
    let is_in_time = |tokens, lane: Lane, now| {
        Pace::is_in_time(pace.estimate_time(tokens, lane.into(), now), Duration::from_secs(2))
    };
    pace.add_waiting(400, Lane::Interactive);
    pace.set_rate(9_000.0);
    assert!(is_in_time(6_000, Lane::Bulk, now));
    // Small calls take all the speed of the model.
    pace.batch_finished(9_000, Lane::Interactive, now);
    pace.set_rate(9_000.0);
    assert!(!is_in_time(6_000, Lane::Bulk, now) && is_in_time(400, Lane::Interactive, now));
    assert!(is_in_time(6_000, Lane::Bulk, now + Duration::from_secs(30)), "they have left");
}
