//! Plays one service: it takes as given what it said from outside, and decides again what it
//! said because of an event.
//!
//! The stream tells in which order a service decided: by the numbers of what it said. It
//! does not tell when the service handled an event to which it said nothing. Such an event
//! is played where it stands in the stream; where that makes the service say what was not
//! recorded, it is tried earlier or later among the events of its order, and only if no
//! place gives what was recorded there is a difference.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use events::OrderId;
use events::catalog::Kind;
use events::{EventId, body};
use uuid::Uuid;

use super::compare::{self, Difference};
use super::folder::{self, ReplayError};
use super::index::{Index, Part};
use super::report::{NotComparable, Played, Report};
use super::tape::{Before, Tape};
use crate::database::{Database, Location, Tx};
use crate::event::{Delivery, Emission};
use crate::fault::Fault;
use crate::hearing::batch::{Item, Work};
use crate::hearing::participant;
use crate::saying::outbox;
use crate::shell::service::Service;
use crate::shell::settings::Settings;
use crate::stream::history::Recorded;
use crate::telemetry::Tracer;

// Events to which nothing was said share a transaction.
const TOGETHER: usize = 256;

/// Plays a tape through services, into new databases in a folder; `base` is a folder with a
/// copy of their databases, to begin with.
///
/// # Errors
/// When the folder is not empty, or a database cannot be used.
pub async fn replay(
    services: &[Service],
    tape: &Tape,
    into: &Path,
    base: Option<&Path>,
) -> Result<Report, ReplayError> {
    folder::empty(into)?;
    if let Some(base) = base {
        for service in services {
            folder::copy(base, into, service.name)?;
        }
    }
    let index = Index::of(tape);
    let settings = settings(tape);
    let play = services
        .iter()
        .map(|service| Player::play(service, tape, &index, &settings, into, base.is_some()));
    let mut report = Report::default();
    for played in futures::future::join_all(play).await {
        let (played, differences, not_comparable) = played?;
        report.services.push(played);
        report.differences.extend(differences);
        report.not_comparable.extend(not_comparable);
    }
    report.differences.sort_by_key(Difference::stream_sequence);
    report
        .not_comparable
        .sort_by_key(|event| event.stream_sequence);
    Ok(report)
}

/// The settings under which the events were decided, as far as they decide anything: how
/// long orders had, which also is how long a replaced price is honoured.
fn settings(tape: &Tape) -> Settings {
    let placed = tape
        .events()
        .iter()
        .filter(|event| event.envelope.entry.kind == Kind::Created);
    let contexts = placed.filter_map(|event| body::context(event.envelope.body.clone()).ok());
    let deadlines = contexts.map(|context| context.deadline - context.placed_at);
    let default = Settings::default();
    let order_deadline = deadlines
        .max()
        .and_then(|millis| u64::try_from(millis).ok())
        .map_or(default.order_deadline, Duration::from_millis);
    Settings {
        order_deadline,
        ..default
    }
}

struct Player<'a> {
    service: &'a Service,
    tape: &'a Tape,
    index: &'a Index<'a>,
    settings: &'a Settings,
    work: Work,
    part: Part<'a>,
    silent_of: HashMap<Uuid, Vec<&'a Recorded>>,
    // How far the silent ones have come, and which were handled before their turn.
    next: usize,
    early: HashSet<EventId>,
    // Silent ones that said something where they stand: tried again later.
    deferred: Vec<&'a Recorded>,
    // The databases were copied at this number of the service's events; 0 without a copy.
    base: i64,
    has_base: bool,
    // Whether what the service has is all there.
    known: bool,
    // Orders of which it has decided otherwise, where that is not compared.
    otherwise: HashSet<Uuid>,
    played: Played,
    differences: Vec<Difference>,
    not_comparable: Vec<NotComparable>,
}

type Found = (Played, Vec<Difference>, Vec<NotComparable>);

