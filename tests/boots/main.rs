//! Boots of real distributions in the micro-VMM: stock kernels, stock initrds, systemd.
//!
//! This program runs twice: on the host it builds the programs, makes guests (tests/lab/guests), and
//! runs itself with each where /dev/kvm is true, as a normal user. `BOXBUILD_BOOTS=all` takes all
//! guests, a number from 0 that one, else the first.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod ends;
mod hostile;
mod machine;
mod program;
mod runs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use boxbuild_tests::env::{BOXBUILD, cargo_build, top};
use boxbuild_tests::lab::{self, Run, TestBed};
use boxbuild_tests::skip;
use libtest_mimic::{Arguments, Trial};

use machine::BOOT;

/// A machine to boot a guest in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    cpus: u32,
    memory_mib: u64,
}

const fn size(cpus: u32, memory_mib: u64) -> Size {
    Size { cpus, memory_mib }
}

/// Arguments of `lab guest`, and the machines for it. Each pair of words of two columns
/// occurs; so does each number of CPUs, and the least and the most memory. The first one is most
/// like the published boxes; without `BOXBUILD_BOOTS=all` it runs on the first of its machines, because
/// two CPUs of a guest on the lab's one take three times as long as one.
const GUESTS: &[([&str; 4], &[Size])] = &[
    (
        ["trixie", "cloud-amd64", "dracut", "btrfs"],
        &[size(1, 1024), size(2, 1024)],
    ),
    (
        ["bookworm", "cloud-amd64", "initramfs-tools", "ext4"],
        &[size(2, 6144)],
    ),
    (
        ["bookworm", "amd64", "dracut", "btrfs"],
        &[size(1, 512), size(4, 2048)],
    ),
    (
        ["trixie", "amd64", "initramfs-tools", "btrfs"],
        &[size(4, 1024)],
    ),
    (["trixie", "amd64", "dracut", "ext4"], &[size(1, 4096)]),
];

/// `all`, or the number of a guest for this one on all of its machines, or anything else for the first
/// guest on the first of its machines.
const WHICH: &str = "BOXBUILD_BOOTS";

/// In the inner run: the guest's folder, and which of [`GUESTS`] it is.
const GUEST: &str = "BOXBUILD_BOOTS_GUEST";
const NUMBER: &str = "BOXBUILD_BOOTS_NUMBER";

fn main() -> ExitCode {
    let number = std::env::var(NUMBER)
        .ok()
        .and_then(|number| number.parse::<usize>().ok());
    match (number, std::env::var_os(GUEST)) {
        (Some(number), Some(guest)) => inner(number, Path::new(&guest)),
        _ if Arguments::from_args().list => list(),
        _ => outer(),
    }
}

/// Prints what can be run.
fn list() -> ExitCode {
    for (number, (words, sizes)) in GUESTS.iter().enumerate() {
        println!("{WHICH}={number}: {}, {sizes:?}", words.join(" "));
    }
    ExitCode::SUCCESS
}

/// Returns the programs under test and the variables that name them, which are built in release
/// unless the environment names them: under emulation twice, time counts.
fn programs() -> Result<[(&'static str, PathBuf); 2], String> {
    let built = |name: &'static str, words: &[&str], file: &str| match std::env::var_os(name) {
        Some(path) => Ok((name, top().join(path))),
        None => cargo_build("release", words).map(|folder| (name, folder.join(file))),
    };
    let example = ["--package", "boxbuild-vmm", "--example", "boot"];
    Ok([
        built(BOOT, &example, "examples/boot")?,
        built(BOXBUILD, &["--package", "boxbuild"], "boxbuild")?,
    ])
}

