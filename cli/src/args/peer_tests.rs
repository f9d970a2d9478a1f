//! Every option of `kiwi-ng system boxbuild` and of kiwi-ng itself (KIWI 11.1.6), in every form and place
//! in which kiwi-ng takes it: a command line that works there is accepted, and means the same.
//!
//! The tables are those of `kiwi-ng --help` and `kiwi-ng system boxbuild --help`, not of boxbuild.

use std::ffi::OsString;

use boxbuild_core::request::BuildRequest;
use boxbuild_engine::podman::Mode;
use boxbuild_host::arch::Arch;

use super::kiwi_options::{BOXBUILD, GLOBAL};
use super::{ArgsError, parse};

/// What an option takes.
enum Form {
    Flag,
    /// A value, and another one.
    Single(&'static str, &'static str),
    /// The same; each one counts.
    Multi(&'static str, &'static str),
}
use Form::{Flag, Multi, Single};

/// An option, and whether a request shows that it was given with its (first) value.
type Row = (&'static str, Form, fn(&BuildRequest) -> bool);

/// Options of `kiwi-ng system boxbuild`.
const OF_BOXBUILD: &[Row] = &[
    ("box", Single("leap", "universal"), |r| r.box_name == "leap"),
    ("box-memory", Single("8", "4096M"), |r| {
        r.memory_mib == Some(8192)
    }),
    ("box-console", Single("ttyS0", "hvc0"), |r| {
        r.console.as_deref() == Some("ttyS0")
    }),
    ("box-smp-cpus", Single("2", "8"), |r| r.cpus == Some(2)),
    ("box-debug", Flag, |r| r.debug),
    ("container", Flag, |r| r.container == Some(Mode::Rootful)),
    ("kiwi-version", Single("10.2.33", "11.1.6"), |r| {
        r.kiwi_version.as_deref() == Some("10.2.33")
    }),
    ("shared-path", Single("/srv/x", "/srv/y"), |r| {
        r.shared_path.as_deref() == Some("/srv/x".as_ref())
    }),
    ("no-update-check", Flag, |r| {
        r.fetch == boxbuild_core::request::Fetch::Missing
    }),
    ("no-snapshot", Flag, |r| r.in_place),
    ("no-accel", Flag, |r| r.no_accel),
    ("9p-sharing", Flag, |r| noted(r, "--9p-sharing: ")),
    // This is how folders are shared.
    ("virtiofs-sharing", Flag, |r| r.notes.is_empty()),
    ("sshfs-sharing", Flag, |r| noted(r, "--sshfs-sharing: ")),
    ("ssh-key", Single("id_ed25519", "id_rsa"), |r| {
        noted(r, "--ssh-key: ")
    }),
    ("ssh-port", Single("10022", "10023"), |r| {
        r.ssh.as_ref().is_some_and(|ssh| ssh.port == 10022)
    }),
    ("x86_64", Flag, |r| r.arch == Some(Arch::X86_64)),
    ("aarch64", Flag, |r| r.arch == Some(Arch::Aarch64)),
    ("machine", Single("q35", "virt"), |r| {
        r.machine_type.as_deref() == Some("q35".as_ref())
    }),
    ("cpu", Single("host", "max"), |r| {
        r.cpu_model.as_deref() == Some("host".as_ref())
    }),
];

/// Options that kiwi-ng takes before `system`.
const OF_KIWI: &[Row] = &[
    ("color-output", Flag, |r| forwarded(r, "--color-output")),
    ("config", Single("/etc/kiwi.yml", "/etc/x.yml"), |r| {
        r.kiwi.config.as_deref() == Some("/etc/kiwi.yml".as_ref())
    }),
    ("debug", Flag, |r| forwarded(r, "--debug")),
    ("debug-run-scripts-in-screen", Flag, |r| {
        noted(r, "--debug-run-scripts-in-screen: no effect")
    }),
    ("kiwi-file", Single("a.kiwi", "b.kiwi"), |r| {
        forwarded(r, "--kiwi-file a.kiwi")
    }),
    ("logfile", Single("/tmp/log", "stdout"), |r| {
        r.kiwi.copy_log_to.as_deref() == Some("/tmp/log".as_ref())
    }),
    ("loglevel", Single("60", "-5"), |r| {
        forwarded(r, "--loglevel 60")
    }),
    ("profile", Multi("A", "B"), |r| forwarded(r, "--profile A")),
    ("setenv", Multi("A=b=c", "-X=1"), |r| {
        forwarded(r, "--setenv A=b=c")
    }),
    (
        "shared-cache-dir",
        Single("/var/cache/x", "/var/cache/y"),
        |r| r.kiwi.shared_cache_dir.as_deref() == Some("/var/cache/x".as_ref()),
    ),
    ("target-arch", Single("aarch64", "s390x"), |r| {
        r.arch == Some(Arch::Aarch64) && forwarded(r, "--target-arch aarch64")
    }),
    ("temp-dir", Single("/var/tmp", "/tmp"), |r| {
        r.kiwi.temp_dir.as_deref() == Some("/var/tmp".as_ref())
    }),
    ("type", Single("oem", "iso"), |r| forwarded(r, "--type oem")),
];

/// Options that a request does not show: their tests are elsewhere.
const OTHERS: &[&str] = &["list-boxes", "logsocket"];

fn noted(request: &BuildRequest, start: &str) -> bool {
    request.notes.iter().any(|note| note.starts_with(start))
}

fn forwarded(request: &BuildRequest, words: &str) -> bool {
    let all: Vec<&str> = request
        .kiwi
        .forwarded
        .iter()
        .filter_map(|word| word.to_str())
        .collect();
    all.join(" ").contains(words)
}

fn try_request(words: &[&str]) -> Result<BuildRequest, ArgsError> {
    let line = words.join(" ");
    parse(words.iter().map(OsString::from))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .request()
}

fn request(words: &[&str]) -> BuildRequest {
    try_request(words).unwrap_or_else(|error| panic!("{}: {error}", words.join(" ")))
}

/// The forms of an option with a value, or of a flag.
fn forms(name: &str, value: Option<&str>) -> Vec<Vec<String>> {
    let option = format!("--{name}");
    match value {
        None => vec![vec![option]],
        Some(value) => vec![
            vec![format!("{option}={value}")],
            vec![option, value.to_owned()],
        ],
    }
}

/// Command lines with `option`: of kiwi-ng, and in the short grammar.
fn lines<'a>(option: &[&'a str], of_kiwi: bool) -> Vec<Vec<&'a str>> {
    let boxed: &[&str] = if option[0].starts_with("--box=") || option[0] == "--box" {
        &[]
    } else {
        &["--box", "b"]
    };
    let system: &[&str] = &["system", "boxbuild"];
    let build: &[&str] = &["--description", "d", "--target-dir=t"];
    let mut lines = Vec::new();
    for separator in [&["--"][..], &["kiwi"]] {
        let parts: &[&[&[&str]]] = if of_kiwi {
            &[
                &[option, system, boxed],
                &[system, option, boxed],
                &[option, boxed],
                &[boxed, option],
            ]
        } else {
            &[
                &[system, option, boxed],
                &[system, boxed, option],
                &[option, boxed],
                &[boxed, option],
            ]
        };
        for front in parts {
            lines.push([&front.concat()[..], separator, build].concat());
        }
    }
    lines
}

