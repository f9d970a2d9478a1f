//! What `boxbuild help TOPIC` and the manual pages say besides the options: written once, shown on a
//! terminal and as roff.

mod batch_file;
mod build_args;
mod document;
mod environment;
mod exit_codes;
mod files;
mod image_script;
mod json;
mod page;
mod settings;
mod topic;

pub(crate) use build_args::BUILD_ARGS;
pub(crate) use page::{command_page, page_name, topic_page};
pub(crate) use topic::{TOPICS, topic};
