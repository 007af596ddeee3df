//! The intake: commands from outside, committed in groups.
//!
//! Commands that arrive while a commit is running share the next one, so the cost of a
//! commit is divided among as many as there are, and one that comes alone waits for
//! nobody.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use events::UserId;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::database::Tx;
use crate::event::Emission;
use crate::fault::Fault;
use crate::http::Problem;
use crate::http::idempotency::{self, Answered, Known, Request};
use crate::http::limits::PerUser;
use crate::shell::Shell;

// Commands that share a transaction at most.
const GROUP: usize = 128;
// Commands that may wait; beyond, the caller is told to come back.
const QUEUE: usize = 4096;
const TRANSACTION: Duration = Duration::from_secs(5);

/// Decides commands.
pub trait Commands: Send + Sync + 'static {
    /// What is asked for.
    type Command: Send + Sync + 'static;
    /// What is answered: success or a refusal, in the domain's own type.
    type Answer: Send + Sync + 'static;

    /// Decides a group of commands in one transaction: an answer for each, in order, and
    /// the events that were decided.
    ///
    /// # Errors
    /// A [`Fault`] rolls everything back; the commands are then tried one by one.
    fn decide<'a>(
        &'a self,
        tx: &'a Tx,
        commands: &'a [Self::Command],
    ) -> BoxFuture<'a, Result<Decided<Self::Answer>, Fault>>;
}

/// What a group of commands came to: an answer for each, in order, and the events.
pub type Decided<A> = (Vec<A>, Vec<Emission>);

/// Where commands are handed in.
pub struct Intake<C: Commands> {
    queue: mpsc::Sender<Waiting<C>>,
}

impl<C: Commands> Clone for Intake<C> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

struct Waiting<C: Commands> {
    command: C::Command,
    // Only where the client sent a key: without one there is nothing to look up or write.
    keyed: Option<Keyed<C::Answer>>,
    answer: oneshot::Sender<Result<Outcome<C::Answer>, Fault>>,
}

impl<C: Commands> Waiting<C> {
    fn request(&self) -> Option<&Request> {
        self.keyed.as_ref().map(|keyed| &keyed.request)
    }

    fn answer(self, outcome: Result<Outcome<C::Answer>, Fault>) {
        // Whoever asked may be gone; what was decided stands.
        let _ = self.answer.send(outcome);
    }
}

enum Outcome<A> {
    Decided(A),
    Answered(Result<Answered, Problem>),
}

/// A command with an idempotency key: what is answered is written with what is decided,
/// so the answer is made in the transaction.
struct Keyed<A> {
    request: Request,
    user: UserId,
    limit: PerUser,
    render: Render<A>,
}

type Render<A> = Arc<dyn Fn(&A) -> Result<Answered, Problem> + Send + Sync>;

/// Who hands a command in, and how often they may.
pub struct Call<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Counts the user's commands; a replay does not count.
    pub limit: &'a PerUser,
    /// The request, if it has an idempotency key.
    pub request: Option<Request>,
}

impl<C: Commands> Intake<C> {
    /// Starts the loop that commits groups.
    pub(crate) fn start(shell: &Shell, commands: C) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let stop = shell.stopping();
        let group = Group {
            shell: shell.clone(),
            commands,
        };
        shell.spawn("intake", run(group, incoming, stop));
        Self { queue }
    }

    /// Hands a command in, waits until it is decided and has committed, and answers;
    /// with an idempotency key, a command that was decided before is answered as it was.
    ///
    /// # Errors
    /// What `render` makes of a refusal; 429 for a user who asks too often; 422 or 409
    /// for a key that was used otherwise or is in use; 503 when the database is away, or
    /// the service has too much to do or is stopping.
    pub async fn answer(
        &self,
        call: Call<'_>,
        command: C::Command,
        render: impl Fn(&C::Answer) -> Result<Answered, Problem> + Send + Sync + 'static,
    ) -> Result<Answered, Problem> {
        let Some(request) = call.request else {
            call.limit.admit(call.user)?;
            return match self.submit(command, None).await? {
                Outcome::Decided(answer) => render(&answer),
                Outcome::Answered(answered) => answered,
            };
        };
        let render: Render<C::Answer> = Arc::new(render);
        let keyed = Keyed {
            request,
            user: call.user.clone(),
            limit: call.limit.clone(),
            render: render.clone(),
        };
        match self.submit(command, Some(keyed)).await? {
            Outcome::Decided(answer) => render(&answer),
            Outcome::Answered(answered) => answered,
        }
    }

    /// Hands a command in that may be asked for as often as one likes: it has no key and
    /// is not counted. What was decided, once it has committed.
    ///
    /// # Errors
    /// When the database is away, or the service has too much to do or is stopping.
    pub async fn decide(&self, command: C::Command) -> Result<C::Answer, Fault> {
        match self.submit(command, None).await? {
            Outcome::Decided(answer) => Ok(answer),
            // Only what has a key is answered otherwise.
            Outcome::Answered(_) => Err(Fault::Permanent("answered by another key".to_owned())),
        }
    }

    async fn submit(
        &self,
        command: C::Command,
        keyed: Option<Keyed<C::Answer>>,
    ) -> Result<Outcome<C::Answer>, Fault> {
        let (answer, answered) = oneshot::channel();
        let busy = |_| Fault::Away("too many requests are waiting".to_owned());
        let waiting = Waiting {
            command,
            keyed,
            answer,
        };
        self.queue.try_send(waiting).map_err(busy)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Fault::Away("the service is stopping".to_owned())))
    }
}

