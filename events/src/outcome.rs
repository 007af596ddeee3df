//! What a participant keeps of an order, and what a move does to it. Pure, so that the
//! runtime and the proofs run the same code.

use crate::body::Undone;
use crate::hold::{Hold, Move, Signal};
use crate::{OrderContext, Refusal, Step};

/// A hold with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<H> {
    /// Where it is.
    pub state: Hold,
    /// What is, or was, held: compensation gives back exactly that (R5).
    pub held: Option<H>,
    /// Why the step was refused.
    pub refusal: Option<Refusal>,
    /// The highest attempt that was answered.
    pub answered: u32,
    /// When it was settled; 0: never.
    pub settled_at: i64,
    /// When it was given back; 0: never.
    pub released_at: i64,
}

/// What a participant answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The step is taken.
    Taken,
    /// It was refused.
    Refused(Refusal),
    /// It was given back, or there was nothing to give back.
    Undone(Undone),
}

/// A participant's own part of a move: what taking and giving back do to what it has.
pub trait Resource<H> {
    /// Takes the step: what is held from now on, or why not.
    ///
    /// # Errors
    /// A business no. Nothing may have changed then.
    fn hold(&mut self) -> Result<H, Refusal>;
    /// Gives back what is held (`from` is HELD), or what was settled already (SETTLED).
    fn release(&mut self, held: &H, from: Hold);
    /// What is held is gone for good.
    fn settle(&mut self, held: &H);
}

/// Impossible unless somebody lost data or changed an answer: never repaired by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(pub &'static str);

const NOTHING_HELD: Impossible = Impossible("the row does not say what is held");

impl<H> Outcome<H> {
    fn new(state: Hold, held: Option<H>, refusal: Option<Refusal>) -> Self {
        Self {
            state,
            held,
            refusal,
            answered: 0,
            settled_at: 0,
            released_at: 0,
        }
    }

    /// What it says when it is asked.
    #[must_use]
    pub fn answer(&self, attempt: u32) -> Option<Answer> {
        match self.state {
            Hold::Held => Some(Answer::Taken),
            Hold::Refused => self.refusal.clone().map(Answer::Refused),
            Hold::Void | Hold::Released => Some(Answer::Undone(Undone {
                nothing_to_undo: self.state == Hold::Void,
                attempt,
            })),
            Hold::Settled => None,
        }
    }
}

impl Signal {
    /// The attempt that an answer to it has.
    #[must_use]
    pub fn attempt(self) -> u32 {
        match self {
            Self::Canceled { attempt } => attempt,
            Self::Take | Self::Settle | Self::PeerRefused => 1,
        }
    }
}

/// Makes a move that [`decide`](crate::hold::decide) has decided: its effect on the row
/// and on what the participant has, and the answer.
///
/// # Errors
/// When the move is a contradiction, or the row does not say what is held.
pub fn make<H>(
    row: &mut Option<Outcome<H>>,
    what: Move,
    signal: Signal,
    now: i64,
    own: &mut impl Resource<H>,
) -> Result<Option<Answer>, Impossible> {
    match what {
        Move::Silent => return Ok(None),
        Move::Contradiction(what) => return Err(Impossible(what)),
        Move::Take => {
            *row = Some(match own.hold() {
                Ok(held) => Outcome::new(Hold::Held, Some(held), None),
                Err(refusal) => Outcome::new(Hold::Refused, None, Some(refusal)),
            });
        }
        Move::Void => *row = Some(Outcome::new(Hold::Void, None, None)),
        Move::Release => {
            let row = row.as_mut().ok_or(NOTHING_HELD)?;
            own.release(row.held.as_ref().ok_or(NOTHING_HELD)?, row.state);
            row.state = Hold::Released;
            row.released_at = now;
        }
        Move::Settle => {
            let row = row.as_mut().ok_or(NOTHING_HELD)?;
            own.settle(row.held.as_ref().ok_or(NOTHING_HELD)?);
            row.state = Hold::Settled;
            row.settled_at = now;
            // Nobody waits for it any more.
            return Ok(None);
        }
        Move::AnswerAgain => {}
    }
    let row = row.as_mut().ok_or(NOTHING_HELD)?;
    row.answered = row.answered.max(signal.attempt());
    Ok(row.answer(signal.attempt()))
}

/// The event that an answer is: on which subject, and what it says.
#[must_use]
pub fn words(
    step: Step,
    context: &OrderContext,
    answer: &Answer,
) -> (&'static crate::catalog::Entry, bytes::Bytes) {
    let step = step.entry();
    match answer {
        Answer::Taken => (&step.taken, crate::body::plain(context)),
        Answer::Refused(refusal) => (&step.refused, crate::body::refused(context, refusal)),
        Answer::Undone(undone) => (&step.undone, crate::body::undone(context, *undone)),
    }
}
