//! Published boxes: fetched from a server that misbehaves on cue, by processes that are killed.

mod bench;
mod crash;
mod download;
mod import;
mod pull;
mod server;
mod sets;
