//! `boxbuild help settings`.

use super::document::Document;

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    Document::default()
        .paragraph(
            "What the command line leaves out comes from these, the first that says it: the \
             environment, the project's file, your own file, what is built in. 'boxbuild config' \
             shows each value and where it comes from; --dry-run, those of a build.",
        )
        .items([
            (
                "BOXBUILD_…",
                "One variable for each option: BOXBUILD_BOX_MEMORY for --box-memory, \
                 BOXBUILD_ADD_REPO for the build argument, BOXBUILD_BOX_CREATE__MIRROR for an option \
                 of another command. true and false for a flag; several values as words of a shell",
            ),
            (
                "boxbuild.toml",
                "The project's: in the working folder, or the nearest folder above it within the \
                 same repository",
            ),
            (
                "~/.config/boxbuild.toml",
                "Your own; in $XDG_CONFIG_HOME if that is set. It must be yours, and not writable by \
                 everybody",
            ),
        ])
        .heading("Form")
        .paragraph(
            "TOML. A key is an option without its dashes. Options after the separator are in the \
             table [build-args], those of another command in a table of its name. A list replaces \
             the list of a place that counts less; false takes a flag back. Paths are relative to the \
             file.",
        )
        .code(
            "box = \"debian\"\nbox-memory = \"6G\"\nallow = [\"mirror.example\"]\n\n\
             [build-args]\nadd-repo = [\"http://mirror.example/debian,apt-deb\"]\n\n\
             [box-create]\nmirror = \"http://mirror.example/debian\"",
        )
        .heading("What a project's file may say")
        .paragraph(
            "It comes with a clone, and is trusted as little as a description: it chooses the box by \
             name, memory, CPUs, engine, times, profiles and the image; repositories of other hosts; \
             and it can take rights away (network, allow, offline, locked, require-confinement). It \
             never says where boxes come from, names files or folders of this host, opens the \
             network, or says what runs builds: that is an error with its line. The page \
             docs/settings.md has the list.",
        )
        .paragraph("--no-config, or BOXBUILD_NO_CONFIG=1, leaves both files out.")
}
