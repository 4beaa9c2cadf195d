//! The allocator of the binary: the bytes that it really takes for a block, and the return of freed pages.
//!
//! mimalloc has size classes: multiples of 16 bytes up to 64, then four for each doubling. A vector of 1,552 bytes is
//! in the class of 1,792. Memory budgets count the size of the class; otherwise they would count a sixth too little.

/// Bytes beyond which a block has pages of its own.
const LARGE: usize = 128 << 10;
const PAGE: usize = 4 << 10;

/// Returns the freed pages of this thread's heap to the system at once. mimalloc keeps them for reuse otherwise, and
/// `RssAnon` counts them. It takes milliseconds: call it once, after a large load. A program with another allocator
/// loses nothing by it.
pub fn return_freed_pages() {
    // SAFETY: `mi_collect` has no preconditions; it may be called from any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Bytes that a block of `bytes` takes.
pub const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=64 => bytes.next_multiple_of(16),
        65..=LARGE => {
            // Four classes between a power of two and the next.
            let step = (bytes - 1).next_power_of_two() / 8;
            let step = if (bytes - 1).is_power_of_two() { step * 2 } else { step };
            bytes.next_multiple_of(step)
        }
        _ => bytes.next_multiple_of(PAGE),
    }
}

/// Bytes that an `Arc` of a value of `bytes` takes: two counters stand before it.
pub const fn shared(bytes: usize) -> usize {
    allocated(bytes + 2 * size_of::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_classes_for_each_doubling() {
        let classes: Vec<usize> = [1, 16, 17, 64, 65, 80, 81, 128, 129, 160, 161, 256, 257, 1_025, 1_552, 4_096, 4_097]
            .map(allocated)
            .to_vec();
        assert_eq!(classes, [16, 16, 32, 64, 80, 80, 96, 128, 160, 160, 192, 256, 320, 1_280, 1_792, 4_096, 5_120]);
        assert_eq!((allocated(0), shared(1_536)), (0, 1_792));
        assert_eq!(allocated(1_000_000), 1_003_520);
    }

    #[test]
    fn a_block_takes_at_least_its_bytes_and_at_most_a_quarter_more() {
        for bytes in 65..300_000 {
            let taken = allocated(bytes);
            assert!(taken >= bytes && taken * 4 <= bytes * 5 + 64, "{bytes} take {taken}");
        }
    }
}
