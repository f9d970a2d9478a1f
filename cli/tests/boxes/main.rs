//! Published boxes: fetched from a server that misbehaves on cue, by processes that are killed; and
//! boxes that are imported.

mod crash;
mod damage;
mod download;
mod import;
mod kiwi_cache;
mod pull;
mod sandbox;
mod server;
mod sets;
mod trust;
