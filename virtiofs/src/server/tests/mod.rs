//! Unit tests of the server: requests in a virtqueue to the file system of a real directory.

mod confinement;
mod driver;
mod files;
mod hostile;
mod ownership;
