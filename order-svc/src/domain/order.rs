//! An order: the join of its steps, and the one decision about it.
//!
//! ```text
//! PENDING ──► CONFIRMED            every needed step succeeded
//!    │            │ user cancel
//!    ▼            ▼
//!  COMPENSATING ──────► CANCELED   every needed step is refused, void or compensated
//!        │                 ▲
//!        ▼                 │ the answers come after all
//!  COMPENSATION_FAILED ────┘       asked again and again in vain: for a person
//! ```

use std::collections::BTreeMap;

use events::body::{Canceled, Reason};
use events::{OrderContext, Refusal, Step};
use serde::{Deserialize, Serialize};

/// Where an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not decided.
    Pending,
    /// Every needed step succeeded.
    Confirmed,
    /// Canceled; not every step has answered that it is undone.
    Compensating,
    /// Canceled, and every step is refused, void or compensated.
    Canceled,
    /// Compensation was given up: a person is needed.
    CompensationFailed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Confirmed,
        Self::Compensating,
        Self::Canceled,
        Self::CompensationFailed,
    ];

    /// Its name in databases and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Compensating => "COMPENSATING",
            Self::Canceled => "CANCELED",
            Self::CompensationFailed => "COMPENSATION_FAILED",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a client need not wait any longer.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Confirmed | Self::Canceled | Self::CompensationFailed
        )
    }
}

/// What order knows of a step. A flag never moves back, so the order in which answers
/// arrive does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// No answer yet.
    Waiting,
    /// Held.
    Succeeded,
    /// Refused.
    Refused,
    /// Held once, and given back.
    Compensated,
    /// Never held, and never will be.
    Void,
}

impl Flag {
    fn is_undone(self) -> bool {
        matches!(self, Self::Refused | Self::Compensated | Self::Void)
    }
}

/// What a step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is held.
    Taken,
    /// It was refused.
    Refused(Refusal),
    /// It is given back, or there was nothing to give back.
    Undone {
        /// There was nothing.
        nothing_to_undo: bool,
    },
}

/// What an order hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A step says something.
    Answer(Step, Answer),
    /// Its user cancels it.
    UserCancel,
    /// Its timer rings: the order's deadline while it is PENDING, that of the
    /// compensation while it is COMPENSATING. Only an attempt: the state decides (R9).
    Due,
    /// An operator has compensation asked for again, after it was given up.
    Retry,
    /// An operator has seen to it that a silent step is undone, after compensation was
    /// given up.
    MarkUndone(Step),
}

/// What an order says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// `order.confirmed`
    Confirmed,
    /// `order.canceled`
    Canceled(Canceled),
    /// `order.compensated`
    Compensated,
    /// `order.compensation.failed`, with the steps that have not answered.
    CompensationFailed(Vec<Step>),
}

/// Impossible unless somebody lost data or changed an answer: never repaired by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step} of order {order} {what}")]
pub struct Contradiction {
    order: String,
    step: Step,
    what: &'static str,
}

/// Why a user's cancel comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

/// A refusal that was heard, for the order's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardRefusal {
    /// Which step.
    pub step: Step,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// Why.
    pub refusal: Refusal,
}

/// The rules that can be configured; milliseconds.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How long a confirmed order can be canceled.
    pub cancel_window: i64,
    /// Compensation is asked for again after each of these; after the last of them once
    /// more, it is given up.
    pub compensation_deadlines: Vec<i64>,
}

/// An order and all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it is.
    pub context: OrderContext,
    /// Where it is.
    pub state: State,
    /// Why it was canceled.
    pub reason: Option<Reason>,
    /// A flag for each needed step.
    pub flags: BTreeMap<Step, Flag>,
    /// What was refused.
    pub refusals: Vec<HeardRefusal>,
    /// The last attempt of `order.canceled`; 0: never said.
    pub attempt: u32,
    /// How often the compensation's deadline has passed.
    pub overdue: u32,
    /// When its timer rings; 0: never.
    pub due_at: i64,
    /// When it was confirmed; 0: never.
    pub confirmed_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// One more for each change that a client can see.
    pub version: i64,
}

impl Order {
    /// A new order.
    #[must_use]
    pub fn new(context: OrderContext) -> Self {
        Self {
            state: State::Pending,
            reason: None,
            flags: context
                .needed
                .iter()
                .map(|step| (step, Flag::Waiting))
                .collect(),
            refusals: vec![],
            attempt: 0,
            overdue: 0,
            due_at: context.deadline,
            confirmed_at: 0,
            updated_at: context.placed_at,
            version: 1,
            context,
        }
    }

