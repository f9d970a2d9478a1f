//! Starts a built image, as its users will, and judges what its console says.
//!
//! | | |
//! |---|---|
//! | [`Request`] | what is asked for |
//! | [`Plan`] | what will run: the image, recognised and unpacked, and its machine |
//! | [`test`] | runs it without a user, until what is expected is seen or cannot be |
//! | [`attach`] | runs it with the user's terminal as its console |
//!
//! An image is hostile: it is only read, nothing that it names is opened, and what it says is
//! bounded and sanitised (docs/run.md).

mod archive;
mod container;
mod error;
mod folder;
mod image;
mod kind;
mod log;
mod outcome;
mod plan;
mod request;
mod run;
mod scratch;
mod watch;

pub use error::RunError;
pub use outcome::{Outcome, Reason, Trouble, Verdict};
pub use plan::{Facts, Plan};
pub use request::{FirmwareChoice, Request, TestRequest};
pub use run::{Witness, attach, check_test, test};
pub use watch::LOGIN_PROMPT;
