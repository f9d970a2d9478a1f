//! What a project's file may say. It comes with a clone, so it is as little trusted as the description
//! beside it: it never chooses where boxes come from, opens a network, shares or names a folder of the
//! host, or runs something. What is not in this table, it may not say; new options are not in it.

use std::ffi::OsStr;
use std::path::{Component, Path};

use boxbuild_core::plan::names_this_host;

use super::given::{Given, Value};
use super::names::Place;

/// What the values may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Anything: it concerns the machine and the image only.
    Anything,
    /// Switched on: it takes rights away.
    On,
    /// A name, which is no path.
    Name,
    /// A path in the project's folder.
    Inside,
    /// An address of another host.
    Remote,
    /// A variable that leads no connection elsewhere.
    Variable,
    /// What is stricter than the user's own.
    Stricter,
}

/// Options of a build.
const BUILD: &[(&str, Limit)] = &[
    ("allow", Limit::Stricter),
    ("arch", Limit::Anything),
    ("boot", Limit::Anything),
    ("box", Limit::Name),
    ("box-memory", Limit::Anything),
    ("box-package", Limit::Name),
    ("box-smp-cpus", Limit::Anything),
    ("color-output", Limit::Anything),
    ("debug", Limit::Anything),
    ("disk-size", Limit::Anything),
    ("engine", Limit::Anything),
    ("fips", Limit::On),
    ("keep-failed", Limit::Anything),
    ("kiwi-file", Limit::Name),
    ("kiwi-version", Limit::Name),
    ("lock-file", Limit::Inside),
    ("locked", Limit::On),
    ("loglevel", Limit::Anything),
    ("network", Limit::Stricter),
    ("no-accel", Limit::On),
    ("no-package-cache", Limit::On),
    ("no-update-check", Limit::On),
    ("offline", Limit::On),
    ("profile", Limit::Anything),
    ("reproducible", Limit::Anything),
    ("require-confinement", Limit::On),
    ("setenv", Limit::Variable),
    ("target-arch", Limit::Anything),
    ("timeout", Limit::Anything),
    ("timeout-idle", Limit::Anything),
    ("timings", Limit::Anything),
    ("type", Limit::Anything),
    ("verbose", Limit::Anything),
];

/// Options of `kiwi-ng system build`.
const BUILD_ARGS: &[(&str, Limit)] = &[
    ("add-bootstrap-package", Limit::Name),
    ("add-container-label", Limit::Anything),
    ("add-package", Limit::Name),
    ("add-repo", Limit::Remote),
    ("ca-target-distribution", Limit::Anything),
    ("clear-cache", Limit::Anything),
    ("delete-package", Limit::Anything),
    ("ignore-repos", Limit::Anything),
    ("ignore-repos-used-for-build", Limit::Anything),
    ("only-repo", Limit::Remote),
    ("set-container-tag", Limit::Anything),
    ("set-release-version", Limit::Anything),
    ("set-repo", Limit::Remote),
    ("set-type-attr", Limit::Name),
];

/// Options of other commands.
const COMMANDS: &[(&str, &str, Limit)] = &[
    ("batch", "fail-fast", Limit::Anything),
    ("batch", "jobs", Limit::Anything),
    ("batch", "keep-going", Limit::Anything),
];

/// Which repositories a build has: the user's `only-repo` keeps those of a description out, and so those of
/// the file beside it.
const OF_REPOSITORIES: [&str; 5] = [
    "add-repo",
    "ignore-repos",
    "ignore-repos-used-for-build",
    ONLY_REPO,
    "set-repo",
];
const ONLY_REPO: &str = "only-repo";

/// Networks, the most closed first.
const NETWORKS: [&str; 3] = ["none", "public", "user"];

/// Schemes of repositories on other hosts.
const REMOTE: [&str; 3] = ["http://", "https://", "ftp://"];

/// What to do instead.
const INSTEAD: &str = "put it into your own settings or on the command line; --no-config leaves this \
                       file out";

fn limit(given: &Given) -> Option<Limit> {
    let name = given.setting.name.as_str();
    let find = |table: &[(&str, Limit)]| {
        let found = table.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    };
    match &given.setting.place {
        Place::Build => find(BUILD),
        Place::BuildArgs => find(BUILD_ARGS),
        Place::Command(command) => {
            let found = COMMANDS
                .iter()
                .find(|(known, option, _)| command == known && *option == name)?;
            Some(found.2)
        }
    }
}