    /// Whether it counts against the open orders of its user.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Pending | State::Compensating)
    }

    /// Whether its user can cancel it now. Canceling again what the user canceled is
    /// fine and changes nothing.
    ///
    /// # Errors
    /// When it is decided otherwise, or the window after the confirmation has passed.
    pub fn can_cancel(&self, now: i64, rules: &Rules) -> Result<(), TooLate> {
        let fine = match self.state {
            State::Pending => true,
            State::Confirmed => now - self.confirmed_at < rules.cancel_window,
            _ => self.reason == Some(Reason::CanceledByUser),
        };
        fine.then_some(()).ok_or(TooLate)
    }

    /// Hears something at a time; returns what is to be said. The only place where an
    /// order changes.
    ///
    /// # Errors
    /// A [`Contradiction`]: then nothing has changed.
    pub fn hear(
        &mut self,
        input: Input,
        now: i64,
        rules: &Rules,
    ) -> Result<Vec<Say>, Contradiction> {
        let before = (self.state, self.flags.clone());
        let said = match input {
            Input::Answer(step, answer) => self.hear_answer(step, answer, now, rules)?,
            Input::UserCancel => match self.can_cancel(now, rules) {
                Ok(()) if matches!(self.state, State::Pending | State::Confirmed) => {
                    self.cancel(Reason::CanceledByUser, now, rules)
                }
                _ => vec![],
            },
            Input::Due => self.ring(now, rules),
            Input::Retry => self.retry(now, rules),
            Input::MarkUndone(step) => self.mark_undone(step, now, rules),
        };
        if before != (self.state, self.flags.clone()) || !said.is_empty() {
            self.version += 1;
            self.updated_at = now;
        }
        Ok(said)
    }

    fn hear_answer(
        &mut self,
        step: Step,
        answer: Answer,
        now: i64,
        rules: &Rules,
    ) -> Result<Vec<Say>, Contradiction> {
        let contradiction = |what| Contradiction {
            order: self.context.order_id.to_string(),
            step,
            what,
        };
        let Some(flag) = self.flags.get(&step).copied() else {
            return Err(contradiction("answered, but is not needed"));
        };
        let new = match (flag, &answer) {
            (Flag::Waiting, Answer::Taken) => Flag::Succeeded,
            (Flag::Succeeded, Answer::Taken) => return Ok(vec![]),
            // Heard in the other order, or a late action took what was compensated: asking
            // again has it given back, if it is held at all (R6).
            (Flag::Compensated | Flag::Void, Answer::Taken) => return Ok(self.ask_again()),
            (Flag::Refused, Answer::Taken) => {
                return Err(contradiction("succeeded after it was refused"));
            }
            (Flag::Waiting, Answer::Refused(_)) => Flag::Refused,
            // Void and refused: a person marked the step while it was silent. Nothing is held
            // either way.
            (Flag::Refused | Flag::Void, Answer::Refused(_)) => return Ok(vec![]),
            (_, Answer::Refused(_)) => {
                return Err(contradiction("was refused after it had answered otherwise"));
            }
            (
                Flag::Waiting,
                Answer::Undone {
                    nothing_to_undo: true,
                },
            ) => Flag::Void,
            (Flag::Succeeded | Flag::Waiting, Answer::Undone { .. })
                if self.state == State::Confirmed =>
            {
                return Err(contradiction("was undone although the order is confirmed"));
            }
            (Flag::Succeeded | Flag::Waiting, Answer::Undone { .. }) => Flag::Compensated,
            (_, Answer::Undone { .. }) => return Ok(vec![]),
        };
        self.flags.insert(step, new);
        if let Answer::Refused(refusal) = answer {
            self.refusals.push(HeardRefusal {
                step,
                at: now,
                refusal,
            });
        }
        Ok(self.join(now, rules))
    }

    /// Joins the flags: set inclusion, never a count (R4).
    fn join(&mut self, now: i64, rules: &Rules) -> Vec<Say> {
        match self.state {
            State::Pending if self.flags.values().all(|flag| *flag == Flag::Succeeded) => {
                self.state = State::Confirmed;
                self.confirmed_at = now;
                self.due_at = 0;
                vec![Say::Confirmed]
            }
            State::Pending if self.flags.values().any(|flag| flag.is_undone()) => {
                self.cancel(Reason::Refused, now, rules)
            }
            State::Compensating | State::CompensationFailed => self.finish(),
            _ => vec![],
        }
    }

    fn cancel(&mut self, reason: Reason, now: i64, rules: &Rules) -> Vec<Say> {
        self.state = State::Compensating;
        self.reason = Some(reason);
        self.attempt = 1;
        self.due_at = now + rules.compensation_deadlines.first().copied().unwrap_or(0);
        let canceled = Canceled { reason, attempt: 1 };
        let mut said = vec![Say::Canceled(canceled)];
        said.extend(self.finish());
        said
    }

    fn finish(&mut self) -> Vec<Say> {
        if !self.flags.values().all(|flag| flag.is_undone()) {
            return vec![];
        }
        self.state = State::Canceled;
        self.due_at = 0;
        vec![Say::Compensated]
    }

    fn ring(&mut self, now: i64, rules: &Rules) -> Vec<Say> {
        if self.due_at == 0 || now < self.due_at {
            return vec![];
        }
        match self.state {
            State::Pending => self.cancel(Reason::DeadlinePassed, now, rules),
            State::Compensating => {
                let asked = self.overdue as usize;
                self.overdue += 1;
                if asked >= rules.compensation_deadlines.len() {
                    self.state = State::CompensationFailed;
                    self.due_at = 0;
                    return vec![Say::CompensationFailed(self.silent_steps())];
                }
                let last = rules.compensation_deadlines.len() - 1;
                self.due_at = now + rules.compensation_deadlines[(asked + 1).min(last)];
                self.ask_again()
            }
            _ => vec![],
        }
    }

    fn retry(&mut self, now: i64, rules: &Rules) -> Vec<Say> {
        if self.state != State::CompensationFailed {
            return vec![];
        }
        self.state = State::Compensating;
        self.overdue = 0;
        self.due_at = now + rules.compensation_deadlines.first().copied().unwrap_or(0);
        self.ask_again()
    }

    fn mark_undone(&mut self, step: Step, now: i64, rules: &Rules) -> Vec<Say> {
        if self.state != State::CompensationFailed {
            return vec![];
        }
        match self.flags.get_mut(&step) {
            Some(flag @ Flag::Succeeded) => *flag = Flag::Compensated,
            Some(flag @ Flag::Waiting) => *flag = Flag::Void,
            _ => return vec![],
        }
        self.join(now, rules)
    }

    /// Takes as given what it once said from outside, whether or not it would say so now:
    /// a replay has no user, no timer and no operator of its own.
    pub fn take_as_given(&mut self, say: &Say, now: i64, rules: &Rules) {
        match say {
            Say::Canceled(canceled) if canceled.attempt <= 1 => {
                self.cancel(canceled.reason, now, rules);
            }
            Say::Canceled(canceled) => {
                let asked = match self.state {
                    // An operator had it asked for again.
                    State::CompensationFailed => 0,
                    _ => self.overdue + 1,
                };
                self.state = State::Compensating;
                self.reason = Some(canceled.reason);
                self.attempt = canceled.attempt;
                self.overdue = asked;
                let deadlines = &rules.compensation_deadlines;
                let next = deadlines.get(asked as usize).or(deadlines.last());
                self.due_at = now + next.copied().unwrap_or(0);
            }
            Say::Compensated => {
                // An operator marked what was silent.
                for flag in self.flags.values_mut().filter(|flag| !flag.is_undone()) {
                    *flag = match flag {
                        Flag::Succeeded => Flag::Compensated,
                        _ => Flag::Void,
                    };
                }
                self.state = State::Canceled;
                self.due_at = 0;
            }
            Say::CompensationFailed(_) => {
                self.state = State::CompensationFailed;
                self.overdue += 1;
                self.due_at = 0;
            }
            // Only answers confirm.
            Say::Confirmed => return,
        }
        self.version += 1;
        self.updated_at = now;
    }

    /// The steps that have not answered that they are undone.
    #[must_use]
    pub fn silent_steps(&self) -> Vec<Step> {
        let flags = self.flags.iter();
        flags
            .filter(|(_, flag)| !flag.is_undone())
            .map(|(step, _)| *step)
            .collect()
    }

    fn ask_again(&mut self) -> Vec<Say> {
        let Some(reason) = self.reason else {
            return vec![];
        };
        self.attempt += 1;
        vec![Say::Canceled(Canceled {
            reason,
            attempt: self.attempt,
        })]
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
