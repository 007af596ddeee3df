//! The system, whole.

// With a fifth step in the list, every order needs a service that only `gift_wrap` has.
#![cfg(not(feature = "gift-wrap"))]

mod crash;
mod crowd;
mod dead_letters;
mod drain;
mod failures;
mod follower;
mod healing;
mod held_back;
mod idempotency;
mod instances;
mod limits;
mod losses;
mod map;
mod measured;
mod no_coordinator;
mod outcome;
mod outcome_crowd;
mod processes;
mod ranking;
mod red;
mod rules;
mod smoke;
mod stories;
mod timeline;
mod up;
