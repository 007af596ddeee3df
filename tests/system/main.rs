//! The system, whole.

// With a fifth step in the list, every order needs a service that only `gift_wrap` has.
#![cfg(not(feature = "gift-wrap"))]

mod authorization;
mod check;
mod commands;
mod configuration;
mod crash;
mod crowd;
mod database_tls;
mod dead_letters;
mod deployed;
mod doctor;
mod documents;
mod drain;
mod failures;
mod follower;
mod gaps;
mod healing;
mod held_back;
mod idempotency;
mod image;
mod instances;
mod large;
mod limits;
mod logins;
mod logs;
mod losses;
mod malformed;
mod map;
mod measured;
mod no_coordinator;
mod openapi;
mod operators;
mod outcome;
mod outcome_crowd;
mod pages;
mod processes;
mod ranking;
mod readme;
mod red;
mod replay;
mod replay_command;
mod rules;
mod smoke;
mod spoiled;
mod stories;
mod timeline;
mod tokens;
mod trace_command;
mod traces;
mod up;
mod why;
