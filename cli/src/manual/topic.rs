//! The topics of `boxbuild help`.

use super::document::Document;
use super::{batch_file, build_args, environment, exit_codes, files, image_script, json, settings};

/// A text that belongs to no command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic {
    /// Its name on the command line; its manual page is `boxbuild-NAME`.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) about: &'static str,
    /// Section of its manual page: 5 for files, 7 for conventions (man(1)).
    pub(crate) section: &'static str,
    document: fn() -> Document,
}

impl Topic {
    /// Returns its text.
    pub(crate) fn document(&self) -> Document {
        (self.document)()
    }
}

/// All topics.
pub(crate) const TOPICS: &[Topic] = &[
    Topic {
        name: "build-args",
        about: "the options after --, for 'kiwi-ng system build'",
        section: "7",
        document: build_args::document,
    },
    Topic {
        name: "batch-file",
        about: "the file of 'boxbuild batch'",
        section: "5",
        document: batch_file::document,
    },
    Topic {
        name: "image-script",
        about: "what 'boxbuild test --script' types",
        section: "5",
        document: image_script::document,
    },
    Topic {
        name: "exit-codes",
        about: "how boxbuild ends",
        section: "7",
        document: exit_codes::document,
    },
    Topic {
        name: "environment",
        about: "environment variables that count",
        section: "7",
        document: environment::document,
    },
    Topic {
        name: "files",
        about: "where boxbuild keeps what",
        section: "7",
        document: files::files,
    },
    Topic {
        name: "settings",
        about: "settings files and variables",
        section: "5",
        document: settings::document,
    },
    Topic {
        name: "json",
        about: "what --json prints",
        section: "7",
        document: json::document,
    },
];

/// Returns the topic of this name.
pub(crate) fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_a_text_that_fits_the_terminal() {
        for topic in TOPICS {
            let text = topic.document().text();
            assert!(text.lines().count() > 5, "{}", topic.name);
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", topic.name);
            }
        }
    }
}
