//! boxbuild: builds OS images with KIWI NG in a box.
//!
//! Data flows one way: arguments ([`args`]) become a validated [`plan`], the [`store`] hands
//! over the box, an [`engine`] runs the machine, and what the guest left in the target
//! directory decides the outcome.

pub mod app;
pub mod arch;
pub mod args;
pub mod batch;
pub mod bench;
pub mod boot_cache;
pub mod boot_memory;
pub mod box_args;
pub mod box_lock;
pub mod boxes;
pub mod build;
pub mod catalog;
pub mod container;
pub mod create;
pub mod doctor;
pub mod engine;
pub mod examples;
pub mod fetch;
pub mod fetch_options;
pub mod follow;
pub mod generate;
pub mod global_options;
pub mod guard;
pub mod host_paths;
pub mod import;
pub mod interrupt;
pub mod json;
pub mod kept;
pub mod kiwi_options;
pub mod lockfile;
pub mod peer_options;
pub mod plan;
pub mod progress;
pub mod pull;
pub mod report;
pub mod ssh;
pub mod store;
pub mod target;
pub mod terminal;
pub mod timings;

#[cfg(test)]
mod options_page_tests;
