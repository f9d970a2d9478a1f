//! Tests of whole command lines.

use std::ffi::OsString;
use std::time::Duration;

use boxbuild_core::boot::BootStyle;
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_host::arch::Arch;
use clap::CommandFactory;

use super::values::{
    Memory, parse_duration, parse_limit, parse_memory, parse_positive_duration, parse_size,
};
use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

#[test]
fn both_grammars_and_both_separators_mean_the_same() {
    for line in [
        "--profile A --box leap -- --description d --target-dir t",
        "--profile A --box leap kiwi --description d --target-dir t",
        "--profile A system boxbuild --box leap -- --description d --target-dir t",
        "--profile=A system boxbuild --box=leap kiwi --description d --target-dir t",
    ] {
        let invocation = parse(words(line)).expect(line);
        assert_eq!(
            invocation.cli.build.box_name.as_deref(),
            Some("leap"),
            "{line}"
        );
        assert_eq!(invocation.cli.build.kiwi.profile, ["A"], "{line}");
        assert_eq!(
            invocation.build_args.as_deref(),
            Some(&words("--description d --target-dir t")[..]),
            "{line}"
        );
    }
}

#[test]
fn a_value_named_kiwi_is_no_separator() {
    let invocation = parse(words("--box kiwi --profile kiwi kiwi --description d")).unwrap();
    assert_eq!(invocation.cli.build.box_name.as_deref(), Some("kiwi"));
    assert_eq!(invocation.build_args.unwrap(), words("--description d"));
}

#[test]
fn only_the_first_separator_counts() {
    let invocation = parse(words("--box b -- --add-package kiwi --")).unwrap();
    assert_eq!(
        invocation.build_args.unwrap(),
        words("--add-package kiwi --")
    );
}

#[test]
fn a_box_may_be_named_kiwi_in_box_commands() {
    let invocation = parse(words("box info kiwi")).unwrap();
    assert!(invocation.build_args.is_none());
    assert!(matches!(
        invocation.cli.command,
        Some(Command::Box { command: BoxCommand::Info { name, .. }, .. }) if name == "kiwi"
    ));
}

#[test]
fn help_is_a_word_of_kiwi_ng() {
    let error = parse(words("system boxbuild --help")).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp);
    assert!(error.to_string().contains("--box-memory"));
    for line in ["system boxbuild help", "help"] {
        let command = parse(words(line)).expect(line).cli.command;
        assert!(matches!(command, Some(Command::Help { words }) if words.is_empty()));
    }
}

#[test]
fn a_build_needs_a_box() {
    let error = parse(words("-- --description d --target-dir t")).unwrap_err();
    assert!(error.to_string().contains("--box"), "{error}");
}

#[test]
fn sizes_in_any_sensible_unit() {
    let (gib, mib) = (Some("GiB"), Some("MiB"));
    for (text, bytes, assumed) in [
        ("8", 8 << 30, gib),
        ("1.5", 3 << 29, gib),
        ("255", 255 << 30, gib),
        // QEMU's unit: no host has 6144 GiB.
        ("256", 256 << 20, mib),
        ("6144", 6144 << 20, mib),
        ("8096", 8096 << 20, mib),
        ("size=4096", 4096 << 20, mib),
        ("8G", 8 << 30, None),
        ("8g", 8 << 30, None),
        ("8GB", 8 << 30, None),
        ("8GiB", 8 << 30, None),
        ("8192M", 8 << 30, None),
        ("8192m", 8 << 30, None),
        ("8096M", 8096 << 20, None),
        ("1.5GiB", 3 << 29, None),
    ] {
        assert_eq!(parse_memory(text), Ok(Memory { bytes, assumed }), "{text}");
    }
    assert_eq!(parse_size("20gb"), Ok(20 << 30));
    for bad in [
        "",
        "x",
        "8Q",
        "-1",
        "0",
        "99999999999T",
        "1.2.3G",
        "1e9999",
        "nan",
        "inf",
    ] {
        assert!(parse_size(bad).is_err(), "{bad}");
        assert!(parse_memory(bad).is_err(), "{bad}");
    }
    assert!(parse_memory("8M").is_err());
}

