//! Tests of the order, the size and the division of batches.

use super::super::flight::tests::flight;
use super::*;

fn fill(queue: &mut BatchQueue, lane: Lane, lengths: &[usize], now: Instant) -> Vec<Arc<Flight>> {
    let flights: Vec<_> = lengths.iter().map(|&n| flight(n).0).collect();
    queue.push(lane, patient(&flights), now);
    flights
}

/// The texts of a call without a deadline.
fn patient<I>(flights: I) -> CallTexts<I> {
    CallTexts { terms: unary(0), asked: 0, flights }
}

/// The terms of a unary call without a deadline.
fn unary(caller: u64) -> Terms {
    Terms { caller: Caller::of_connection(caller), when_full: WhenFull::Refuse(Deadline::NONE) }
}

/// The terms of a stream.
fn stream(caller: u64) -> Terms {
    Terms { when_full: WhenFull::Wait, ..unary(caller) }
}

fn lengths(batch: Option<Batch>) -> Vec<usize> {
    batch.into_iter().flat_map(|batch| batch.jobs).map(|job| job.sequence().ids.len()).collect()
}

#[test]
fn similar_lengths_go_together_and_the_oldest_text_goes_first() {
    let (mut queue, now) = (BatchQueue::new(300, 1), Instant::now());
    let _callers = fill(&mut queue, Lane::Bulk, &[100, 5, 101, 6, 99, 4], now);
    assert_eq!(lengths(queue.next_batch(now)), [100, 101]);
    assert_eq!(lengths(queue.next_batch(now)), [5, 6, 4]);
    assert_eq!(lengths(queue.next_batch(now)), [99]);
}

#[test]
fn a_text_of_a_rare_length_is_not_passed_over() {
    let (mut queue, now) = (BatchQueue::new(100, 1), Instant::now());
    let mut callers = fill(&mut queue, Lane::Bulk, &[50, 50, 3], now);
    let mut batches = 0;
    // Texts of the common length keep coming.
    while !callers[2].is_taken() {
        callers.extend(fill(&mut queue, Lane::Bulk, &[50, 50, 50, 50], now));
        assert!(queue.next_batch(now).is_some());
        batches += 1;
    }
    assert_eq!(batches, 2);
}

#[test]
fn a_padded_batch_keeps_to_the_budget_unless_one_text_alone_exceeds_it() {
    let (mut queue, now) = (BatchQueue::new(256, 1), Instant::now());
    let mut lengths_in = vec![512, 30, 200, 31, 90, 90, 90, 1, 64, 64, 64, 64, 64];
    let _callers = fill(&mut queue, Lane::Bulk, &lengths_in, now);
    let mut seen = Vec::new();
    while let Some(batch) = queue.next_batch(now) {
        let sizes = lengths(Some(batch));
        let padded = sizes.iter().max().unwrap() * sizes.len();
        assert!(padded <= 256 || sizes.len() == 1, "{sizes:?}");
        seen.extend(sizes);
    }
    seen.sort_unstable();
    lengths_in.sort_unstable();
    assert_eq!(seen, lengths_in);
    assert_eq!(queue.lanes[Lane::Bulk as usize].tokens, 0);
}

#[test]
fn waiting_work_is_shared_between_idle_workers() {
    let (mut queue, now) = (BatchQueue::new(4096, 2), Instant::now());
    let _callers = fill(&mut queue, Lane::Interactive, &[64; 16], now);
    assert_eq!(lengths(queue.next_batch(now)).len(), 8);
}

#[test]
fn small_calls_go_first_and_bulk_has_every_fourth_batch() {
    let (mut queue, now) = (BatchQueue::new(10, 1), Instant::now());
    let _bulk = fill(&mut queue, Lane::Bulk, &[71; 2], now);
    let _interactive = fill(&mut queue, Lane::Interactive, &[70; 6], now);
    let order: Vec<usize> = (0..8).flat_map(|_| lengths(queue.next_batch(now))).collect();
    assert_eq!(order, [70, 70, 70, 71, 70, 70, 70, 71]);
}

