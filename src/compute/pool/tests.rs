use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::join_all;

use super::super::deadline::Deadline;
use super::*;

const COST: Duration = Duration::from_millis(1);
const NO_DEADLINE: WhenFull = WhenFull::Refuse(Deadline::NONE);

fn pool(threads: usize, calls: usize) -> Pool {
    Pool::new(Options { name: "test", threads, calls, nice: 0, long: None })
}

/// Keeps one thread of a pool busy until the sender is dropped.
fn occupy(pool: &Pool) -> (impl Future<Output = ()> + use<>, mpsc::Sender<()>) {
    let (free, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let pool = pool.clone();
    let call = async move {
        let work = move |_: &Stop| {
            begun.send(()).unwrap();
            wait.recv().unwrap_err();
        };
        pool.run(NO_DEADLINE, COST, work).await.unwrap();
    };
    let mut call = call.boxed();
    assert!((&mut call).now_or_never().is_none());
    has_begun.recv().unwrap();
    (call, free)
}

#[tokio::test]
async fn results_come_in_the_order_of_items_and_a_panic_ends_a_call_alone() {
    let pool = pool(2, 10);
    let doubled = pool.run_each(NO_DEADLINE, COST, (0..1000).collect(), |n: i32, _| n * 2).await;
    assert_eq!(doubled, Ok((0..1000).map(|n| n * 2).collect()));
    let failed = pool.run_each(NO_DEADLINE, COST, (0..1000).collect(), |n: i32, _| assert_ne!(n, 999)).await;
    assert_eq!(failed, Err(Refused::Panicked));
    assert_eq!(pool.run(NO_DEADLINE, COST, |_| 7).await, Ok(7));
    assert_eq!(pool.run_each(NO_DEADLINE, COST, Vec::<u8>::new(), |n, _| n).await, Ok(vec![]));
    assert_eq!(pool.calls(), 0);
}

#[tokio::test]
async fn a_full_pool_refuses_a_call_or_lets_it_wait() {
    let pool = pool(1, 2);
    let (busy, free) = occupy(&pool);
    let mut second = pool.run(NO_DEADLINE, COST, |_| 2).boxed();
    assert!((&mut second).now_or_never().is_none());
    let refused = pool.run(NO_DEADLINE, COST, |_| 3).await;
    assert!(matches!(refused, Err(Refused::Full { limit: 2, .. })), "{refused:?}");
    let mut third = pool.run(WhenFull::Wait, COST, |_| 3).boxed();
    assert!((&mut third).now_or_never().is_none());
    drop(free);
    assert_eq!((busy.await, second.await, third.await), ((), Ok(2), Ok(3)));
}

#[tokio::test]
async fn queued_work_of_a_caller_who_left_never_starts() {
    let pool = pool(1, 10);
    let (busy, free) = occupy(&pool);
    let begun = Arc::new(AtomicUsize::new(0));
    let work = |begun: &Arc<AtomicUsize>| {
        let begun = Arc::clone(begun);
        move |_: usize, _: &Stop| begun.fetch_add(1, Ordering::Relaxed)
    };
    for _ in 0..5 {
        let mut call = pool.run_each(NO_DEADLINE, COST, (0..100).collect(), work(&begun)).boxed();
        assert!((&mut call).now_or_never().is_none());
    }
    assert_eq!(pool.calls(), 1, "callers who left hold no permits");
    drop(free);
    busy.await;
    pool.run(NO_DEADLINE, COST, |_| ()).await.unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn running_work_is_told_to_stop() {
    let pool = pool(1, 10);
    let (begun, has_begun) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let work = move |stop: &Stop| {
        begun.send(()).unwrap();
        while stop.check().is_ok() {
            std::thread::yield_now();
        }
        ended.send(()).unwrap();
    };
    let mut call = pool.run(NO_DEADLINE, COST, work).boxed();
    assert!((&mut call).now_or_never().is_none());
    has_begun.recv().unwrap();
    drop(call);
    has_ended.recv().unwrap();
}

#[tokio::test]
async fn after_the_running_item_no_item_of_a_caller_who_left_starts() {
    let pool = pool(1, 10);
    let (begun, has_begun) = mpsc::channel();
    let (free, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let work = move |n: usize, _: &Stop| {
        begun.send(n).unwrap();
        wait.lock().unwrap().recv().unwrap_err();
    };
    let mut call = pool.run_each(NO_DEADLINE, COST, vec![0, 1, 2], work).boxed();
    assert!((&mut call).now_or_never().is_none());
    assert_eq!(has_begun.recv(), Ok(0));
    drop(call);
    drop(free);
    assert_eq!(has_begun.iter().collect::<Vec<_>>(), Vec::<usize>::new());
}

#[tokio::test]
async fn one_query_does_not_wait_for_many_of_another_call() {
    let pool = pool(1, 10);
    let (busy, free) = occupy(&pool);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |order: &Arc<Mutex<Vec<char>>>, who| {
        let order = Arc::clone(order);
        move |_: usize, _: &Stop| {
            std::thread::sleep(Duration::from_millis(3));
            order.lock().unwrap().push(who);
        }
    };
    let mut many = pool.run_each(NO_DEADLINE, COST, (0..20).collect(), note(&order, 'm')).boxed();
    assert!((&mut many).now_or_never().is_none());
    let mut one = pool.run_each(NO_DEADLINE, COST, vec![0], note(&order, '1')).boxed();
    assert!((&mut one).now_or_never().is_none());
    drop(free);
    busy.await;
    let (many, one) = tokio::join!(many, one);
    assert!(many.is_ok() && one.is_ok());
    let at = order.lock().unwrap().iter().position(|&who| who == '1').unwrap();
    assert!(at <= 3, "it was number {at}");
}

#[tokio::test]
async fn a_long_call_moves_to_the_pool_for_long_work() {
    let long = pool(1, 10);
    let short = Pool::new(Options {
        name: "short",
        threads: 1,
        calls: 10,
        nice: 0,
        long: Some((Duration::from_millis(5), long.clone())),
    });
    let work = |pause: Duration, _: &Stop| {
        std::thread::sleep(pause);
        std::thread::current().name().unwrap().to_owned()
    };
    let pauses = [Duration::ZERO, Duration::from_millis(10), Duration::ZERO];
    let names = short.run_each(NO_DEADLINE, COST, pauses.to_vec(), work).await.unwrap();
    // On a busy machine the first item can take long too, so the thread of the second is not certain.
    assert_eq!((names[0].as_str(), names[2].as_str()), ("short-0", "test-0"));
}

#[tokio::test]
async fn a_call_that_would_miss_its_deadline_is_refused_at_once() {
    let pool = pool(1, 10);
    let (busy, free) = occupy(&pool);
    let soon = WhenFull::Refuse(Deadline::at(Instant::now() + Duration::from_secs(10)));
    let refused = pool.run(soon, Duration::from_secs(8), |_| ()).await;
    assert!(matches!(refused, Err(Refused::TooLate { calls: 1, .. })), "{refused:?}");
    let mut cheap = pool.run(soon, Duration::from_secs(1), |_| ()).boxed();
    assert!((&mut cheap).now_or_never().is_none());
    drop(free);
    assert_eq!((busy.await, cheap.await), ((), Ok(())));
    assert_eq!(pool.run(soon, Duration::from_secs(100), |_| ()).await, Ok(()), "a call that is alone is tried");
}

#[tokio::test]
async fn many_calls_use_no_more_threads_than_the_pool_has() {
    let pool = pool(3, 500);
    let running = Arc::new(AtomicUsize::new(0));
    let calls = (0..200).map(|_| {
        let running = Arc::clone(&running);
        pool.run(NO_DEADLINE, COST, move |_| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            std::thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            now
        })
    });
    let most = join_all(calls).await.into_iter().map(Result::unwrap).max();
    assert!(most <= Some(3), "{most:?} at once");
}

#[test]
fn items_are_split_in_order_and_evenly() {
    for (n_items, threads, sizes) in [
        (0, 8, vec![0]),
        (1, 8, vec![1]),
        (7, 8, vec![7]),
        (8, 8, vec![4, 4]),
        (9, 1, vec![9]),
        (15, 8, vec![5, 5, 5]),
        (102, 4, vec![26, 26, 25, 25]),
    ] {
        let parts = split((0..n_items).collect(), threads);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{n_items} on {threads}");
        assert_eq!(parts.concat(), (0..n_items).collect::<Vec<_>>());
    }
}

#[test]
fn a_caller_who_leaves_while_a_thread_ends_its_task_blocks_nobody() {
    // The last result wakes the caller while the thread that sent it still counts its time. Both then take the lock of
    // the pool and that of the call's account.
    let (ended, has_ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let pool = pool(8, 64);
        let calls = |pool: Pool| async move {
            for _ in 0..5000 {
                pool.run_each(NO_DEADLINE, COST, (0..32).collect(), |n: i32, _| n).await.unwrap();
            }
        };
        let callers: Vec<_> = (0..4).map(|_| runtime.spawn(calls(pool.clone()))).collect();
        runtime.block_on(join_all(callers)).into_iter().for_each(Result::unwrap);
        ended.send(()).unwrap();
    });
    has_ended.recv_timeout(Duration::from_secs(300)).expect("a call waits for a lock for ever");
}
