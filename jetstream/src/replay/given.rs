//! What comes from outside (a request, a timer, a person) is not decided again: a replay
//! has no users. Each service says how its tables come to hold what it once said.

use events::Envelope;
use futures::future::BoxFuture;

use crate::database::Tx;
use crate::fault::Fault;
use crate::shell::settings::Settings;

/// Takes an event of the service that has no cause as given: brings the tables to where the
/// request, timer or person had brought them when it was said. The transaction's clock
/// reads the time of the event. What the tables hold already stays as it is.
pub type Given = for<'a> fn(&'a Tx, &'a Settings, &'a Envelope) -> BoxFuture<'a, Result<(), Fault>>;

/// For a service that says nothing from outside.
#[must_use]
pub fn nothing<'a>(
    _: &'a Tx,
    _: &'a Settings,
    _: &'a Envelope,
) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async { Ok(()) })
}
