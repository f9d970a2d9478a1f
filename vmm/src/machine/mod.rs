//! A machine from its parts: [`Config`] → [`start`] → [`Handle`], with [`Event`]s on the way.

mod config;
mod devices;
mod error;
mod event;
mod handle;
mod start;

pub use boxbuild_virtiofs::{PassthroughFs, Share};
pub use config::Config;
pub use error::StartError;
pub use event::{Event, Events};
pub use handle::Handle;
pub use start::start;

pub use crate::arch::mark::Mark;
pub use crate::vcpu::Ended;
