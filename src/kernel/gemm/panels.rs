//! The rules of panels that all matrix products share: the columns of one call, and the distance of a prefetch.

use std::ops::Range;

use crate::kernel::matrix::{Matrix, SharedMatrix};

/// Checks that columns are whole panels, and that the result and the residual have the shape of the product.
pub(super) fn check_columns(
    columns: &Range<usize>,
    panel: usize,
    shape: (usize, usize),
    residual: Option<&Matrix>,
    y: SharedMatrix<'_>,
) {
    let (_, outputs) = shape;
    assert!(columns.start.is_multiple_of(panel), "a part begins with a panel");
    assert!(columns.end == outputs || columns.end.is_multiple_of(panel), "a part ends with a panel");
    assert!(columns.end <= outputs, "columns of the result");
    assert_eq!(y.shape(), shape, "the result's shape");
    assert!(residual.is_none_or(|residual| (residual.rows(), residual.cols()) == shape), "the residual's shape");
}

/// Prefetch distance within a panel, in words of four bytes, if only the panel itself passes through the cache:
/// with one tile of rows. 4 KB: smaller and larger distances are slower, a whole panel by a tenth, because another
/// thread may take the next panel.
pub(super) const NEAR: usize = 1024;