#[test]
fn short_calls_go_before_all_others_and_each_lane_has_its_guaranteed_share() {
    let (mut queue, now) = (BatchQueue::new(10, 1), Instant::now());
    let _bulk = fill(&mut queue, Lane::Bulk, &[73; 9], now);
    let _interactive = fill(&mut queue, Lane::Interactive, &[72; 9], now);
    let _short = fill(&mut queue, Lane::Short, &[71; 9], now);
    let order: Vec<usize> = (0..9).flat_map(|_| lengths(queue.next_batch(now))).collect();
    assert_eq!(order, [71, 71, 71, 73, 72, 71, 71, 73, 72]);
}

#[test]
fn a_caller_with_one_call_at_a_time_is_served_within_two_batches_while_64_others_keep_four_each_waiting() {
    let (mut queue, now) = (BatchQueue::new(512, 1), Instant::now());
    let call = |queue: &mut BatchQueue, caller| {
        let Standing { asked, is_quiet, .. } = queue.ask(unary(caller), 24);
        let (lane, flight) = (Lane::of(24, 512, is_quiet), flight(24).0);
        queue.push(lane, CallTexts { terms: unary(caller), asked, flights: [&flight] }, now);
        (caller, flight)
    };
    let mut flood: Vec<_> = (0..256).map(|n| call(&mut queue, n % 64)).collect();
    let mut batch = |queue: &mut BatchQueue| {
        assert!(queue.next_batch(now).is_some());
        flood
            .iter_mut()
            .filter(|(_, flight)| flight.is_taken())
            .for_each(|of_flood| *of_flood = call(queue, of_flood.0));
    };
    // At first nobody knows who will ask for much.
    (0..16).for_each(|_| batch(&mut queue));
    for round in 0..100 {
        let (_, quiet) = call(&mut queue, 64);
        let batches = (0..100).take_while(|_| !quiet.is_taken()).inspect(|_| batch(&mut queue)).count();
        assert!(batches <= 2, "{batches} batches in round {round}");
        (0..6).for_each(|_| batch(&mut queue));
    }
}

#[test]
fn streams_share_the_bulk_lane_evenly_however_much_one_of_them_has_waiting() {
    let (mut queue, now) = (BatchQueue::new(10, 1), Instant::now());
    let mut push = |caller, texts| {
        let flights: Vec<_> = (0..texts).map(|_| flight(10 + caller as usize).0).collect();
        queue.push(Lane::Bulk, CallTexts { terms: stream(caller), asked: 0, flights: &flights }, now);
        flights
    };
    let _callers = [push(0, 1_000), push(1, 5), push(2, 3)];
    let order: Vec<usize> = (0..16).flat_map(|_| lengths(queue.next_batch(now))).collect();
    let given = |n: usize| [10, 11, 12].map(|tokens| order[..n].iter().filter(|text| **text == tokens).count());
    assert_eq!((given(9), given(16)), ([3, 3, 3], [8, 5, 3]));
}

#[test]
fn a_unary_call_is_not_divided_by_those_of_other_callers() {
    let (mut queue, now) = (BatchQueue::new(10, 1), Instant::now());
    let calls: Vec<Vec<_>> = (0..3).map(|call| (0..3).map(|_| flight(20 + call).0).collect()).collect();
    for (caller, flights) in [(0, &calls[0]), (0, &calls[1]), (1, &calls[2])] {
        queue.push(Lane::Interactive, CallTexts { terms: unary(caller), asked: 0, flights }, now);
    }
    let order: Vec<usize> = (0..9).flat_map(|_| lengths(queue.next_batch(now))).collect();
    assert_eq!(
        order,
        [20, 20, 20, 22, 22, 22, 21, 21, 21],
        "the other caller goes before the second call of the first"
    );
}

