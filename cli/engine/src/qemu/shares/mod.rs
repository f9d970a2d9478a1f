//! The servers of a machine's shares, in a jailed process of their own: one for all of them.
//!
//! | | |
//! |---|---|
//! | `message` | what goes between the two processes |
//! | `process` | the parent's side: [`ShareProcess`] |
//! | `role` | the child's side: [`ROLE`] |

mod message;
mod process;
mod role;

pub use process::{Fault, News, ShareProcess, Starting};
pub use role::ROLE;
