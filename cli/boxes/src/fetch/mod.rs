//! Fetching the files of a published box: resumable, checked, and each byte read once.
//!
//! A file grows as `NAME.part` in a folder that survives a killed process. The state of the server's
//! copy is beside it (`NAME.part.json`), so that the next attempt continues where this one
//! ended. Bytes are written and hashed as they arrive. Nothing is looked at before its checksum is
//! right.

mod checksum;
mod download;
mod error;
mod http;
mod meter;
mod mirror;
mod partial_file;
mod reach;
mod retry;
mod signature;

pub use checksum::{Algorithm, Checksum, ChecksumError};
pub use download::{Download, FetchedFile, download};
pub use error::FetchError;
pub use http::Client;
pub use meter::Meter;
pub use mirror::{Route, checksum};
pub use retry::RetryPolicy;
pub use signature::{Key, SignatureError, VARIABLE as KEY_VARIABLE};
