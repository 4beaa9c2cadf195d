//! Computation, away from the async threads.

use std::sync::Arc;
use std::thread::available_parallelism;

use futures::future::try_join_all;

use super::status::Failure;

/// Items that are worth a thread of their own: four exact searches among 9,000 documents take 2 ms, by far more than
/// waking one does, and a call of a few queries stays in one place.
const ITEMS_PER_THREAD: usize = 4;

/// Runs computation of more than a moment away from the async threads.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a computation panicked");
        Failure::Internal
    })
}

/// [`compute`] for each item, results in the order of the items. Many items are shared out among threads, no more of
/// them than there are cores.
pub async fn compute_each<I, T>(items: Vec<I>, work: impl Fn(I) -> T + Send + Sync + 'static) -> Result<Vec<T>, Failure>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let work = Arc::new(work);
    let parts = shared_out(items, || available_parallelism().map_or(1, usize::from)).into_iter().map(|part| {
        let work = Arc::clone(&work);
        compute(move || part.into_iter().map(|item| work(item)).collect::<Vec<T>>())
    });
    Ok(try_join_all(parts).await?.into_iter().flatten().collect())
}

/// Parts of like size, in order: as many as there are cores, if each gets enough. `cores` is asked only then: it reads
/// files.
fn shared_out<I>(items: Vec<I>, cores: impl Fn() -> usize) -> Vec<Vec<I>> {
    let most = items.len() / ITEMS_PER_THREAD;
    let n_parts = if most > 1 { most.min(cores()) } else { 1 };
    let n_items = items.len();
    let mut items = items.into_iter();
    // The first so many parts get one more, where they do not divide evenly.
    let size = |part: usize| n_items / n_parts + usize::from(part < n_items % n_parts);
    (0..n_parts).map(|part| items.by_ref().take(size(part)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_shared_out_in_order_and_evenly() {
        for (n_items, cores, sizes) in [
            (0, 8, vec![0]),
            (1, 8, vec![1]),
            (7, 8, vec![7]),
            (8, 8, vec![4, 4]),
            (9, 1, vec![9]),
            (15, 8, vec![5, 5, 5]),
            (102, 4, vec![26, 26, 25, 25]),
        ] {
            let parts = shared_out((0..n_items).collect(), || cores);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{n_items} on {cores}");
            assert_eq!(parts.concat(), (0..n_items).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn results_come_in_the_order_of_items_and_a_panic_is_an_internal_error() {
        let doubled = compute_each((0..1000).collect(), |n: i32| n * 2).await;
        assert_eq!(doubled, Ok((0..1000).map(|n| n * 2).collect()));
        let failed = compute_each((0..1000).collect(), |n: i32| assert_ne!(n, 999)).await;
        assert_eq!(failed, Err(Failure::Internal));
    }
}
