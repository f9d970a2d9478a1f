//! What a command on boxes has to say.

use serde_json::Value;

use crate::exit_code::Failure;

/// What a command has to say.
pub(super) struct Answer {
    /// For people.
    pub(super) text: String,
    /// For programs; if the command takes long, a list of boxes, each of which is an event.
    pub(super) value: Value,
    /// It takes long: programs get events.
    pub(super) takes_long: bool,
    /// It did its work, and found something wrong.
    pub(super) failure: Option<Failure>,
}

impl Answer {
    /// An answer of a command that is quick, and found nothing wrong.
    pub(super) fn new(text: String, value: Value) -> Answer {
        Answer {
            text,
            value,
            takes_long: false,
            failure: None,
        }
    }
}