impl<'a> Player<'a> {
    async fn play(
        service: &'a Service,
        tape: &'a Tape,
        index: &'a Index<'a>,
        settings: &'a Settings,
        into: &Path,
        has_base: bool,
    ) -> Result<Found, ReplayError> {
        let location = Location::Sqlite(folder::file(into, service.name));
        let database = Database::open(service.name, &location, service.migrations).await?;
        let failed = |fault| ReplayError::Fault {
            service: service.name,
            fault,
        };
        // What is lost with the machine is made again.
        let quick = database.execute("PRAGMA synchronous = OFF", vec![]).await;
        quick.map_err(failed)?;
        let base = last_number(&database).await.map_err(failed)?;
        let subscriptions = (service.subscriptions)(settings);
        let part = Part::of(service.name, &subscriptions, tape, index);
        let mut silent_of: HashMap<Uuid, Vec<&Recorded>> = HashMap::new();
        for event in &part.silent {
            let order = event.envelope.correlation;
            silent_of.entry(order).or_default().push(event);
        }
        let mut player = Player {
            service,
            tape,
            index,
            settings,
            work: Work {
                consumer: service.name.to_owned(),
                database: database.clone(),
                subscriptions,
                tracer: Tracer::default(),
            },
            part,
            silent_of,
            next: 0,
            early: HashSet::new(),
            deferred: vec![],
            base,
            has_base,
            known: tape.before != Before::Missing,
            otherwise: HashSet::new(),
            played: Played {
                service: service.name,
                ..Played::default()
            },
            differences: vec![],
            not_comparable: vec![],
        };
        player.run().await.map_err(failed)?;
        database.close().await;
        let Player {
            mut played,
            differences,
            not_comparable,
            ..
        } = player;
        played.different = differences.len();
        played.not_comparable = not_comparable.len();
        Ok((played, differences, not_comparable))
    }

    async fn run(&mut self) -> Result<(), Fault> {
        let mut answered: HashSet<EventId> = HashSet::new();
        let mut number = self.base;
        for said in std::mem::take(&mut self.part.said) {
            let envelope = &said.envelope;
            if envelope.pseq <= self.base {
                // The copied database has it.
                answered.extend(envelope.causation);
                continue;
            }
            if self.tape.before == Before::Everything && envelope.pseq != number + 1 {
                self.known = false;
            }
            number = envelope.pseq;
            match envelope.causation {
                None => {
                    self.hear_until(said.stream_sequence).await?;
                    self.take_as_given(said).await?;
                }
                Some(cause) if answered.insert(cause) => match self.index.by_id.get(&cause) {
                    Some(input) => {
                        self.hear_until(input.stream_sequence).await?;
                        self.handle(input, envelope.time).await?;
                    }
                    None if self.tape.compares(said) => {
                        self.cannot_compare(said, "its cause is not among what was read");
                    }
                    None => {}
                },
                Some(_) => {}
            }
        }
        self.finish().await?;
        // Nobody publishes what a replay says.
        let sql = "INSERT INTO published (pseq, published_at, stream_sequence)
                   SELECT pseq, decided_at, 0 FROM outbox WHERE true ON CONFLICT DO NOTHING";
        self.work.database.execute(sql, vec![]).await?;
        Ok(())
    }

    /// Handles what stands before a place in the stream and was not answered.
    async fn hear_until(&mut self, sequence: u64) -> Result<(), Fault> {
        loop {
            let from = self.next;
            let due = self.part.silent[from..].iter();
            let due = due.take_while(|event| event.stream_sequence < sequence);
            let slice: Vec<&Recorded> = due.take(TOGETHER).copied().collect();
            if slice.is_empty() {
                return Ok(());
            }
            self.next += slice.len();
            let fresh = |event: &&Recorded| !self.early.contains(&event.envelope.id);
            let slice: Vec<&Recorded> = slice.into_iter().filter(fresh).collect();
            if self.hear_silently(&slice).await?.is_none() {
                continue;
            }
            for event in slice {
                if self.hear_silently(&[event]).await?.is_some() {
                    self.deferred.push(event);
                }
            }
        }
    }

    /// Handles events to which nothing was said. If something is said now, nothing has
    /// happened, and that is returned.
    async fn hear_silently(&mut self, slice: &[&Recorded]) -> Result<Option<Said>, Fault> {
        let Some(last) = slice.last() else {
            return Ok(None);
        };
        let tx = self.work.database.begin_at(last.envelope.time).await?;
        match self.decide(&tx, slice).await? {
            Said::Words(words) if words.is_empty() => {
                tx.commit().await?;
                self.played.handled += slice.len();
                Ok(None)
            }
            said => Ok(Some(said)),
        }
    }

