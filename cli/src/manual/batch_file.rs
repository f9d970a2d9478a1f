//! `boxbuild help batch-file`.

use super::document::Document;

/// A batch file with everything in it.
pub(crate) const EXAMPLE: &str = r#"[defaults]                        # for every build
box = "debian"
target-dir = "out/{name}"
options.box-memory = "4G"         # options of boxbuild
options.timeout = "2h"
build-args.add-package = ["vim", "less"]

[matrix]                          # every combination of these is a build
description = ["images/minimal", "images/server"]
profile = ["", "Virtual", ["Virtual", "Cloud"]]
arch = ["x86_64", "aarch64"]

[[exclude]]                       # but not these
description = "images/minimal"
arch = "aarch64"

[[override]]                      # what is different for some
match.arch = "aarch64"
options.timeout = "8h"

[[build]]                         # a build of its own
name = "installer"
description = "images/installer"
type = "iso""#;

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    Document::default()
        .paragraph(
            "A batch file is a TOML file with builds for 'boxbuild batch FILE'. Paths in it are \
             relative to its folder. All of it is checked before anything is started.",
        )
        .code(EXAMPLE)
        .heading("At the top")
        .items([
            ("jobs", "How many builds run at once; --jobs counts more"),
            (
                "log-dir",
                "The folder for the logs; --log-dir counts more. Default: NAME.logs beside the file",
            ),
            (
                "name",
                "How the builds of the matrix are called. Default: {description} and the axes that have \
                 more than one value",
            ),
            ("[defaults]", "What every build has unless it says otherwise"),
            ("[matrix]", "Axes with a value or a list of values: every combination is a build"),
            ("[[exclude]]", "Combinations that are left out; what they name must be equal"),
            (
                "[[override]]",
                "Changes to the builds that 'match' selects: target-dir, options, build-args, test",
            ),
            ("[[build]]", "A build of its own"),
        ])
        .heading("Of a build")
        .items([
            ("name", "Its name (in [[build]], [[exclude]] and match)"),
            ("description", "The folder with the image description; an axis"),
            (
                "profile",
                "A profile, or a list of those that are selected together; an axis, in which \"\" is \
                 none",
            ),
            ("type", "The image type; an axis"),
            ("box", "The box to build in; an axis"),
            ("arch", "The architecture of the box; an axis"),
            (
                "target-dir",
                "The target folder, which may have {name} {description} {profile} {type} {box} {arch} \
                 in it",
            ),
            (
                "options",
                "Options of boxbuild without their dashes: a word, a number, true, or a list for one \
                 that is repeatable; false takes a flag back",
            ),
            (
                "build-args",
                "The same for the options after -- ('boxbuild help build-args')",
            ),
            (
                "test",
                "Whether the image is started when it is built, and judged: true, false, or a table of \
                 options of 'boxbuild test' without their dashes",
            ),
        ])
        .paragraph(
            "A later table replaces options of the same name: the defaults, the build's own, then each \
             [[override]] that fits, in order.",
        )
}
