//! Events of the machine, as events of the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxbuild_vmm::machine;

use crate::channel::EventSender;
use crate::event::{Ended, Event};

/// Translates the machine's events. `scratch` is the folder with the changes of its disk.
pub(super) fn forward(sender: EventSender, scratch: PathBuf) -> machine::Events {
    Arc::new(move |event| match event {
        machine::Event::Serial(bytes) | machine::Event::Console(bytes) => {
            sender.send(Event::Console(bytes));
        }
        machine::Event::Mark(_) => {}
        machine::Event::Control(bytes) => sender.send(Event::Control(bytes)),
        machine::Event::Notice(text) => sender.send(Event::Note(text)),
        machine::Event::StorageFull(text) => {
            sender.send(Event::Hopeless(full(&text, &scratch)));
        }
        machine::Event::Ended(ended) => sender.end(translate(ended)),
    })
}

/// There is no room for the changes of the box's disk.
fn full(text: &str, scratch: &Path) -> String {
    format!(
        "{text}: the file system of {}, which holds the changes of the box's disk, is full: free \
         some space, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
        scratch.display()
    )
}

fn translate(ended: machine::Ended) -> Ended {
    match ended {
        machine::Ended::PoweredOff => Ended::PoweredOff,
        machine::Ended::Reset => Ended::Reset,
        machine::Ended::TripleFault(text) => Ended::TripleFault(text),
        machine::Ended::Failed(text) => Ended::Failed(text),
        machine::Ended::Killed => Ended::Killed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::events;

    #[test]
    fn a_full_file_system_is_named() {
        let (sender, receiver) = events();
        let forward = forward(sender, PathBuf::from("/scratch"));
        forward(machine::Event::StorageFull(String::from("no room")));
        let Some(Event::Hopeless(text)) = receiver.next(Duration::ZERO) else {
            panic!("the build must be ended");
        };
        assert!(
            text.starts_with("no room: ") && text.contains("/scratch") && text.contains("is full"),
            "{text}"
        );
    }
}