#[test]
fn times() {
    assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
    assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
    assert_eq!(parse_duration("15min"), Ok(Duration::from_secs(900)));
    assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
    assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
    assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
    assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86400)));
    assert_eq!(parse_duration("1h 30min"), Ok(Duration::from_secs(5400)));
    assert_eq!(parse_duration("5min"), Ok(Duration::from_secs(300)));
    for bad in [
        "",
        "m",
        "-1",
        "1.5",
        "2 fortnights",
        "90M",
        "99999999999999999999",
        "9999999999999999999h",
        "18446744073709551615",
        "11years",
        "forever",
    ] {
        let error = parse_duration(bad).expect_err(bad);
        assert!(
            error.contains("1h30m") || error.contains("10 years"),
            "{error}"
        );
    }
    assert!(
        parse_limit("never")
            .unwrap_err()
            .contains("0 means no limit")
    );
    assert!(parse_positive_duration("0").is_err());
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// An option of a build: as typed, and whether it was understood.
type Row = (&'static str, fn(&BuildOptions) -> bool);

/// Every option in front of the separator that is not simply forwarded.
const ROWS: &[Row] = &[
    ("--box=debian", |o| o.box_name.as_deref() == Some("debian")),
    ("--engine=qemu", |o| o.engine == EngineChoice::Qemu),
    ("--boot=compat", |o| o.boot == BootStyle::Compat),
    ("--fips", |o| o.fips),
    ("--nested", |o| o.nested),
    ("--box-memory=8G", |o| {
        o.box_memory.unwrap().bytes == 8 << 30
    }),
    ("--box-smp-cpus=2", |o| o.box_smp_cpus == Some(2)),
    ("--disk-size=60G", |o| o.disk_size == Some(60 << 30)),
    ("--keep-failed=no", |o| !o.keep_failed),
    ("--box-package=binutils", |o| o.box_packages == ["binutils"]),
    ("--box-debug", |o| o.box_debug),
    ("--json", |o| o.json),
    ("--no-snapshot", |o| o.no_snapshot),
    ("--network=none", |o| o.network == Network::None),
    ("--network=public", |o| o.network == Network::Public),
    ("--no-package-cache", |o| o.no_package_cache),
    ("--allow=packages.example:443", |o| {
        o.allow.len() == 1 && o.allow[0].port == Some(443)
    }),
    ("--machine=q35", |o| {
        o.machine.as_deref() == Some("q35".as_ref())
    }),
    ("--cpu=max", |o| o.cpu.as_deref() == Some("max".as_ref())),
    ("--no-accel", |o| o.no_accel),
    ("--no-update-check", |o| o.fetch.no_update_check),
    ("--offline", |o| o.fetch.offline),
    ("--container", |o| o.container),
    ("--container --rootless", |o| o.rootless),
    ("--description-rw", |o| o.description_rw),
    ("--require-confinement", |o| o.require_confinement),
    ("--timeout=1m", |o| {
        o.timeout == Some(Duration::from_secs(60))
    }),
    ("--timeout-idle=1h", |o| {
        o.timeout_idle == Duration::from_secs(3600)
    }),
    ("--verbose", |o| o.verbose),
    ("--dry-run", |o| o.dry_run),
    ("--timings", |o| {
        o.timings == Some(crate::output::timings::Format::Text)
    }),
    ("--timings=html", |o| {
        o.timings == Some(crate::output::timings::Format::Html)
    }),
    ("--attest", |o| o.attest.as_deref() == Some("".as_ref())),
    ("--attest=farm@example.org", |o| {
        o.attest.as_deref() == Some("farm@example.org".as_ref())
    }),
    ("--reproducible", |o| {
        o.reproducible == Some(super::values::Epoch::Known)
    }),
    ("--reproducible=1764500000", |o| {
        o.reproducible == Some(super::values::Epoch::At(1_764_500_000))
    }),
    ("--locked", |o| o.source.locked),
    ("--lock-file=x.lock --locked", |o| {
        o.source.lock_file == std::path::Path::new("x.lock")
    }),
    ("--signed-by=key.asc", |o| {
        o.source.signed_by.as_deref() == Some("key.asc".as_ref())
    }),
    ("--arch=s390x", |o| {
        matches!(o.arch(), Ok(Some(Arch::S390x)))
    }),
    ("--x86_64", |o| matches!(o.arch(), Ok(Some(Arch::X86_64)))),
    ("--aarch64", |o| matches!(o.arch(), Ok(Some(Arch::Aarch64)))),
    ("--list-boxes", |o| o.peer.list_boxes),
    ("--box-console=ttyS0", |o| {
        o.peer.box_console.as_deref() == Some("ttyS0")
    }),
    ("--kiwi-version=10.2.33", |o| {
        o.peer.kiwi_version.as_deref() == Some("10.2.33")
    }),
    ("--shared-path=/srv/x", |o| {
        o.peer.shared_path.as_deref() == Some("/srv/x".as_ref())
    }),
    ("--9p-sharing", |o| o.notes().len() == 1),
    ("--virtiofs-sharing", |o| {
        o.peer.virtiofs_sharing && o.notes().is_empty()
    }),
    ("--sshfs-sharing", |o| o.notes().len() == 1),
    ("--ssh-key=id_rsa", |o| o.notes().len() == 1),
    ("--ssh-port=10022", |o| {
        o.peer.ssh_port == Some(10022) && o.notes().is_empty()
    }),
    ("--config=kiwi.yml", |o| {
        o.kiwi.config.as_deref() == Some("kiwi.yml".as_ref())
    }),
    ("--temp-dir=tmp", |o| {
        o.kiwi.temp_dir.as_deref() == Some("tmp".as_ref())
    }),
    ("--shared-cache-dir=/var/cache/kiwi", |o| {
        o.kiwi.shared_cache_dir.as_deref() == Some("/var/cache/kiwi".as_ref())
    }),
    ("--logfile=stdout", |o| o.kiwi.log_to_stdout()),
    ("--logsocket=/tmp/s", |o| {
        o.kiwi.logsocket.as_deref() == Some("/tmp/s".as_ref())
    }),
    ("--debug-run-scripts-in-screen", |o| {
        o.notes()[0].starts_with("--debug-run-scripts-in-screen: no effect")
    }),
];

/// Options that reach the kiwi-ng in the box as they are.
const FORWARDED: &[&str] = &[
    "--profile A",
    "--type oem",
    "--kiwi-file other.kiwi",
    "--setenv A=b=c",
    "--loglevel 10",
    "--debug",
    "--color-output",
    "--target-arch aarch64",
];

fn build(line: &str) -> Result<BuildOptions, clap::Error> {
    parse(words(line)).map(|invocation| invocation.cli.build)
}

/// The two spellings of a row: with `=` and with a space.
fn spellings(row: &str) -> Vec<String> {
    // An optional value has one only: behind the sign.
    let optional = ["--timings", "--attest", "--reproducible"];
    if optional.iter().any(|option| row.starts_with(option)) {
        return vec![row.to_owned()];
    }
    vec![row.replacen(['='], " ", 1), row.to_owned()]
}

#[test]
fn every_option_is_understood_in_both_grammars_and_spellings() {
    for (row, understood) in ROWS {
        for option in spellings(row) {
            let name = if row.starts_with("--box=") {
                ""
            } else {
                "--box b "
            };
            for line in [
                format!("{option} {name}-- --description d --target-dir t"),
                format!("{name}{option} kiwi --description d --target-dir t"),
                format!("system boxbuild {name}{option} -- --description d"),
                format!("{option} system boxbuild {name}kiwi --description d"),
            ] {
                let options = build(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(understood(&options), "{line}");
            }
        }
    }
}

#[test]
fn every_global_option_is_forwarded() {
    for row in FORWARDED {
        let expected = words(row);
        for option in [(*row).to_owned(), row.replacen(' ', "=", 1)] {
            for line in [
                format!("{option} --box b -- --description d"),
                format!("{option} system boxbuild --box b kiwi --description d"),
            ] {
                let options = build(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(options.kiwi.forwarded(), expected, "{line}");
            }
        }
    }
    let several = build("--profile A --profile=B --setenv X=1 --setenv Y=2 --box b").unwrap();
    assert_eq!(
        several.kiwi.forwarded(),
        words("--profile A --profile B --setenv X=1 --setenv Y=2")
    );
}

#[test]
fn no_option_lacks_a_row() {
    let rows: Vec<&str> = ROWS
        .iter()
        .map(|(row, _)| *row)
        .chain(FORWARDED.iter().copied())
        .flat_map(|row| row.split([' ', '=']))
        .collect();
    for arg in Cli::command().get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        // Taken before the others are read (crate::settings).
        if !["help", "version", "no-config"].contains(&long) {
            assert!(rows.contains(&&*format!("--{long}")), "--{long} has no row");
        }
    }
}

#[test]
fn words_in_the_wrong_place_are_explained() {
    for (line, text) in [
        ("--box b --description d --target-dir t", "put it after --"),
        ("--box b --description=d --target-dir=t", "put it after --"),
        (
            "system build --description d",
            "only one command of kiwi-ng",
        ),
        ("image info --description d", "only one command of kiwi-ng"),
        ("--box b --profle A -- --description d", "--profile"),
        ("--box b --box-memry 8G -- --description d", "--box-memory"),
        ("--loglevel debug --box b", "10 debug"),
        (
            "--box b --desc d --target-dir t",
            "--description is an option",
        ),
        ("--log x --box b", "--logfile, --loglevel, --logsocket"),
        ("--box --box-memory 8G -- --description d", "--box <NAME>"),
        ("--box b --no-accel=yes -- --description d", "--no-accel"),
    ] {
        let error = build(line).expect_err(line).to_string();
        assert!(error.contains(text), "{line}: {error}");
    }
}

#[test]
fn a_number_without_a_unit_is_remarked_on() {
    let notes = build("--box b --box-memory 8").unwrap().notes();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("GiB: the box gets 8192 MiB"),
        "{}",
        notes[0]
    );
    let notes = build("--box b --box-memory 6144").unwrap().notes();
    assert!(
        notes[0].contains("MiB: the box gets 6144 MiB"),
        "{}",
        notes[0]
    );
    assert!(build("--box b --box-memory 8G").unwrap().notes().is_empty());
}

#[test]
fn an_option_on_the_wrong_side_is_told_so() {
    let invocation = parse(words("--box b -- --description=d --profile A")).unwrap();
    let request = invocation.request().unwrap_err().to_string();
    assert!(
        request.starts_with("--profile is not an option of 'kiwi-ng system build'"),
        "{request}"
    );
}

#[test]
fn limits_of_time_become_limits_of_the_request() {
    let request = |options: &str| {
        let line = format!("--box b {options} -- --description d --target-dir t");
        parse(words(&line)).unwrap().request().unwrap()
    };
    assert!(
        request("").timeout_idle.is_some(),
        "a guest that hangs is ended"
    );
    assert!(request("--timeout-idle 0").timeout_idle.is_none());
    assert!(request("--timeout 0").timeout.is_none());
    assert_eq!(request("--timeout 0s").timeout, None);
    assert!(request("").keep_failed);
    assert!(!request("--keep-failed=no").keep_failed);
    let memory = request("--box-memory 8");
    assert_eq!(memory.memory_mib, Some(8192));
    assert!(memory.notes[0].contains("8192 MiB"), "{:?}", memory.notes);
    // Scripts for kiwi-ng name a key that need not be there.
    assert_eq!(request("--sshfs-sharing --ssh-key /nowhere/key").ssh, None);
}
