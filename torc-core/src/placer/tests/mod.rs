//! Tests of the placer: stories, a random walk under an independent checker, and simulated streams.

mod model;
mod random;
mod stories;
mod streams;
