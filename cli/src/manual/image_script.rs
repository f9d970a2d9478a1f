//! `boxbuild help image-script`.

use super::document::Document;

/// A script that logs in.
const EXAMPLE: &str = r"send root
expect [Pp]assword:
send-env ROOT_PASSWORD
timeout 1m
expect ^# $
send systemctl is-system-running --wait
expect ^(running|degraded)";

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    Document::default()
        .paragraph(
            "A script for 'boxbuild test --script' types on the console of an image and waits for what it \
             writes, once it has written what --expect names. It has one command a line; lines that begin \
             with # are ignored.",
        )
        .code(EXAMPLE)
        .heading("Commands")
        .items([
            (
                "expect REGEX",
                "Waits until it matches in what the image has written since the last match, or since \
                 the last text that was typed; ^ and $ are the ends of lines",
            ),
            ("send TEXT", "Types the text and Enter"),
            ("type TEXT", "Types the text alone"),
            (
                "send-env NAME, type-env NAME",
                "The same with the value of a variable, which is not shown",
            ),
            ("wait TIME", "Waits"),
            ("timeout TIME", "How long each 'expect' below may take; 2m at first"),
        ])
        .paragraph(r"In texts, \n \r \t \e \\ and \xNN are what they are in C.")
}
