//! COMPUTATION, away from the async threads: how it is told to stop.

pub mod stop;
