//! What the host gives to every part of boxbuild: its programs, files, signals, locks and
//! figures, and the interface that progress is reported through.
//!
//! Nothing here knows of boxes, machines or KIWI.

pub mod arch;
pub mod binfmt;
pub mod descriptors;
pub mod digest;
pub mod error;
pub mod exit;
pub mod ids;
pub mod input;
pub mod interrupt;
pub mod lock_file;
pub mod memory;
pub mod mounts;
pub mod nearest;
pub mod notices;
pub mod program;
pub mod reaper;
pub mod reporter;
pub mod secret;
pub mod space;
pub mod startup;
pub mod stop;
pub mod system_calls;
pub mod text;
pub mod umask;
pub mod units;
pub mod untrusted;
pub mod watchdog;