proptest::proptest! {
    #[test]
    fn callers_that_have_texts_waiting_are_served_in_turn(
        texts in proptest::collection::vec(1_usize..40, 1..6),
        arrivals in proptest::collection::vec((0_usize..6, 1_usize..5), 0..20),
    ) {
        const TOKENS: usize = 10;
        let (mut queue, now) = (BatchQueue::new(TOKENS, 1), Instant::now());
        let mut callers: Vec<Vec<Arc<Flight>>> = vec![Vec::new(); 6];
        let push = |queue: &mut BatchQueue, callers: &mut Vec<Vec<Arc<Flight>>>, caller: usize, texts: usize| {
            let flights: Vec<_> = (0..texts).map(|_| flight(TOKENS).0).collect();
            let terms = stream(caller as u64);
            queue.push(Lane::Bulk, CallTexts { terms, asked: 0, flights: &flights }, now);
            callers[caller].extend(flights);
        };
        texts.iter().enumerate().for_each(|(caller, texts)| push(&mut queue, &mut callers, caller, *texts));
        let waits = |caller: &Vec<Arc<Flight>>| caller.iter().any(|flight| !flight.is_taken());
        let mut arrivals = arrivals.into_iter();
        // The texts of each caller since a caller began to wait.
        let mut given = [[0_i32; 6]; 6];
        loop {
            let waiting: Vec<bool> = callers.iter().map(waits).collect();
            let taken = |texts: &Vec<Arc<Flight>>| texts.iter().filter(|text| text.is_taken()).count();
            let before: Vec<usize> = callers.iter().map(taken).collect();
            if queue.next_batch(now).is_none() {
                break;
            }
            for (caller, texts) in callers.iter().enumerate() {
                let more = taken(texts) - before[caller];
                (0..6).for_each(|other| given[other][caller] += more as i32);
            }
            for (caller, waits) in waiting.iter().enumerate() {
                if !waits {
                    given[caller] = [0; 6];
                }
                let most = *given[caller].iter().max().expect("there are callers");
                assert!(most - given[caller][caller] <= 2, "{given:?}");
            }
            if let Some((caller, texts)) = arrivals.next() {
                push(&mut queue, &mut callers, caller, texts);
            }
        }
    }
}

#[test]
fn the_worker_of_the_express_lane_gets_a_quarter_of_a_batch_for_each_batch_of_others() {
    let (mut queue, now) = (BatchQueue::new(80, 1), Instant::now());
    let _short = fill(&mut queue, Lane::Short, &[10; 99], now);
    let _express = fill(&mut queue, Lane::Express, &[9; 99], now);
    for _ in 0..3 {
        assert_eq!(lengths(queue.next_express()), [9, 9]);
        assert_eq!(lengths(queue.next_express()), [9]);
        assert!(!queue.has_express() && queue.next_express().is_none());
        assert!(queue.next_batch(now).is_some() && queue.has_express());
    }
    assert_eq!(lengths(queue.next_batch(now)), [10; 8], "the other lanes have their turn");
}

#[test]
fn the_next_call_begins_when_a_call_with_a_deadline_has_all_its_texts_in_batches() {
    let (mut queue, now) = (BatchQueue::new(110, 1), Instant::now());
    let terms = Terms { when_full: WhenFull::Refuse(Deadline::at(now)), ..unary(0) };
    let calls: Vec<Vec<_>> = (0..2).map(|call| [50, 54, 52, 51].iter().map(|n| flight(n + call).0).collect()).collect();
    for call in &calls {
        queue.push(Lane::Bulk, CallTexts { terms, asked: 0, flights: call }, now);
    }
    assert_eq!(lengths(queue.next_batch(now)), [50, 51]);
    assert_eq!(lengths(queue.next_batch(now)), [54, 52]);
    assert_eq!(lengths(queue.next_batch(now)), [51, 52]);
    assert_eq!(lengths(queue.next_batch(now)), [55, 53]);
}

