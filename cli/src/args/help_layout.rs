//! How the help is laid out: options in groups, and those of a first look on one screen (`-h`).

use boxbuild_host::exit::Exit;
use clap::Command;

use super::examples::BUILD_EXAMPLES;

/// Groups of options, and the options in each by their ids. The other groups are named where their
/// options are.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Box",
        &[
            "box_name",
            "arch",
            "engine",
            "boot",
            "fips",
            "box_memory",
            "box_smp_cpus",
            "disk_size",
            "no_snapshot",
            "box_packages",
            "nested",
            "machine",
            "cpu",
            "no_accel",
            "container",
            "rootless",
            "require_confinement",
        ],
    ),
    (
        "Network",
        &[
            "network",
            "allow",
            "no_package_cache",
            "offline",
            "ssh_port",
            "ssh_key",
        ],
    ),
    (
        "Build",
        &[
            "timeout",
            "timeout_idle",
            "keep_failed",
            "attest",
            "reproducible",
            "box_debug",
            "description_rw",
            "dry_run",
            "verbose",
            "timings",
            "json",
        ],
    ),
    ("Published boxes", &["no_update_check"]),
];

/// What `-h` shows: ids of options, and a text that fits a line.
const SHORT: &[(&str, &str)] = &[
    ("box_name", "Box to build in (see 'boxbuild box list')"),
    ("container", "Build in a container instead: hardly isolated"),
    ("box_memory", "Guest memory, e.g. 4G"),
    ("profile", "Select a profile of the description"),
    ("image_type", "Select the image type"),
    ("timeout", "Stop the build after this time, e.g. 90m"),
    ("dry_run", "Show what would run, and stop"),
    ("verbose", "Show the log and the console live"),
    ("json", "Print events as JSON"),
];

/// Arranges the help of a build.
pub(super) fn arrange(command: Command) -> Command {
    command
        .after_help("'boxbuild help' has all options and examples.")
        .after_long_help(after_long_help())
        .mut_args(|arg| {
            let id = arg.get_id().as_str();
            let group = GROUPS.iter().find(|(_, ids)| ids.contains(&id));
            let short = SHORT.iter().find(|(known, _)| *known == id);
            let arg = match group {
                Some((heading, _)) => arg.help_heading(*heading),
                None => arg,
            };
            // Manual pages have the long help only, where the short one is hidden.
            let long = arg.get_long_help().or(arg.get_help()).cloned();
            let arg = match long {
                Some(long) => arg.long_help(long),
                None => arg,
            };
            match short {
                Some((_, short)) => arg.help(*short),
                None => arg.hide_short_help(true),
            }
        })
}

/// Returns the end of `--help`.
fn after_long_help() -> String {
    let mut text = format!("Examples:\n{BUILD_EXAMPLES}\n\nExit codes:\n");
    for exit in Exit::ALL {
        let meaning = exit.meaning().split(':').next().unwrap_or_default();
        text += &format!("  {:<4} {meaning}\n", exit.number());
    }
    text + "\n'boxbuild help build-args' has the options after --. Other topics: batch-file, image-script,\n\
         exit-codes, environment, files, json, settings."
}

#[cfg(test)]
mod tests {
    use crate::args;
    use crate::manual::TOPICS;

    use super::*;

    /// Case E13: `-h` had 119 lines.
    #[test]
    fn the_short_help_fits_a_screen() {
        let mut command = args::command().term_width(80);
        let help = command.render_help().to_string();
        // A command a line; most terminals have more lines than that.
        assert!(help.lines().count() <= 48, "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for word in [
            "--box <NAME>",
            "KIWI options:",
            "--verbose",
            "doctor",
            "boxbuild help",
        ] {
            assert!(help.contains(word), "{word} is not in {help}");
        }
    }

    #[test]
    fn the_long_help_has_every_option_in_a_group() {
        let mut command = args::command();
        let help = command.render_long_help().to_string();
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let long = arg.get_long().unwrap_or_default();
            assert!(help.contains(&format!("--{long}")), "--{long}");
            let own = ["help", "version"].contains(&long);
            assert!(
                own || arg.get_help_heading().is_some(),
                "--{long} has no group"
            );
        }
        for topic in TOPICS {
            assert!(help.contains(topic.name), "{}", topic.name);
        }
        let ids: Vec<String> = command
            .get_arguments()
            .map(|arg| arg.get_id().to_string())
            .collect();
        let listed = GROUPS.iter().flat_map(|(_, ids)| ids.iter());
        for id in listed.chain(SHORT.iter().map(|(id, _)| id)) {
            assert!(ids.iter().any(|known| known == id), "{id}");
        }
    }
}
