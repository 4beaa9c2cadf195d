//! Matrix products: `y = x · Wᵀ + b`, with W packed once, in three number formats, and the passes between two products.
//!
//! | file | |
//! |---|---|
//! | `linear` | the layer that a model sees: one of the three products |
//! | `f32`, `bf16x3`, `int8` | the products |
//! | `split_bf16`, `quantise` | x as two bf16 or as bytes |
//! | `epilogue` | activation, norm and quantisation, right after a product |
//! | `tile` | the register tile of f32, which attention uses too |
//! | `operands` | the addresses that the register tiles walk over |
//! | `panels` | packed weights, and the loop over them that the three products share |

pub mod bf16x3;
pub mod epilogue;
pub mod f32;
pub mod int8;
pub mod linear;
mod operands;
mod panels;
pub mod quantise;
pub mod split_bf16;
pub(super) mod tile;

#[cfg(test)]
mod tests;
