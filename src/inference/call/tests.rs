use super::super::Open;
use super::super::cache::Cache;
use super::super::flight::Job;
use super::super::key::Keys;
use super::super::pace::Pace;
use super::super::scheduler::{Scheduler, Work};
use super::super::single_flight::SingleFlight;
use super::super::token_budget::TokenBudget;
use super::super::tokenizer::tests::tokenizer;
use super::*;
use crate::compute::{Caller, Pools};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, poll};

const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

const QUEUE_TOKENS: usize = 1000;

/// An embedder that reads 8 tokens of a text and has no workers: [`work`] takes their part.
fn shared(cache_bytes: usize) -> Shared {
    Shared {
        model: 0,
        tokenizer: Arc::new(tokenizer(8)),
        keys: Keys::new("model"),
        batch_tokens: 100,
        pools: Pools::new(1),
        single_flight: Arc::new(SingleFlight::new(Cache::new(cache_bytes, 1))),
        token_budget: Arc::new(TokenBudget::new(QUEUE_TOKENS, Pace::new(std::time::Instant::now()))),
        scheduler: Arc::new(Open(Arc::new(Scheduler::new(&[100], 1)))),
        counters: Arc::default(),
    }
}

type Results = Vec<Result<Output, TextError>>;
type Call<'a> = LocalBoxFuture<'a, Result<Results, Overloaded>>;

fn call<'a>(shared: &'a Shared, texts: &[&str], truncation: Truncation, when_full: WhenFull) -> Call<'a> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    shared.run(texts, Before::Prompt(""), truncation, when_full.into()).boxed_local()
}

fn small<'a>(shared: &'a Shared, texts: &[&str]) -> Call<'a> {
    call(shared, texts, Truncation::End, REFUSE)
}

/// Polls a call until `text`, one of its texts, is in the queue.
async fn queued(call: &mut Call<'_>, shared: &Shared, text: &str) {
    let key = shared.keys.key(text);
    while shared.single_flight.look_up(&[key])[0].is_none() {
        assert!(poll!(&mut *call).is_pending());
        tokio::task::yield_now().await;
    }
}

/// Takes the next batch, if there is one.
fn take(shared: &Shared) -> Option<Vec<Job>> {
    let teams = [Arc::default()];
    match shared.scheduler.take(&teams)? {
        Work::Batch(turn) => {
            shared.scheduler.finish(&turn, &teams, Duration::ZERO);
            Some(turn.batch.jobs)
        }
        Work::Help(..) => panic!("nobody else has a batch"),
    }
}

/// Computes the queued texts and returns their number. The vector of a text is its number of tokens.
fn work(shared: &Shared) -> usize {
    shared.scheduler.close(); // so that a worker does not wait for more work
    let batches: Vec<_> = std::iter::from_fn(|| take(shared)).collect();
    let complete = |job: &Job| shared.single_flight.complete(job.flight(), Ok(vec![job.sequence().ids.len() as f32]));
    batches.iter().flatten().map(complete).count()
}

fn budget_is_free(shared: &Shared) -> bool {
    shared
        .token_budget
        .acquire(QUEUE_TOKENS, Lane::Interactive, REFUSE)
        .now_or_never()
        .is_some_and(|entered| entered.is_ok())
}

#[tokio::test]
async fn calls_share_a_text_that_is_queued_or_computed_and_get_the_same_vector() {
    let shared = shared(0);
    let mut first = small(&shared, &["cat"]);
    queued(&mut first, &shared, "cat").await;
    let mut second = small(&shared, &["cat"]);
    assert!(poll!(&mut second).is_pending());
    let batch = take(&shared).expect("it is queued");
    let mut third = small(&shared, &["cat"]);
    assert!(poll!(&mut third).is_pending());
    assert_eq!(batch.len(), 1);
    shared.single_flight.complete(batch[0].flight(), Ok(vec![0.5]));
    let vector = vec![Ok(Output { values: vec![0.5], tokens: 3, tokens_total: 3 })];
    assert_eq!(tokio::join!(first, second, third), (Ok(vector.clone()), Ok(vector.clone()), Ok(vector)));
    assert_eq!(work(&shared), 0);
}

#[tokio::test]
async fn a_principal_shares_a_text_with_itself_and_with_nobody_else() {
    let shared = shared(1 << 20);
    let keys = |name| shared.keys.of(Caller::of_principal(name));
    let ask = |name| {
        let terms = Terms { caller: Caller::of_principal(name), when_full: REFUSE };
        shared.run(vec!["cat".to_owned()], Before::Prompt(""), Truncation::End, terms).boxed_local()
    };
    let mut calls = [ask("a"), ask("a"), ask("b")];
    for (call, name) in calls.iter_mut().zip(["a", "a", "b"]) {
        while shared.single_flight.look_up(&[keys(name).key("cat")])[0].is_none() {
            assert!(poll!(&mut *call).is_pending());
            tokio::task::yield_now().await;
        }
        assert!(poll!(&mut *call).is_pending());
    }
    assert_eq!(work(&shared), 2, "one for each principal");
    for call in calls {
        assert!(call.await.unwrap()[0].is_ok());
    }
    let cached = |name| matches!(shared.single_flight.look_up(&[keys(name).key("cat")])[0], Some(Lookup::Cached(_)));
    assert!(cached("a") && cached("b") && !cached("c"));
}

