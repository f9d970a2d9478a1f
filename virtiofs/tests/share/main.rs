//! A share as a guest sees it: requests through guest memory, a virtqueue and vhost-user to a
//! `ShareServer`.

mod escape;
mod guest;
mod hostile;
mod locks;
mod model;
mod operation;
mod operations;
mod plain;
mod read_only;
mod serve;
mod support;
