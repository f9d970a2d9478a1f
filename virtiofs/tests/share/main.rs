//! A share as a guest sees it: requests through guest memory, a virtqueue and vhost-user to a
//! real `ShareServer`.

mod escape;
mod guest;
mod hostile;
mod locks;
mod model;
mod operations;
mod plain;
mod read_only;
mod support;