fn outer() -> ExitCode {
    let bed = TestBed::find();
    println!("test bed of boots: {bed}");
    if let TestBed::None { reason } = &bed {
        skip("boots of distributions", reason);
        return ExitCode::SUCCESS;
    }
    let which = std::env::var(WHICH).unwrap_or_default();
    let only = which.parse::<usize>().ok();
    if only.is_some_and(|only| only >= GUESTS.len()) {
        eprintln!(
            "{WHICH}={which}: there are guests 0 to {}",
            GUESTS.len() - 1
        );
        return ExitCode::FAILURE;
    }
    let made = programs().and_then(|programs| Ok((programs, hostile::initrd()?)));
    let (programs, scribbler) = match made {
        Ok(made) => made,
        Err(reason) => {
            eprintln!("cannot make what boots: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let seconds = std::env::var(hostile::SECONDS).unwrap_or_else(|_| "10".to_owned());
    let mut good = true;
    for (number, (words, sizes)) in GUESTS.iter().enumerate() {
        if only.map_or(number > 0 && !all(), |only| only != number) {
            continue;
        }
        let guest = match lab::guest(*words) {
            Ok(guest) => guest,
            Err(reason) => {
                eprintln!("cannot make the guest {}: {reason}", words.join(" "));
                good = false;
                continue;
            }
        };
        println!("== {}", words.join(" "));
        let largest = sizes.iter().map(|size| size.memory_mib).max().unwrap_or(0);
        let run = || {
            let this = std::env::current_exe().expect("this program has a path");
            programs
                .iter()
                .fold(Run::new(this), |run, (name, path)| {
                    run.file(path)
                        .lab_options(["--env", &format!("{name}={}", path.display())])
                })
                .file(&guest)
                // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
                .lab_options(["--kernel", "trixie", "--timeout", "3000"])
                .lab_options(["--memory", &(largest + 3072).to_string()])
                .lab_options(["--env", &format!("{GUEST}={}", guest.display())])
                .lab_options(["--env", &format!("{NUMBER}={number}")])
                .lab_options(["--env", &format!("{WHICH}={which}")])
                .file(&scribbler)
                .lab_options([
                    "--env",
                    &format!("{}={}", hostile::INITRD, scribbler.display()),
                ])
                .lab_options(["--env", &format!("{}={seconds}", hostile::SECONDS)])
        };
        let mut runs = vec![run().lab_options(["--user"])];
        if number == 0 && matches!(bed, TestBed::Lab { .. }) {
            // Only root can become a user who may not open /dev/kvm.
            runs.push(run());
        }
        for run in runs {
            let once = || {
                let mut command = bed.command(&run).expect("there is a test bed");
                command
                    .args(std::env::args_os().skip(1))
                    .env(GUEST, &guest)
                    .env(hostile::INITRD, &scribbler)
                    .env(NUMBER, number.to_string());
                command.status().is_ok_and(|status| status.success())
            };
            if once() {
                continue;
            }
            // An emulated machine fails by itself now and then (docs/lab.md, "Traps"): twice more.
            let again = matches!(bed, TestBed::Lab { .. }) && (once() || once());
            if again {
                let name = words.join(" ");
                println!("repeated: boots of {name}: failed in one lab and passed in the next");
            }
            good &= again;
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether guests are wanted on each of their machines.
fn all() -> bool {
    std::env::var(WHICH).is_ok_and(|which| which == "all" || which.parse::<usize>().is_ok())
}

fn inner(number: usize, guest: &Path) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Machines of several CPUs on two processors: one after the other.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let (words, sizes) = GUESTS[number];
    let mut trials = Vec::new();
    let mut add = |name: String, test: Box<dyn FnOnce() + Send>| {
        trials.push(Trial::test(name, move || {
            test();
            Ok(())
        }));
    };
    if nix::unistd::geteuid().is_root() {
        let guest = guest.to_owned();
        add(
            "without_permission_the_device_is_named".to_owned(),
            Box::new(move || ends::without_permission(&guest)),
        );
    } else {
        let sizes = if all() { sizes } else { &sizes[..1] };
        for &size in sizes {
            let Size { cpus, memory_mib } = size;
            let path = guest.to_owned();
            add(
                format!("login_and_power_off_{cpus}_cpus_{memory_mib}_mib"),
                Box::new(move || runs::login(&path, words, size)),
            );
        }
        let path = guest.to_owned();
        if machine::comes_late(guest) {
            // Not with the one console that a published box has: not by the program.
            add(
                "build_by_the_published_boxes_contract".to_owned(),
                Box::new(move || runs::build(&path)),
            );
        } else {
            add(
                "a_published_box_by_the_program".to_owned(),
                Box::new(move || program::succeeds(&path)),
            );
        }
        if number == 0 && all() {
            let path = guest.to_owned();
            add(
                "a_failure_in_a_published_box".to_owned(),
                Box::new(move || program::fails(&path)),
            );
        }
        for &(name, test) in if number == 0 { ends::TESTS } else { &[] } {
            let path = guest.to_owned();
            add(name.to_owned(), Box::new(move || test(&path)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