#[test]
fn bulk_goes_next_when_its_patience_ends_and_then_waits_again() {
    let (mut queue, begun) = (BatchQueue::new(10, 1), Instant::now());
    let at = |ms: u64| begun + Duration::from_millis(ms);
    let _bulk = fill(&mut queue, Lane::Bulk, &[71; 9], begun);
    let _interactive = fill(&mut queue, Lane::Interactive, &[70; 9], begun);
    // One worker whose batches take 300 ms each.
    let order: Vec<usize> = (0..6).flat_map(|n| lengths(queue.next_batch(at(300 * n)))).collect();
    assert_eq!(order, [70, 70, 71, 70, 71, 70]);
    // A backlog that is older than the patience does not delay small calls.
    assert_eq!(lengths(queue.next_batch(at(60_000))), [71]);
    assert_eq!(lengths(queue.next_batch(at(60_001))), [70]);
}

#[test]
fn a_text_whose_callers_left_is_not_computed() {
    let (mut queue, now) = (BatchQueue::new(1024, 1), Instant::now());
    let mut callers = fill(&mut queue, Lane::Bulk, &[20, 21, 22, 23], now);
    callers.remove(2);
    callers.remove(0);
    assert_eq!(lengths(queue.next_batch(now)), [21, 23]);
    drop(fill(&mut queue, Lane::Interactive, &[5; 3], now));
    assert!(queue.next_batch(now).is_none());
    assert_eq!((queue.lanes[Lane::Interactive as usize].tokens, queue.lanes[Lane::Bulk as usize].tokens), (0, 0));
}

#[test]
fn a_caller_who_leaves_frees_its_tokens_at_once_however_deep_in_the_queue() {
    let (mut queue, now) = (BatchQueue::new(64, 1), Instant::now());
    let _before = fill(&mut queue, Lane::Bulk, &[60; 2000], now);
    let (deep, semaphore) = flight(60);
    queue.push(Lane::Bulk, patient([&deep]), now);
    assert_eq!(semaphore.available_permits(), 0);
    drop(deep);
    assert_eq!(semaphore.available_permits(), 60);
}

#[test]
fn the_entries_of_callers_who_left_are_bounded() {
    let (mut queue, now) = (BatchQueue::new(64, 1), Instant::now());
    let _waiting = fill(&mut queue, Lane::Bulk, &[9; 3000], now);
    for _ in 0..100 {
        drop(fill(&mut queue, Lane::Bulk, &[7; 1000], now));
        // 1000 of those that leave were there at the sweep.
        assert!(
            queue.lanes[Lane::Bulk as usize].entries.len() <= 2 * (3000 + 1000),
            "{} entries",
            queue.lanes[Lane::Bulk as usize].entries.len()
        );
    }
    let counted: usize = queue.lanes[Lane::Bulk as usize].entries.values().map(|entry| entry.tokens).sum();
    assert_eq!(queue.lanes[Lane::Bulk as usize].tokens, counted);
}

#[test]
fn a_bulk_text_that_a_small_call_wants_too_overtakes_and_is_computed_once() {
    let (mut queue, now) = (BatchQueue::new(10, 1), Instant::now());
    let bulk = fill(&mut queue, Lane::Bulk, &[50, 51, 52], now);
    queue.push(Lane::Interactive, patient([&bulk[2]]), now);
    queue.push(Lane::Interactive, patient([&bulk[2]]), now);
    queue.push(Lane::Bulk, patient([&bulk[2]]), now);
    assert_eq!(
        (queue.lanes[Lane::Interactive as usize].entries.len(), queue.lanes[Lane::Bulk as usize].entries.len()),
        (1, 3)
    );
    let order: Vec<usize> =
        std::iter::from_fn(|| queue.next_batch(now)).flat_map(|batch| lengths(Some(batch))).collect();
    assert_eq!(order, [52, 50, 51]);
    queue.push(Lane::Interactive, patient(&bulk), now);
    assert!(queue.next_batch(now).is_none(), "a text that a worker has is not queued again");
}
