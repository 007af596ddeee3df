//! The intake: commands from outside, committed in groups.
//!
//! Commands that arrive while a commit is running share the next one, so the cost of a
//! commit is divided among as many as there are, and one that comes alone waits for
//! nobody.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::database::Tx;
use crate::event::Emission;
use crate::fault::Fault;
use crate::service::Shell;

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
    type Answer: Send + 'static;

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
    answer: oneshot::Sender<Result<C::Answer, Fault>>,
}

impl<C: Commands> Intake<C> {
    /// Starts the loop that commits groups.
    pub(crate) fn start(shell: &Shell, commands: C) -> Self {
        let (queue, incoming) = mpsc::channel(QUEUE);
        let commands = Arc::new(commands);
        let stop = shell.stopping();
        shell.spawn("intake", run(shell.clone(), commands, incoming, stop));
        Self { queue }
    }

    /// Hands a command in and waits until it is decided and has committed.
    ///
    /// # Errors
    /// When the database is away, or the service has too much to do or is stopping.
    pub async fn submit(&self, command: C::Command) -> Result<C::Answer, Fault> {
        let (answer, answered) = oneshot::channel();
        let busy = |_| Fault::Away("too many requests are waiting".to_owned());
        self.queue
            .try_send(Waiting { command, answer })
            .map_err(busy)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Fault::Away("the service is stopping".to_owned())))
    }
}

async fn run<C: Commands>(
    shell: Shell,
    commands: Arc<C>,
    mut incoming: mpsc::Receiver<Waiting<C>>,
    stop: CancellationToken,
) {
    let mut group = Vec::new();
    loop {
        let count = tokio::select! {
            count = incoming.recv_many(&mut group, GROUP) => count,
            () = stop.cancelled() => {
                incoming.close();
                incoming.recv_many(&mut group, GROUP).await
            }
        };
        if count == 0 {
            return;
        }
        let (asked, answers): (Vec<_>, Vec<_>) = group
            .drain(..)
            .map(|waiting| (waiting.command, waiting.answer))
            .unzip();
        match decide(&shell, commands.as_ref(), &asked).await {
            Ok(decided) => {
                for (answer, waiting) in decided.into_iter().zip(answers) {
                    // Whoever asked may be gone; what was decided stands.
                    let _ = waiting.send(Ok(answer));
                }
            }
            Err(fault) if asked.len() == 1 || matches!(fault, Fault::Away(_)) => {
                let text = fault.to_string();
                tracing::warn!(%fault, "commands could not be decided");
                for waiting in answers {
                    let _ = waiting.send(Err(Fault::Away(text.clone())));
                }
            }
            Err(_) => {
                // One of them is poison: one by one, so that the others get through.
                for (command, waiting) in asked.into_iter().zip(answers) {
                    let decided = decide(&shell, commands.as_ref(), &[command]).await;
                    let one = decided.and_then(|mut answers| {
                        answers
                            .pop()
                            .ok_or_else(|| Fault::Permanent("no answer".to_owned()))
                    });
                    let _ = waiting.send(one);
                }
            }
        }
    }
}

async fn decide<C: Commands>(
    shell: &Shell,
    commands: &C,
    asked: &[C::Command],
) -> Result<Vec<C::Answer>, Fault> {
    let mut conflicts = 0;
    loop {
        let attempt = async {
            let tx = shell.begin().await?;
            let (answers, emissions) = commands.decide(&tx, asked).await?;
            shell.commit(tx, emissions).await?;
            Ok(answers)
        };
        match tokio::time::timeout(TRANSACTION, attempt).await {
            Err(_) => return Err(Fault::Away("a transaction took too long".to_owned())),
            Ok(Err(Fault::Conflict(_))) if conflicts < 10 => conflicts += 1,
            Ok(result) => return result,
        }
    }
}