async fn run<C: Commands>(
    group: Group<C>,
    mut incoming: mpsc::Receiver<Waiting<C>>,
    stop: CancellationToken,
) {
    loop {
        let mut asked = Vec::new();
        let count = tokio::select! {
            count = incoming.recv_many(&mut asked, GROUP) => count,
            () = stop.cancelled() => {
                incoming.close();
                incoming.recv_many(&mut asked, GROUP).await
            }
        };
        if count == 0 {
            return;
        }
        let (first, again) = group.replay(asked).await;
        if !first.is_empty() {
            group.answer(first).await;
        }
        group.settle(again).await;
    }
}

/// What decides groups of commands.
struct Group<C> {
    shell: Shell,
    commands: C,
}

impl<C: Commands> Group<C> {
    /// Answers what was answered before, and what comes too often. What is left is split:
    /// commands to decide, and those whose key one of them has too.
    async fn replay(&self, asked: Vec<Waiting<C>>) -> (Vec<Waiting<C>>, Vec<Waiting<C>>) {
        if asked.iter().all(|waiting| waiting.keyed.is_none()) {
            return (asked, vec![]);
        }
        let known = self.known(asked.iter().filter_map(Waiting::request)).await;
        let (mut first, mut again) = (Vec::with_capacity(asked.len()), Vec::new());
        let mut seen = HashSet::new();
        for waiting in asked {
            let Some(keyed) = &waiting.keyed else {
                first.push(waiting);
                continue;
            };
            let answered = match &known {
                Ok(known) => known.answer(&keyed.request),
                Err(fault) => {
                    waiting.answer(Err(Fault::Away(fault.to_string())));
                    continue;
                }
            };
            let (user, route, key) = keyed.request.id();
            if let Some(answered) = answered {
                waiting.answer(Ok(Outcome::Answered(answered)));
            } else if !seen.insert([user, route, key].map(str::to_owned)) {
                again.push(waiting);
            } else if let Err(problem) = keyed.limit.admit(&keyed.user) {
                waiting.answer(Ok(Outcome::Answered(Err(problem))));
            } else {
                first.push(waiting);
            }
        }
        (first, again)
    }

