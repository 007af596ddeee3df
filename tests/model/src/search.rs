//! Breadth first through every state that can be reached.
//!
//! A search of its own instead of a model checker's: it keeps 128 bits and four bytes of
//! way per state, gives the shortest counterexample, and brings no HTTP server along.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use events::hold::Hold;
use order_svc::domain::State;

use crate::invariants::{always, finally};
use crate::world::{Action, World};

/// What a search came to.
#[derive(Debug, Default)]
pub struct Searched {
    /// Different states.
    pub states: usize,
    /// Actions that changed something.
    pub transitions: usize,
    /// The longest of the shortest ways.
    pub depth: usize,
    /// States in which all is quiet.
    pub quiet: usize,
    /// How long it took.
    pub time: Duration,
    /// Rare paths that were seen.
    pub seen: Seen,
    /// The first thing that does not hold, and the shortest way to it.
    pub broken: Option<Broken>,
}

/// How many states show what a proof must not have missed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// A tombstone.
    pub voids: usize,
    /// Compensation was asked for again.
    pub asked_again: usize,
    /// It was given up.
    pub given_up: usize,
    /// What was settled was given back.
    pub given_back: usize,
    /// An order was confirmed.
    pub confirmed: usize,
}

/// A counterexample.
#[derive(Debug)]
pub struct Broken {
    /// What does not hold.
    pub what: String,
    /// Where it began.
    pub start: World,
    /// The way.
    pub path: Vec<Action>,
}

/// The fingerprints are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

// The way to a state: the state before, and what happened then.
type Step = (u32, Option<Action>);

/// Visits every state that can be reached from these.
#[must_use]
pub fn search(starts: Vec<World>) -> Searched {
    let began = Instant::now();
    let mut known: HashSet<u128, BuildHasherDefault<AsIs>> = HashSet::default();
    let mut steps: Vec<Step> = Vec::new();
    let mut queue: VecDeque<(u32, u32, World)> = VecDeque::new();
    let mut found = Searched::default();
    let roots = starts.clone();
    for start in starts {
        known.insert(start.fingerprint());
        queue.push_back((steps.len() as u32, 0, start));
        steps.push((u32::MAX, None));
    }
    let mut actions = Vec::new();
    while let Some((place, depth, world)) = queue.pop_front() {
        found.states += 1;
        found.depth = found.depth.max(depth as usize);
        found.seen.look(&world);
        let mut fine = always(&world);
        actions.clear();
        world.actions(&mut actions);
        if fine.is_ok() && world.is_quiet() {
            found.quiet += 1;
            fine = finally(&world);
        } else if fine.is_ok() && actions.is_empty() {
            fine = Err("nothing can happen any more, and it is not over".to_owned());
        }
        if let Err(what) = fine {
            found.broken = Some(broken(what, &roots, &steps, place));
            break;
        }
        for action in &actions {
            let Some(next) = world.after(*action) else {
                continue;
            };
            found.transitions += 1;
            if known.insert(next.fingerprint()) {
                queue.push_back((steps.len() as u32, depth + 1, next));
                steps.push((place, Some(*action)));
            }
        }
    }
    found.time = began.elapsed();
    found
}

fn broken(what: String, roots: &[World], steps: &[Step], mut place: u32) -> Broken {
    let mut path = Vec::new();
    while let (before, Some(action)) = steps[place as usize] {
        path.push(action);
        place = before;
    }
    path.reverse();
    Broken {
        what,
        start: roots[place as usize].clone(),
        path,
    }
}

impl Seen {
    fn look(&mut self, world: &World) {
        for side in &world.sides {
            let rows = || side.rows.iter().flatten();
            self.voids += usize::from(rows().any(|row| row.state == Hold::Void));
            let back = rows().any(|row| row.state == Hold::Released && row.settled_at > 0);
            self.given_back += usize::from(back);
            self.asked_again += usize::from(side.order.attempt > 1);
            self.given_up += usize::from(side.order.state == State::CompensationFailed);
            self.confirmed += usize::from(side.order.state == State::Confirmed);
        }
    }
}
