//! `cargo xtask setup`: every tool that the other commands need.

use crate::failure::Outcome;
use crate::signals::Signals;
use crate::{asyncapi, browser, deny, nats, postgres, schemathesis, tests_run};

/// Gets the tools; each says itself what it is and where.
pub(crate) fn setup(with_deny: bool) -> Outcome {
    let signals = Signals::watch()?;
    signals.blame(tools(&signals, with_deny))?;
    eprintln!("setup: all there; `cargo xtask up` starts the project, `cargo xtask test` tests it");
    Ok(())
}

fn tools(signals: &Signals, with_deny: bool) -> Outcome {
    nats::server()?;
    postgres::source(signals)?;
    tests_run::choose_runner();
    // Those of `ci`, which leaves out what cannot be had.
    schemathesis::get(signals)?;
    asyncapi::get(signals)?;
    browser::get(signals)?;
    if with_deny {
        deny::program(signals)?;
    }
    Ok(())
}