fn rows() -> impl Iterator<Item = (&'static Row, bool)> {
    let of_boxbuild = OF_BOXBUILD.iter().map(|row| (row, false));
    of_boxbuild.chain(OF_KIWI.iter().map(|row| (row, true)))
}

#[test]
fn every_option_of_the_peer_is_accepted_in_every_form_and_place() {
    for ((name, form, understood), of_kiwi) in rows() {
        let value = match form {
            Flag => None,
            Single(value, _) | Multi(value, _) => Some(*value),
        };
        for option in forms(name, value) {
            let option: Vec<&str> = option.iter().map(String::as_str).collect();
            for line in lines(&option, of_kiwi) {
                assert!(understood(&request(&line)), "{line:?}");
            }
        }
    }
}

#[test]
fn an_option_given_twice_counts_as_in_the_peer() {
    for ((name, form, understood), of_kiwi) in rows() {
        let (first, last) = match form {
            Flag => (None, None),
            Single(value, other) => (Some(*other), Some(*value)),
            Multi(value, other) => (Some(*value), Some(*other)),
        };
        for (one, two) in forms(name, first).into_iter().zip(forms(name, last)) {
            for same in [true, false] {
                let one = if same { &two } else { &one };
                let option: Vec<&str> = one.iter().chain(&two).map(String::as_str).collect();
                for line in lines(&option, of_kiwi) {
                    let request = request(&line);
                    if !(same && matches!(form, Multi(..))) {
                        assert!(understood(&request), "{line:?}");
                    }
                    let differ = !same && matches!(form, Single(..));
                    let twice = format!("--{name} is given more than once");
                    assert_eq!(noted(&request, &twice), differ, "{line:?}");
                }
            }
        }
    }
    let both = request(&[
        "--profile",
        "A",
        "--profile=B",
        "--box",
        "b",
        "--",
        "--description=d",
        "--target-dir=t",
    ]);
    assert!(forwarded(&both, "--profile A --profile B"));
}