    async fn known<'a>(&self, requests: impl Iterator<Item = &'a Request>) -> Result<Known, Fault> {
        let known = Known::of(self.shell.database(), requests);
        let late = |_| Fault::Away("looking keys up took too long".to_owned());
        tokio::time::timeout(TRANSACTION, known)
            .await
            .map_err(late)?
    }

    /// Decides a group and answers it.
    async fn answer(&self, asked: Vec<Waiting<C>>) {
        let (mut commands, mut waiting) = (Vec::new(), Vec::new());
        for Waiting {
            command,
            keyed,
            answer,
        } in asked
        {
            commands.push(command);
            waiting.push((keyed, answer));
        }
        let (keyed, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        match self.decide(&commands, &keyed).await {
            Ok(outcomes) => {
                for (outcome, waiting) in outcomes.into_iter().zip(answers) {
                    // Whoever asked may be gone; what was decided stands.
                    let _ = waiting.send(Ok(outcome));
                }
            }
            Err(fault) if answers.len() == 1 || matches!(fault, Fault::Away(_)) => {
                let text = fault.to_string();
                tracing::warn!(%fault, "commands could not be decided");
                for waiting in answers {
                    let _ = waiting.send(Err(Fault::Away(text.clone())));
                }
            }
            Err(_) => {
                // One of them is poison: one by one, so that the others get through.
                for ((command, keyed), waiting) in commands.into_iter().zip(keyed).zip(answers) {
                    let decided = self.decide(&[command], &[keyed]).await;
                    let one = decided.and_then(|mut outcomes| {
                        outcomes
                            .pop()
                            .ok_or_else(|| Fault::Permanent("no answer".to_owned()))
                    });
                    let _ = waiting.send(one);
                }
            }
        }
    }

    /// Decides commands in one transaction, and again while others are faster.
    async fn decide(
        &self,
        commands: &[C::Command],
        keyed: &[Option<Keyed<C::Answer>>],
    ) -> Result<Vec<Outcome<C::Answer>>, Fault> {
        let mut conflicts = 0;
        loop {
            let attempt = self.attempt(commands, keyed);
            let fault = match tokio::time::timeout(TRANSACTION, attempt).await {
                Err(_) => return Err(Fault::Away("a transaction took too long".to_owned())),
                Ok(Ok(outcomes)) => return Ok(self.look_again(outcomes, keyed).await),
                Ok(Err(fault)) => fault,
            };
            if !matches!(fault, Fault::Conflict(_)) || conflicts == 10 {
                return Err(fault);
            }
            conflicts += 1;
            // The conflict may be a key: then another instance has decided its command.
            let requests = keyed.iter().flatten().map(|keyed| &keyed.request);
            let known = self.known(requests.clone()).await?;
            let answered = requests.clone().find_map(|request| known.answer(request));
            match answered {
                Some(answered) if commands.len() == 1 => {
                    return Ok(vec![Outcome::Answered(answered)]);
                }
                // One by one, so that the others are decided.
                Some(_) => return Err(fault),
                None => {}
            }
        }
    }

    async fn attempt(
        &self,
        commands: &[C::Command],
        keyed: &[Option<Keyed<C::Answer>>],
    ) -> Result<Vec<Outcome<C::Answer>>, Fault> {
        let tx = self.shell.begin().await?;
        let (answers, emissions) = self.commands.decide(&tx, commands).await?;
        let outcomes = answers.into_iter().zip(keyed);
        let outcomes: Vec<_> = outcomes
            .map(|(answer, keyed)| match keyed {
                Some(keyed) => Outcome::Answered((keyed.render)(&answer)),
                None => Outcome::Decided(answer),
            })
            .collect();
        let new = keyed.iter().zip(&outcomes).filter_map(|pair| match pair {
            (Some(keyed), Outcome::Answered(Ok(answered))) => Some((&keyed.request, answered)),
            _ => None,
        });
        idempotency::record(&tx, new).await?;
        self.shell.commit(tx, emissions).await?;
        Ok(outcomes)
    }

    /// What was refused may have been refused because another instance has decided the
    /// same command: then the answer is that one's. Nothing can fail here any more: all
    /// of it has committed.
    async fn look_again(
        &self,
        mut outcomes: Vec<Outcome<C::Answer>>,
        keyed: &[Option<Keyed<C::Answer>>],
    ) -> Vec<Outcome<C::Answer>> {
        let pairs = outcomes.iter_mut().zip(keyed);
        let mut refused: Vec<_> = pairs
            .filter_map(|(outcome, keyed)| match (&outcome, keyed) {
                (Outcome::Answered(Err(_)), Some(keyed)) => Some((outcome, &keyed.request)),
                _ => None,
            })
            .collect();
        if !refused.is_empty() {
            let requests = refused.iter().map(|(_, request)| *request);
            if let Ok(known) = self.known(requests).await {
                for (outcome, request) in &mut refused {
                    if let Some(answered) = known.answer(request) {
                        **outcome = Outcome::Answered(answered);
                    }
                }
            }
        }
        outcomes
    }

    /// Answers commands whose key came twice in a group, when the first is decided.
    async fn settle(&self, again: Vec<Waiting<C>>) {
        if again.is_empty() {
            return;
        }
        let known = self.known(again.iter().filter_map(Waiting::request)).await;
        for waiting in again {
            let answered = match (&known, waiting.request()) {
                (Ok(known), Some(request)) => known.answer(request),
                _ => None,
            };
            let answered = answered.unwrap_or_else(|| Err(Request::in_progress()));
            waiting.answer(Ok(Outcome::Answered(answered)));
        }
    }
}
