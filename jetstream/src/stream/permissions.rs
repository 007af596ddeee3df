//! What each user of the broker may do: the least that it needs, read off the catalog.
//!
//! Allow-lists only; what is not named is refused. A service publishes its own subjects,
//! pulls and acks its own consumer, hears its own inboxes, reads the stream by direct get,
//! and looks how far others are where it yields to them. Only the provisioner creates or
//! changes anything.

use std::fmt::Write as _;

use events::catalog::{self, STREAM};

use crate::hearing::backlog;
use crate::stream::broker;

/// What a user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub user: String,
    /// What it is for, in a few words.
    pub purpose: String,
    /// The subjects that it may publish to.
    pub publish: Vec<String>,
    /// The subjects that it may subscribe to.
    pub subscribe: Vec<String>,
}

// Reading the stream without a consumer.
const READ: &str = "$JS.API.DIRECT.GET.";

impl Grant {
    /// A user that may do nothing but hear its own inboxes.
    fn new(user: &str, purpose: &str) -> Self {
        Self {
            user: user.to_owned(),
            purpose: purpose.to_owned(),
            publish: vec![],
            subscribe: vec![format!("{}.>", broker::inbox(user))],
        }
    }

    fn publish<S: Into<String>>(mut self, subjects: impl IntoIterator<Item = S>) -> Self {
        self.publish.extend(subjects.into_iter().map(Into::into));
        self
    }

    /// A service, which is named like its consumer. `hints` are the subjects, outside the
    /// stream, that it says "look again" on, and hears.
    #[must_use]
    pub fn service(service: &str, hints: &[&str]) -> Self {
        let own = catalog::all().filter(|entry| entry.writer == service);
        let consumer = format!("{STREAM}.{service}");
        let mut grant = Self::new(service, &format!("the service {service}"))
            .publish(own.map(|entry| entry.subject))
            .publish([
                format!("$JS.API.CONSUMER.INFO.{consumer}"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
                // The two forms of acks: without and with a domain and an account.
                format!("$JS.ACK.{consumer}.>"),
                format!("$JS.ACK.*.*.{consumer}.>"),
                format!("{READ}{STREAM}"),
            ])
            // How far the others are, so that its backlog does not keep them waiting.
            .publish(
                backlog::looks_at(service)
                    .into_iter()
                    .map(|other| format!("$JS.API.CONSUMER.INFO.{STREAM}.{other}")),
            )
            .publish(hints.iter().copied());
        grant
            .subscribe
            .extend(hints.iter().map(|hint| (*hint).to_owned()));
        grant
    }

    /// The provisioner: it creates the stream and the consumers, and keeps them.
    #[must_use]
    pub fn provisioner() -> Self {
        Self::new("provision", "creates the stream and the consumers").publish([
            format!("$JS.API.STREAM.INFO.{STREAM}"),
            format!("$JS.API.STREAM.CREATE.{STREAM}"),
            format!("$JS.API.STREAM.UPDATE.{STREAM}"),
            format!("$JS.API.CONSUMER.INFO.{STREAM}.*"),
            format!("$JS.API.CONSUMER.CREATE.{STREAM}.>"),
            format!("$JS.API.CONSUMER.DELETE.{STREAM}.*"),
            format!("$JS.API.CONSUMER.PAUSE.{STREAM}.*"),
            format!("{READ}{STREAM}"),
        ])
    }

    /// Those who look: it reads the stream, and what there is on the broker.
    #[must_use]
    pub fn reader() -> Self {
        Self::new("look", "reads: map, timeline, why, replay, doctor").publish([
            "$JS.API.INFO".to_owned(),
            format!("$JS.API.STREAM.INFO.{STREAM}"),
            format!("$JS.API.CONSUMER.LIST.{STREAM}"),
            format!("$JS.API.CONSUMER.NAMES.{STREAM}"),
            format!("$JS.API.CONSUMER.INFO.{STREAM}.*"),
            format!("{READ}{STREAM}"),
        ])
    }
}

/// The `authorization` block of a nats-server. The password of a user is the variable
/// `password_<user>`, which `passwords.conf` beside it defines.
#[must_use]
pub fn render(grants: &[Grant]) -> String {
    let mut text = String::from(
        "# Who may do what. Written by `ensemble provision --print-permissions` from the catalog\n\
         # of events; a test holds it against the code. What is not named here is refused.\n\
         authorization {\n  include \"passwords.conf\"\n  users: [\n",
    );
    for grant in grants {
        let Grant {
            user,
            purpose,
            publish,
            subscribe,
        } = grant;
        // A String takes whatever is written.
        let _ = write!(
            text,
            "    # {purpose}\n    {{\n      user: {user}\n      password: $password_{user}\n      \
             permissions: {{\n        publish: {{ allow: [\n{}        ] }}\n        \
             subscribe: {{ allow: [\n{}        ] }}\n      }}\n    }}\n",
            lines(publish),
            lines(subscribe),
        );
    }
    text + "  ]\n}\n"
}

fn lines(subjects: &[String]) -> String {
    let line = |subject: &String| format!("          \"{subject}\"\n");
    subjects.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Grant> {
        let services = ["order", "stock", "point", "coupon", "cart"];
        let mut grants = services.map(|s| Grant::service(s, &[])).to_vec();
        grants.extend([Grant::provisioner(), Grant::reader()]);
        grants
    }

    #[test]
    fn each_subject_of_the_catalog_has_one_user_that_may_publish_it() {
        for entry in catalog::all() {
            let grants = all();
            let may = grants
                .iter()
                .filter(|g| g.publish.iter().any(|s| s == entry.subject));
            let may: Vec<&str> = may.map(|grant| grant.user.as_str()).collect();
            assert_eq!(may, [entry.writer], "{}", entry.subject);
        }
    }

    #[test]
    fn nobody_may_do_everything_and_only_the_provisioner_changes_anything() {
        for grant in all() {
            for subject in grant.publish.iter().chain(&grant.subscribe) {
                assert!(!matches!(
                    subject.as_str(),
                    ">" | "$JS.>" | "$JS.API.>" | "_INBOX.>"
                ));
                let changes = ["CREATE", "UPDATE", "DELETE", "PURGE", "PAUSE"];
                let changes = changes.iter().any(|word| subject.contains(word));
                assert!(
                    !changes || grant.user == "provision",
                    "{} may {subject}",
                    grant.user
                );
            }
        }
    }
}
