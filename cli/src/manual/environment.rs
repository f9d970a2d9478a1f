//! `boxbuild help environment`.

use boxbuild_boxes::catalog;
use boxbuild_boxes::fetch::KEY_VARIABLE;

use super::document::Document;

/// Returns the environment variables that count.
pub(super) fn environment() -> Document {
    Document::default().items([
        (
            "KIWI_BOXED_CACHE_DIR",
            "Folder of the box store, and of failed builds that are kept. Default: ~/.kiwi_boxes",
        ),
        (
            catalog::VARIABLE,
            "File with the list of published boxes, in the form of kiwi's own \
             kiwi_boxed_plugin.yml. Default: such a file in the working folder, in ~/.config/kiwi or \
             in /etc, or else the built-in list",
        ),
        (
            KEY_VARIABLE,
            "OpenPGP public key that must have signed published boxes, as --signed-by",
        ),
        (
            "BOXBUILD_…",
            "Every option has a variable, which counts where it is not typed: 'boxbuild help settings'",
        ),
        (
            "XDG_CONFIG_HOME",
            "Folder of the settings file boxbuild.toml. Default: ~/.config",
        ),
        (
            "http_proxy https_proxy ftp_proxy all_proxy no_proxy",
            "Proxies, also in capitals: for what boxbuild fetches, and for kiwi in the box. A proxy on \
             this host's loopback is reachable from the box",
        ),
        (
            "TMPDIR",
            "Folder for temporary files. Default: /tmp, and /var/tmp for what is large",
        ),
        (
            "XDG_CACHE_HOME",
            "Folder of caches; boxbuild keeps unpacked kernels in boxbuild/ there. Default: ~/.cache",
        ),
        (
            "XDG_STATE_HOME",
            "Folder of what is remembered; the history of builds is in boxbuild/history there. Default: \
             ~/.local/state",
        ),
        (
            "HOME",
            "Where ~ is in the entries above, and ~/.ssh for --ssh-key",
        ),
        ("PATH", "Where programs are looked for; /usr/sbin and /sbin are, too"),
        (
            "NO_COLOR CLICOLOR CLICOLOR_FORCE",
            "Whether text is coloured; without them, it is on a terminal",
        ),
    ])
}

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    environment().paragraph(
        "No other variable reaches the box: --setenv NAME=VALUE sets one for kiwi and its scripts.",
    )
}
