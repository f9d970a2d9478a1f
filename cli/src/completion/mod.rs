//! What may stand at the end of a command line: options on both sides of `--`, commands, boxes, kept
//! builds, profiles. Shells ask for it through `boxbuild complete` ([`script`]).

mod bash;
mod command;
mod cut;
mod description;
mod engine;
mod line;
mod script;
mod values;

pub(crate) use engine::candidates;
pub(crate) use script::script;
