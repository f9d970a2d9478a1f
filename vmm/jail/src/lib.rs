//! Confines processes of boxbuild that work on what a guest, a server or another user made.
//!
//! A jailed process is this same program, started again in a *role* ([`Role`]). The parent gives it
//! a configuration, open files and a channel, and nothing else:
//!
//! ```no_run
//! # use boxbuild_jail::{Entered, Jail, Launch, Program, Role, seccomp};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In the parent.
//! let file = std::fs::File::open("download")?;
//! let child = Launch::new(&Program::this(), "measure").descriptor(&file).start(&"what to do")?;
//! let reply = child.channel().receive(Some(std::time::Duration::from_secs(60)))?;
//! let exit = child.wait(std::time::Duration::from_secs(1))?;
//! # Ok(())
//! # }
//!
//! // In the child. The program's `main` calls `enter(&[Role { name: "measure", run }])` first.
//! fn run(mut entered: Entered) -> Result<(), Box<dyn std::error::Error>> {
//!     let wanted: String = entered.config()?;
//!     let file = entered.file()?;
//!     let _confinement = Jail::default().lock()?;
//!     seccomp::Filter::compile(&[seccomp::COMMON])?.install("measure")?;
//!     entered.channel().send(format!("{wanted}: {:?}", file.metadata()?).as_bytes(), &[])?;
//!     Ok(())
//! }
//! ```
//!
//! | what | where |
//! |---|---|
//! | the start of a child, and what is left of its surroundings | [`Launch`], [`enter`] |
//! | messages between the two, with descriptors | [`Channel`] |
//! | `no_new_privs`, not dumpable, limits, Landlock, for the whole process | [`Jail`] |
//! | which system calls a thread may make | [`seccomp`] |
//!
//! What the host cannot confine is no error: [`Confinement`] says so, and the caller tells its user
//! or refuses to go on.

mod allocator;
mod capabilities;
mod channel;
mod files;
mod launch;
mod limits;
mod lock;
mod role;
pub mod seccomp;

pub use capabilities::Capabilities;
pub use channel::{Channel, MAX_DESCRIPTORS, MAX_MESSAGE, Message};
pub use files::{FileAccess, Landlock, TcpAccess};
pub use launch::{Exit, Jailed, Launch, LaunchError, Program};
pub use limits::Limits;
pub use lock::{Confinement, Jail, JailError};
pub use role::{Entered, Role, enter};