#[tokio::test]
async fn a_text_that_repeats_inside_a_call_is_computed_once_and_answered_in_each_place() {
    let shared = shared(0);
    let mut twice = small(&shared, &["cat", "cats", "cat"]);
    queued(&mut twice, &shared, "cats").await;
    assert_eq!(work(&shared), 2);
    let values: Vec<_> = twice.await.unwrap().into_iter().map(|result| result.unwrap().values[0]).collect();
    assert_eq!(values, [3.0, 4.0, 3.0]);
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_nothing_from_others_and_the_last_one_frees_everything() {
    let shared = shared(0);
    let mut first = small(&shared, &["cat", "cats"]);
    queued(&mut first, &shared, "cat").await;
    let mut second = small(&shared, &["cat"]);
    assert!(poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(work(&shared), 1);
    assert!(second.await.unwrap()[0].is_ok());

    let mut first = small(&shared, &["cat"]);
    queued(&mut first, &shared, "cat").await;
    let mut second = small(&shared, &["cat"]);
    assert!(poll!(&mut second).is_pending());
    assert!(!budget_is_free(&shared));
    drop((first, second));
    assert!(budget_is_free(&shared));
    assert_eq!(work(&shared), 0);
}

#[tokio::test]
async fn a_small_call_does_not_wait_behind_the_bulk_call_whose_text_it_shares() {
    let shared = shared(0);
    let texts: Vec<String> = (0..60).map(|n| format!("cat {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut bulk = call(&shared, &texts, Truncation::End, WhenFull::Wait);
    queued(&mut bulk, &shared, "cat 59").await;
    let mut one = small(&shared, &["cat 59"]);
    assert!(poll!(&mut one).is_pending());
    let batch = take(&shared).expect("it is queued");
    assert_eq!(batch.len(), 1);
    shared.single_flight.complete(batch[0].flight(), Ok(vec![0.5]));
    assert_eq!(one.await.unwrap()[0].as_ref().unwrap().values, [0.5]);
    assert_eq!(work(&shared), 59);
    assert_eq!(bulk.await.unwrap()[59].as_ref().unwrap().values, [0.5]);
}

#[tokio::test]
async fn a_call_that_shares_a_flight_needs_no_tokens_of_the_budget() {
    let shared = shared(0);
    let _others = shared.token_budget.acquire(QUEUE_TOKENS - 3, Lane::Interactive, REFUSE).await.unwrap();
    let mut first = small(&shared, &["cat"]);
    queued(&mut first, &shared, "cat").await;
    let mut sharing = small(&shared, &["cat"]);
    assert!(poll!(&mut sharing).is_pending());
    let longer: Vec<_> = (0..4).map(|n| format!("{}{n}", "cat ".repeat(9))).collect();
    let longer: Vec<_> = longer.iter().map(String::as_str).collect();
    assert!(small(&shared, &longer).await.is_err(), "it has no reserve, as the calls of a few tokens have");
    assert_eq!(work(&shared), 1);
    assert!(sharing.await.is_ok());
}

#[tokio::test]
async fn each_call_judges_the_length_of_a_shared_text_for_itself() {
    let shared = shared(1 << 20);
    let long = "cat ".repeat(10);
    let mut cut = small(&shared, &[&long]);
    queued(&mut cut, &shared, &long).await;
    let strict = || call(&shared, &[&long], Truncation::Reject, REFUSE);
    let too_long = Ok(vec![Err(TextError::TooLong { tokens_total: 12, max_tokens: 8 })]);
    assert_eq!(strict().now_or_never().as_ref(), Some(&too_long), "while it is in flight");
    work(&shared);
    let output = Output { values: vec![8.0], tokens: 8, tokens_total: 12 };
    assert_eq!(cut.await, Ok(vec![Ok(output)]));
    assert_eq!(strict().now_or_never(), Some(too_long), "when it is cached");
}

#[tokio::test]
async fn a_cached_text_is_answered_at_once_and_counted() {
    let shared = shared(1 << 20);
    let mut first = small(&shared, &["cat"]);
    assert!(poll!(&mut first).is_pending());
    queued(&mut first, &shared, "cat").await;
    work(&shared);
    let first = first.await;
    let before = shared.single_flight.cache_stats();
    assert_eq!(small(&shared, &["cat"]).now_or_never(), Some(first));
    let after = shared.single_flight.cache_stats();
    assert_eq!((after.hits - before.hits, after.misses - before.misses, after.entries), (1, 0, 1));
}