/// KIWI before 11 takes the beginning of a name where only one option has it.
#[test]
fn the_shortest_unique_beginning_of_a_name_is_understood_with_a_note() {
    for ((name, form, understood), of_kiwi) in rows() {
        let value = match form {
            Flag => None,
            Single(value, _) | Multi(value, _) => Some(*value),
        };
        let known: Vec<&str> = GLOBAL.iter().chain(BOXBUILD).copied().collect();
        let unique = |length: &usize| {
            let starting = known
                .iter()
                .filter(|known| known.starts_with(&name[..*length]));
            starting.count() == 1
        };
        // One that is the beginning of another has no shorter form.
        let Some(length) = (1..name.len()).find(unique) else {
            continue;
        };
        // boxbuild's own option `--fips` and the like are full names.
        let short = &name[..length];
        if super::is_option(&format!("--{short}")) {
            continue;
        }
        for option in forms(short, value) {
            let option: Vec<&str> = option.iter().map(String::as_str).collect();
            for line in lines(&option, of_kiwi) {
                let mut request = request(&line);
                let note = format!("--{short}: taken for --{name}");
                let before = request.notes.len();
                request.notes.retain(|said| *said != note);
                assert_eq!(request.notes.len(), before - 1, "{line:?}");
                assert!(understood(&request), "{line:?}");
            }
        }
    }
}

#[test]
fn every_option_of_the_peer_has_a_row() {
    let rows: Vec<&str> = rows().map(|((name, ..), _)| *name).collect();
    for name in GLOBAL.iter().chain(BOXBUILD) {
        assert!(rows.contains(name) != OTHERS.contains(name), "--{name}");
    }
    assert_eq!(rows.len() + OTHERS.len(), GLOBAL.len() + BOXBUILD.len());
}

/// kiwi-ng takes all of these with `--container`, and does nothing with most.
#[test]
fn every_option_of_a_machine_is_accepted_for_a_container() {
    for (name, form, _) in OF_BOXBUILD.iter().filter(|(name, ..)| *name != "box") {
        let value = match form {
            Flag => None,
            Single(value, _) | Multi(value, _) => Some(*value),
        };
        for option in forms(name, value) {
            let mut words = vec!["--container", "--box", "b"];
            words.extend(option.iter().map(String::as_str));
            words.extend(["--", "--description=d", "--target-dir=t"]);
            let request = request(&words);
            assert_eq!(request.container, Some(Mode::Rootful), "{words:?}");
            let of_machines = [
                "box-memory",
                "box-smp-cpus",
                "box-console",
                "no-snapshot",
                "no-accel",
                "machine",
                "cpu",
                "ssh-port",
            ];
            let note = request.notes.iter().any(|note| {
                note.starts_with("no effect in a container") && note.contains(&format!("--{name}"))
            });
            assert_eq!(
                note,
                of_machines.contains(name),
                "{words:?}: {:?}",
                request.notes
            );
            assert!(!request.in_place && !request.no_accel && request.ssh.is_none());
            assert_eq!((&request.machine_type, &request.cpu_model), (&None, &None));
        }
    }
    // Ours as well.
    let request = request(&[
        "--container",
        "--nested",
        "--fips",
        "--disk-size=9G",
        "--boot=fast",
        "--box=b",
        "--",
        "--description=d",
        "--target-dir=t",
    ]);
    for option in ["--nested", "--fips", "--disk-size", "--boot"] {
        assert!(request.notes[0].contains(option), "{:?}", request.notes);
    }
}

#[test]
fn an_architecture_by_any_option_selects_the_box_and_a_contradiction_is_refused() {
    let with = |options: &[&str]| {
        let rest = ["--box", "b", "--", "--description=d", "--target-dir=t"];
        try_request(&[options, &rest].concat()).map(|request| request.arch)
    };
    for options in [
        &["--target-arch", "aarch64"][..],
        &["--aarch64"],
        &["--arch=aarch64"],
        &["--arch=arm64", "--aarch64", "--target-arch=aarch64"],
    ] {
        assert_eq!(with(options).unwrap(), Some(Arch::Aarch64), "{options:?}");
    }
    for arch in Arch::ALL {
        for name in [arch.name(), arch.debian_name()] {
            assert_eq!(with(&["--target-arch", name]).unwrap(), Some(arch));
            assert_eq!(with(&["--arch", name]).unwrap(), Some(arch));
        }
        for other in Arch::ALL.into_iter().filter(|other| *other != arch) {
            let words = ["--target-arch", arch.name(), "--arch", other.name()];
            assert!(with(&words).is_err(), "{words:?}");
        }
    }
    // In kiwi-ng, this one counts.
    assert_eq!(
        with(&["--aarch64", "--x86_64"]).unwrap(),
        Some(Arch::X86_64)
    );
    for options in [
        &["--target-arch=aarch64", "--x86_64"][..],
        &["--target-arch=x86_64", "--arch=aarch64"],
        &["--arch=s390x", "--aarch64"],
    ] {
        let error = with(options).unwrap_err().to_string();
        assert!(
            error.contains("leave one of the two options out"),
            "{error}"
        );
    }
}

/// What docopt excluded (KIWI before 11), and typer does not.
#[test]
fn sharing_options_exclude_each_other_no_more() {
    let request = request(&[
        "--9p-sharing",
        "--virtiofs-sharing",
        "--sshfs-sharing",
        "--box=b",
        "--",
        "--description=d",
        "--target-dir=t",
    ]);
    assert!(noted(&request, "--9p-sharing: ") && noted(&request, "--sshfs-sharing: "));
}