/// Returns why a project's file may not say this, if so.
pub(super) fn problem(given: &Given) -> Option<String> {
    let setting = &given.setting;
    let Some(limit) = limit(given) else {
        return Some(format!(
            "{setting}: a project's file cannot say this, as it comes with what is built: {INSTEAD}"
        ));
    };
    let no_words = Vec::new();
    let words = match &given.value {
        Value::Words(words) => words,
        Value::Flag(_) => &no_words,
    };
    let what = match limit {
        // Whatever option has it: a service that a word for kiwi names is opened for the box.
        _ if words.iter().any(|word| opens_service(word)) => "cannot name an address of this host",
        Limit::Anything | Limit::Stricter => return None,
        Limit::On if given.is_on() => return None,
        Limit::On => "cannot switch this off",
        Limit::Name if words.iter().all(|word| is_name(word)) => return None,
        Limit::Name => "can have a name here, and no path",
        Limit::Inside if words.iter().all(|word| is_inside(word)) => return None,
        Limit::Inside => "can name files in its own folder only",
        Limit::Remote if words.iter().all(|word| is_remote(word)) => return None,
        Limit::Remote => {
            "can name repositories on other hosts only (http, https, ftp), and nothing of this one"
        }
        Limit::Variable if words.iter().all(|word| leads_nowhere(word)) => return None,
        Limit::Variable => "cannot set proxies",
    };
    Some(format!("{setting}: a project's file {what}: {INSTEAD}"))
}

/// Returns why what a project's file says does not count beside what counts without it: `own` is what the
/// user says of an option at the same place, if he says something.
pub(super) fn is_too_open<'a>(
    given: &Given,
    own: impl Fn(&str) -> Option<&'a Given>,
) -> Option<&'static str> {
    let name = given.setting.name.as_str();
    let own_is_on = |name: &str| own(name).is_some_and(Given::is_on);
    match name {
        _ if given.setting.place == Place::BuildArgs => (OF_REPOSITORIES.contains(&name)
            && own_is_on(ONLY_REPO))
        .then_some("your own settings name the only repositories, and count"),
        "lock-file" => own_is_on(name).then_some("your own settings name the lock file, and count"),
        "network" => {
            let own = own(name);
            let default = given.setting.default.as_deref();
            let own = own.and_then(first).or(default).map(rank)?;
            let wanted = first(given).map(rank)?;
            (wanted > own).then_some("your own settings are stricter, and count")
        }
        // Nothing at all is the most open.
        "allow" if !given.is_on() || own_is_on(name) => {
            Some("your own settings say what the box reaches, and count")
        }
        _ => None,
    }
}

fn first(given: &Given) -> Option<&str> {
    match &given.value {
        Value::Words(words) => words.first()?.to_str(),
        Value::Flag(_) => None,
    }
}

fn rank(network: &str) -> usize {
    let known = NETWORKS.iter().position(|known| *known == network);
    known.unwrap_or(NETWORKS.len())
}

fn is_name(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        let path = word.contains('/') || word.starts_with('.') || word.contains("..");
        !path && !word.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
    })
}

fn is_inside(word: &OsStr) -> bool {
    let mut components = Path::new(word).components();
    components.all(|component| matches!(component, Component::Normal(_)))
}

/// `SOURCE,TYPE,…`: one address, of another host, and no key of this one.
fn is_remote(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        let (source, rest) = word.split_once(',').unwrap_or((word, ""));
        let known = REMOTE.iter().find_map(|scheme| source.strip_prefix(scheme));
        known.is_some_and(|host| !host.starts_with('/') && !host.contains("://"))
            && !rest.contains('{')
            && !rest.contains("://")
    })
}

fn opens_service(word: &OsStr) -> bool {
    names_this_host(&word.to_string_lossy())
}