    async fn decide(&self, tx: &Tx, slice: &[&Recorded]) -> Result<Said, Fault> {
        let mut items = Vec::with_capacity(slice.len());
        for event in slice {
            let subject = event.envelope.entry.subject;
            let mut subscriptions = self.work.subscriptions.iter();
            let Some(subscription) = subscriptions.position(|s| s.hears(subject)) else {
                return Ok(Said::Fault(format!("no subscription hears {subject}")));
            };
            let delivery = Delivery::new(event.envelope.clone(), event.stream_sequence);
            items.push(Item {
                delivery,
                subscription,
            });
        }
        match self.work.decide(tx, &items).await {
            Ok(words) => Ok(Said::Words(words)),
            // The scratch database itself fails.
            Err(fault @ (Fault::Away(_) | Fault::Fenced(_))) => Err(fault),
            Err(fault) => Ok(Said::Fault(fault.to_string())),
        }
    }

    async fn take_as_given(&mut self, said: &Recorded) -> Result<(), Fault> {
        let envelope = &said.envelope;
        let tx = self.work.database.begin_at(envelope.time).await?;
        let taken = (self.service.given)(&tx, self.settings, envelope).await;
        match taken {
            Ok(()) => {
                outbox::append(&tx, vec![Emission::recorded(envelope)]).await?;
                tx.commit().await?;
                self.played.given += 1;
            }
            Err(fault @ (Fault::Away(_) | Fault::Fenced(_))) => return Err(fault),
            Err(fault) if self.known && self.tape.compares(said) => {
                let why = format!("it cannot be taken as given: {fault}");
                let found = compare::between(self.service.name, said, &[], &[], Some(why));
                self.differences.extend(found);
            }
            Err(_) => drop(self.otherwise.insert(envelope.correlation)),
        }
        self.try_deferred(Some(envelope.correlation)).await
    }

    /// Handles an event that was answered, and compares.
    async fn handle(&mut self, input: &'a Recorded, now: i64) -> Result<(), Fault> {
        let recorded = self.part.answers[&input.envelope.id].clone();
        let order = input.envelope.correlation;
        let compared: Vec<&Recorded> = recorded
            .iter()
            .filter(|event| self.tape.compares(event))
            .copied()
            .collect();
        let reason = recorded.iter().find_map(|event| self.why_not(event));
        self.played.handled += 1;
        if (compared.is_empty() || reason.is_some())
            && let Some(refused) = recorded
                .iter()
                .find(|event| matches!(event.envelope.entry.kind, Kind::Refused(_)))
        {
            // What it had then is not known, or not compared: what was recorded counts.
            let tx = self.work.database.begin_at(now).await?;
            participant::refuse_as_recorded(&tx, &refused.envelope).await?;
            outbox::append(&tx, vec![Emission::recorded(&refused.envelope)]).await?;
            tx.commit().await?;
        } else if !self.agrees(input, now, &recorded).await? {
            let (said, fault) = self.insist(input, now).await?;
            if reason.is_none() && !compared.is_empty() {
                let found = compare::between(self.service.name, input, &recorded, &said, fault);
                match self.index.given_up.contains(&order) && self.service.name == "order" {
                    true => self.cannot_compare_all(&compared, BY_HAND),
                    false => self.differences.extend(found),
                }
                return self.try_deferred(Some(order)).await;
            }
            self.otherwise.insert(order);
        }
        match reason {
            Some(reason) => self.cannot_compare_all(&compared, reason),
            None => self.played.equal += compared.len(),
        }
        self.try_deferred(Some(order)).await
    }

