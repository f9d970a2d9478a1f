//! One build, from the request to its published results.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod boot;
pub mod boot_history;
pub mod build_args;
pub mod build_times;
mod cache_file;
pub mod cache_folder;
pub mod command_line;
pub mod disk_usage;
pub mod failed_builds;
pub mod held_folders;
pub mod history;
pub mod host_facts;
pub mod host_paths;
mod host_values;
pub mod inputs;
pub mod kiwi_log;
mod kiwi_paths;
pub mod log_copy;
pub mod output_dir;
mod places;
pub mod plan;
pub mod record;
pub mod request;
pub mod resolve;
pub mod run;
pub mod ssh;
pub mod terminal;
pub mod timeline;
pub mod user_cache;
