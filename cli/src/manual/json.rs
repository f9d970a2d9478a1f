//! `boxbuild help json`.

use super::document::Document;

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    Document::default()
        .paragraph(
            "With --json, standard output has JSON and nothing else; standard error is for people. \
             New keys may come with any version, existing ones keep their meaning. All of it is in \
             docs/json.md.",
        )
        .heading("Events, one a line")
        .items([
            (
                "phase progress note ssh line result",
                "What a build reports. Each event has the key 'event', and 'time': RFC 3339, UTC",
            ),
            (
                "box",
                "The box that 'box create', 'box pull' or 'box import' has made, as 'box info' has it",
            ),
            (
                "image test",
                "What 'test' reports before and after it has started an image",
            ),
            (
                "error",
                "'message', 'causes', and 'hint' if there is one: why the command failed, a wrong \
                 command line included",
            ),
            ("exit", "'code': always the last"),
        ])
        .heading("Documents")
        .paragraph(
            "Commands that print once (box list, box info, box verify, box lock, box reset, box prune, \
             box rm, builds, check, config, df, info, prune, verify, verify-build, diff, doctor, bench, --dry-run) print one indented object or array. If they \
             fail, they print the events 'error' and 'exit' instead.",
        )
}
