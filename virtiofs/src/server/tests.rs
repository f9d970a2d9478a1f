//! Real requests through a real descriptor chain to the real file system.

mod confinement;
mod driver;
mod files;
mod hostile;
mod ownership;
