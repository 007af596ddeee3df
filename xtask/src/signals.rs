//! Signals while other programs run.
//!
//! Without this, Ctrl-C would end xtask on the spot and leave behind what it
//! has to clear away. So xtask notes the signal, lets the program it runs end
//! in its own way, and then ends itself.

use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Failure, Outcome};
use crate::process::end_with_xtask;

/// How often a program with a time limit is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Notes the signals that ask xtask to end, and passes them on.
pub(crate) struct Signals {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The first signal that came, 0 before that.
    received: AtomicI32,
    /// The program that runs now. It is emptied before the program's process
    /// id can go to another.
    running: Mutex<Option<Pid>>,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Option<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, signal: i32) {
        let _first = self
            .received
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        let running = self.running();
        // Ctrl-C goes to the whole process group, so the program has it
        // already; a second one would make many a program end at once.
        if signal == SIGINT {
            return;
        }
        if let (Some(pid), Some(signal)) = (*running, Signal::from_named_raw(signal)) {
            let _ended_meanwhile = kill_process(pid, signal);
        }
    }
}

impl Signals {
    /// Starts to watch; from here on no such signal ends xtask by itself.
    pub(crate) fn watch() -> Outcome<Signals> {
        let shared = Arc::new(Shared::default());
        let mut arriving = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
        let receiver = Arc::clone(&shared);
        thread::spawn(move || {
            for signal in arriving.forever() {
                receiver.receive(signal);
            }
        });
        Ok(Signals { shared })
    }

    /// Fails once a signal has asked xtask to end.
    pub(crate) fn check(&self) -> Outcome {
        match self.shared.received.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Failure::interrupted(signal)),
        }
    }

    /// Names the signal as the cause of a failure, where one came: a program
    /// that it ended may have failed in other words.
    pub(crate) fn blame<T>(&self, result: Outcome<T>) -> Outcome<T> {
        result.map_err(|failure| self.check().err().unwrap_or(failure))
    }

    /// Runs a program in the foreground to its end.
    ///
    /// The command is taken whole, so that what it held for the program (the
    /// end of a pipe, say) is let go once the program has it.
    pub(crate) fn run(&self, mut command: Command) -> Outcome<ExitStatus> {
        end_with_xtask(&mut command, Signal::TERM);
        let mut child = self.start(&mut command)?;
        drop(command);
        // Wait first without collecting the process, so that its id is still
        // its own when it is taken out of the signals' reach.
        let pid = Pid::from_child(&child);
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), ended), Err(Errno::INTR)) {}
        *self.shared.running() = None;
        let status = collect(&mut child)?;
        self.check()?;
        Ok(status)
    }

    /// Runs a program and requires that it ends well.
    pub(crate) fn require(&self, command: Command) -> Outcome {
        let status = self.run(command)?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::of(status))
        }
    }

    /// Runs a program in the background, for so long and no longer. None when
    /// the time was up.
    pub(crate) fn run_for(
        &self,
        mut command: Command,
        limit: Duration,
    ) -> Outcome<Option<ExitStatus>> {
        use std::os::unix::process::CommandExt;

        // A group of its own, so that what it starts is ended with it.
        command.process_group(0);
        end_with_xtask(&mut command, Signal::TERM);
        let mut child = command
            .spawn()
            .map_err(|error| cannot_run(&command, &error))?;
        let end = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Ok(Some(status));
            }
            let interrupted = self.check();
            if interrupted.is_err() || Instant::now() >= end {
                let _ended_meanwhile = kill_process_group(Pid::from_child(&child), Signal::KILL);
                collect(&mut child)?;
                return interrupted.map(|()| None);
            }
            thread::sleep(LOOK);
        }
    }

    fn start(&self, command: &mut Command) -> Outcome<Child> {
        // Under the lock, a signal comes either before the check or when the
        // program is there to be sent it.
        let mut running = self.shared.running();
        self.check()?;
        let child = command
            .spawn()
            .map_err(|error| cannot_run(command, &error))?;
        *running = Some(Pid::from_child(&child));
        Ok(child)
    }
}

fn cannot_run(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    Failure::new(format!("cannot run {program}: {error}"))
}

fn collect(child: &mut Child) -> Outcome<ExitStatus> {
    child
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for a program: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn gives_the_status_of_what_it_ran() {
        let signals = Signals::watch().unwrap();
        assert_eq!(signals.run(shell("exit 3")).unwrap().code(), Some(3));
        assert_eq!(signals.require(shell("exit 3")).unwrap_err().code, 3);
        assert!(signals.require(shell("exit 0")).is_ok());
    }

    #[test]
    fn ends_what_takes_too_long() {
        let signals = Signals::watch().unwrap();
        let ended = signals.run_for(shell("exit 0"), Duration::from_secs(30));
        assert!(ended.unwrap().is_some_and(|status| status.success()));
        let late = signals.run_for(shell("sleep 30; exit 0"), Duration::from_millis(100));
        assert!(late.unwrap().is_none());
    }

    #[test]
    fn passes_a_signal_on_and_starts_nothing_after_it() {
        let signals = Signals::watch().unwrap();
        let shared = Arc::clone(&signals.shared);
        let sender = thread::spawn(move || {
            while shared.running().is_none() {
                thread::sleep(LOOK);
            }
            shared.receive(SIGTERM);
        });
        let failure = signals.run(shell("exec sleep 30")).unwrap_err();
        sender.join().unwrap();
        assert_eq!(failure.code, 143);
        assert_eq!(signals.run(shell("exit 0")).unwrap_err().code, 143);
        let blamed = signals
            .blame::<()>(Err(Failure::new("another")))
            .unwrap_err();
        assert!(blamed.message.is_none());
    }
}
