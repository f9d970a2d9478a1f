//! `boxbuild help files`.

use boxbuild_boxes::lock_file;

use super::document::Document;

/// Returns the files and folders of the program.
pub(super) fn files() -> Document {
    Document::default().items([
        (
            "~/.kiwi_boxes/",
            "The box store: a folder for each box. kiwi's own boxbuild has its cache here, too",
        ),
        (
            "~/.kiwi_boxes/.builds/ID/",
            "A failed build that is kept: the disk as the box left it, result.log, the end of the \
             console",
        ),
        (
            "~/.cache/boxbuild/",
            "Unpacked kernels, packages, and what is known of boots; made or fetched again when it is missing",
        ),
        (
            "~/.local/state/boxbuild/history/N.json",
            "The history: what is known of build N ('boxbuild builds'). The last thousand are kept",
        ),
        (
            "~/.config/boxbuild.toml boxbuild.toml",
            "Settings: your own, and a project's ('boxbuild help settings')",
        ),
        (
            "~/.config/kiwi/kiwi_boxed_plugin.yml /etc/kiwi_boxed_plugin.yml",
            "The list of published boxes, instead of the built-in one",
        ),
        (
            lock_file::FILE_NAME,
            "In the working folder: the boxes that --locked insists on, written by 'boxbuild box lock'",
        ),
        (
            "TARGET/result.log TARGET/result.code",
            "The log of kiwi, and the exit code of the build, in the target folder",
        ),
        (
            "TARGET/.boxbuild.results",
            "Which files in the target folder are results of builds, and may be replaced by the next",
        ),
    ])
}
