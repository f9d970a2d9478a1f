//! A FUSE server over one host directory, for virtual machines.
//!
//! The server has one core, [`server::Server`], which turns a FUSE request in a virtio
//! descriptor chain into a reply, and doors that feed it: [`vhost_user`] serves a VMM in
//! another process (QEMU); an in-process VMM calls the core from its own queue worker.