fn leads_nowhere(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        let name = word.split('=').next().unwrap_or_default();
        !name.to_ascii_lowercase().contains("proxy")
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::names;
    use super::super::origin::{Layer, Origin};
    use super::*;

    fn given(place: &Place, name: &str, value: Value) -> Given {
        let mut all = names::all().into_iter();
        let setting = all.find(|setting| setting.place == *place && setting.name == name);
        Given {
            setting: setting.unwrap_or_else(|| panic!("{name}")),
            value,
            origin: Origin::File {
                layer: Layer::Project,
                path: "boxbuild.toml".into(),
                line: 1,
            },
        }
    }

    fn word(place: &Place, name: &str, word: &str) -> Given {
        given(place, name, Value::Words(vec![OsString::from(word)]))
    }

    #[test]
    fn the_tables_have_options_that_there_are() {
        for (name, _) in BUILD {
            given(&Place::Build, name, Value::Flag(true));
        }
        for (name, _) in BUILD_ARGS {
            given(&Place::BuildArgs, name, Value::Flag(true));
        }
        for (command, name, _) in COMMANDS {
            let place = Place::Command((*command).to_owned());
            given(&place, name, Value::Flag(true));
        }
    }

    /// What reaches the host, or decides what a box is made from.
    #[test]
    fn a_cloned_file_gets_nothing_of_the_host() {
        let secrets = [
            "signed-by",
            "attest",
            "config",
            "shared-path",
            "shared-cache-dir",
            "logfile",
            "logsocket",
            "ssh-key",
            "ssh-port",
            "machine",
            "cpu",
            "container",
            "rootless",
            "nested",
            "no-snapshot",
            "description-rw",
            "box-console",
        ];
        for name in secrets {
            let problem = problem(&given(&Place::Build, name, Value::Flag(true)));
            assert!(
                problem.is_some_and(|text| text.contains("cannot say this")),
                "{name}"
            );
        }
        for name in [
            "ca-cert",
            "signing-key",
            "set-repo-credentials",
            "add-repo-credentials",
            "set-container-derived-from",
            "target-dir",
            "description",
            "allow-existing-root",
        ] {
            assert!(
                problem(&word(&Place::BuildArgs, name, "x")).is_some(),
                "{name}"
            );
        }
        for (command, name) in [
            ("box create", "mirror"),
            ("batch", "log-dir"),
            ("prune", "all"),
        ] {
            let place = Place::Command(command.to_owned());
            assert!(
                problem(&word(&place, name, "x")).is_some(),
                "{command} {name}"
            );
        }
        let bad = |place: &Place, name: &str, value: &str| {
            assert!(
                problem(&word(place, name, value)).is_some(),
                "{name} = {value}"
            );
        };
        for value in [
            "dir:///home/me",
            "/home/me",
            "repo",
            "this://repo",
            "file:///etc",
            "iso:///x",
            "http://localhost/x",
            "http://127.0.0.1:5432/",
            "http://10.0.2.2/x",
            "http://[::1]/",
            "http://me@localhost:80/",
            "http://x/http://127.0.0.1/",
            "http:///etc",
            "http://host/x,apt-deb,a,1,,,{/etc/shadow;b}",
            "HTTP://host/",
            "",
        ] {
            for option in ["add-repo", "set-repo", "only-repo"] {
                bad(&Place::BuildArgs, option, value);
            }
        }
        for value in ["/etc/shadow", "../x", "a/b", "x y", "file:x"] {
            bad(&Place::BuildArgs, "add-package", value);
            bad(&Place::Build, "kiwi-file", value);
            bad(&Place::Build, "kiwi-version", value);
            bad(&Place::Build, "box", value);
        }
        for value in ["derived_from=dir:///home/me", "luks=file:///etc/shadow"] {
            bad(&Place::BuildArgs, "set-type-attr", value);
        }
        for value in [
            "http_proxy=http://127.0.0.1:5432",
            "ALL_PROXY=x",
            "no_proxy=*",
        ] {
            bad(&Place::Build, "setenv", value);
        }
        for value in [
            "http://127.0.0.1:5432/",
            "http://mirror.example/ http://me@10.0.2.2:80/",
            "A=docker://localhost",
        ] {
            for name in ["profile", "type", "setenv", "allow", "engine"] {
                bad(&Place::Build, name, value);
            }
            for name in [
                "set-container-tag",
                "set-release-version",
                "delete-package",
                "ca-target-distribution",
                "add-container-label",
            ] {
                bad(&Place::BuildArgs, name, value);
            }
        }
        for value in ["/etc/x", "../x", "./../x"] {
            bad(&Place::Build, "lock-file", value);
        }
        for name in ["offline", "locked", "require-confinement"] {
            assert!(
                problem(&given(&Place::Build, name, Value::Flag(false))).is_some(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_concerns_the_image_is_the_projects() {
        for (name, value) in [
            ("box", "debian"),
            ("profile", "Live"),
            ("box-memory", "6G"),
            ("network", "none"),
            ("allow", "mirror.example"),
            ("setenv", "A=B"),
            ("lock-file", "ci/boxbuild.lock"),
            ("kiwi-version", "11.1.6"),
            ("kiwi-file", "appliance.kiwi"),
        ] {
            assert_eq!(problem(&word(&Place::Build, name, value)), None, "{name}");
        }
        for (name, value) in [
            ("add-repo", "http://mirror.example/debian,apt-deb,main,1"),
            ("only-repo", "https://192.0.2.1:8080/x"),
            ("add-package", "vim"),
            ("set-type-attr", "filesystem=ext4"),
        ] {
            assert_eq!(
                problem(&word(&Place::BuildArgs, name, value)),
                None,
                "{name}"
            );
        }
        for name in ["offline", "locked", "require-confinement"] {
            assert_eq!(
                problem(&given(&Place::Build, name, Value::Flag(true))),
                None
            );
        }
    }

    #[test]
    fn a_network_is_closed_and_never_opened() {
        let network = |value: &str| word(&Place::Build, "network", value);
        let open = |wanted: &str, own: Option<&str>| {
            let own = own.map(network);
            is_too_open(&network(wanted), |_| own.as_ref()).is_some()
        };
        assert!(!open("none", None) && !open("public", None) && !open("user", None));
        assert!(open("user", Some("public")) && open("public", Some("none")));
        assert!(!open("none", Some("public")) && !open("public", Some("public")));
        let allow = |words: &[&str]| {
            let words = words.iter().map(OsString::from).collect();
            given(&Place::Build, "allow", Value::Words(words))
        };
        let own = allow(&["mirror.example"]);
        assert!(is_too_open(&allow(&["evil.example"]), |_| Some(&own)).is_some());
        assert!(is_too_open(&allow(&["mirror.example"]), |_| None).is_none());
        assert!(is_too_open(&allow(&[]), |_| Some(&own)).is_some());
    }
}
