//! The system, whole.

// With a fifth step in the list, every order needs a service that only `gift_wrap` has.
#![cfg(not(feature = "gift-wrap"))]

mod dead_letters;
mod failures;
mod follower;
mod held_back;
mod ranking;
mod red;
mod rules;
mod smoke;
mod stories;