    /// Whether this build says what was recorded, if need be after silent events of the
    /// order that stand later in the stream; then it has happened.
    async fn agrees(
        &mut self,
        input: &Recorded,
        now: i64,
        recorded: &[&Recorded],
    ) -> Result<bool, Fault> {
        let order = input.envelope.correlation;
        let silent = self.silent_of.get(&order).into_iter().flatten();
        let later: Vec<&Recorded> = silent
            .filter(|event| event.stream_sequence > input.stream_sequence)
            .filter(|event| !self.early.contains(&event.envelope.id))
            .copied()
            .collect();
        for before in 0..=later.len() {
            let tx = self.work.database.begin_at(now).await?;
            let mut silent = true;
            for event in &later[..before] {
                let said = self.decide(&tx, &[event]).await?;
                silent &= matches!(said, Said::Words(words) if words.is_empty());
            }
            if !silent {
                return Ok(false);
            }
            if let Said::Words(words) = self.decide(&tx, &[input]).await?
                && compare::same(recorded, &words)
            {
                outbox::append(&tx, words).await?;
                tx.commit().await?;
                self.played.handled += before;
                self.early
                    .extend(later[..before].iter().map(|e| e.envelope.id));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Handles an event as this build does, whatever was recorded.
    async fn insist(
        &self,
        input: &Recorded,
        now: i64,
    ) -> Result<(Vec<Emission>, Option<String>), Fault> {
        let tx = self.work.database.begin_at(now).await?;
        match self.decide(&tx, &[input]).await? {
            Said::Words(words) => {
                outbox::append(&tx, words.clone()).await?;
                tx.commit().await?;
                Ok((words, None))
            }
            Said::Fault(why) => Ok((vec![], Some(why))),
        }
    }

    async fn try_deferred(&mut self, order: Option<Uuid>) -> Result<(), Fault> {
        let of = |event: &Recorded| order.is_none_or(|order| event.envelope.correlation == order);
        if !self.deferred.iter().any(|event| of(event)) {
            return Ok(());
        }
        for event in std::mem::take(&mut self.deferred) {
            if !of(event) || self.hear_silently(&[event]).await?.is_some() {
                self.deferred.push(event);
            }
        }
        Ok(())
    }

    /// What is left: silent events after the last answer, and those to which this build
    /// says something wherever they are played.
    async fn finish(&mut self) -> Result<(), Fault> {
        self.hear_until(u64::MAX).await?;
        self.try_deferred(None).await?;
        for event in std::mem::take(&mut self.deferred) {
            // Nothing was recorded, so where nothing can be said nothing is missed.
            if !self.tape.compares(event) || self.why_not(event).is_some() {
                continue;
            }
            if event.stream_sequence > self.part.heard_until {
                self.cannot_compare(event, "what is replayed ends before it was answered");
            } else {
                let (said, fault) = self.insist(event, event.envelope.time).await?;
                let found = compare::between(self.service.name, event, &[], &said, fault);
                self.differences.extend(found);
            }
        }
        Ok(())
    }

    /// Why nothing can be said of an event.
    fn why_not(&self, event: &Recorded) -> Option<&'static str> {
        let envelope = &event.envelope;
        let order = envelope.correlation;
        if self.otherwise.contains(&order) {
            return Some("this build decided otherwise about its order before");
        }
        if !self.has_base && !self.index.placed.contains(&order) {
            return Some("its order was placed before what was read");
        }
        let takes = matches!(envelope.entry.kind, Kind::Taken(_) | Kind::Refused(_));
        if !self.known && takes && envelope.entry.writer == self.service.name {
            return Some("what the service had before is missing");
        }
        None
    }

    fn cannot_compare_all(&mut self, events: &[&Recorded], reason: &'static str) {
        for event in events {
            self.cannot_compare(event, reason);
        }
    }

    fn cannot_compare(&mut self, event: &Recorded, reason: &'static str) {
        self.not_comparable.push(NotComparable {
            service: self.service.name,
            order_id: OrderId(event.envelope.correlation),
            subject: event.envelope.entry.subject,
            stream_sequence: event.stream_sequence,
            reason,
        });
    }
}

const BY_HAND: &str = "its compensation was given up: what a person marks by hand is not said";

/// What this build says.
enum Said {
    Words(Vec<Emission>),
    Fault(String),
}

async fn last_number(database: &Database) -> Result<i64, Fault> {
    let rows = database.query("SELECT pseq FROM producer", vec![]).await?;
    match rows.first() {
        Some(row) => Ok(row.try_get("", "pseq")?),
        None => Ok(0),
    }
}
