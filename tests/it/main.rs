//! Behaviour of the whole product: the real binary with the real model on a port of its own, spoken
//! to through generated stubs. One file for each behaviour.

mod architecture;
mod bench;
mod clients;
mod command_line;
mod documents;
mod durability;
mod embed;
mod export;
mod filters;
mod harness;
mod hostile;
mod instructions;
mod lifecycle;
mod load;
mod precision;
mod reflection;
mod resume;
mod segments;
mod similarity;
mod top_k;
mod upload;
mod variety;
