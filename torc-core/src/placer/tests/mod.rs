//! Tests of the placer: stories, a random walk under an independent checker, simulated streams, and
//! small cases beside a placer that decides by trying everything.

mod agreement;
mod cases;
mod choices;
mod model;
mod queue;
mod random;
mod reference;
mod room;
mod slots;
mod steps;
mod stories;
mod streams;
