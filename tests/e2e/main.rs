//! Builds under the real engines: what succeeds, what fails and how, and what is left behind.
//!
//! Each test is registered once, with what it needs (`registry.rs`). `BOXBUILD_TEST_ENGINE` selects
//! those of one engine: `qemu`, `podman`, or `kvm`, which is tested on the host's own /dev/kvm if
//! that is a true one, else in the lab (docs/lab.md), as a normal user. Without it, those of qemu and
//! podman run. `--ignored` runs what takes long. See docs/testing.md.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod batch;
mod boot;
mod check;
mod ci;
mod clock;
mod command_line;
mod confinement;
mod container;
mod dry_run;
mod failure;
mod foreign;
mod full;
mod history;
mod image;
mod imported;
mod in_container;
mod in_lab;
mod in_place;
mod input;
mod interrupt;
mod isolation;
mod json;
mod kept;
mod network;
mod notices;
mod other_user;
mod packages;
mod paths;
mod record;
mod registry;
mod resume;
mod runners;
mod several;
mod shares;
mod ssh;
mod success;
mod timings;

use std::process::ExitCode;
use std::time::Instant;

use boxbuild_tests::env::{ENGINE, foreign_arch, in_lab};
use boxbuild_tests::lab::TestBed;
use boxbuild_tests::{skip, test_env};
use libtest_mimic::{Arguments, Trial};
use registry::{Test, Venue};

/// Names of the tests to run, separated by commas, where not all are: how this program calls itself
/// in the lab and as another user.
const ONLY: &str = "BOXBUILD_TEST_ONLY";

/// Set: how long each test took is printed.
const TIMES: &str = "BOXBUILD_TEST_TIMES";

const ALL: &[&[Test]] = &[
    shares::TESTS,
    success::TESTS,
    boot::TESTS,
    check::TESTS,
    clock::TESTS,
    failure::TESTS,
    confinement::TESTS,
    interrupt::TESTS,
    input::TESTS,
    command_line::TESTS,
    network::TESTS,
    packages::TESTS,
    paths::TESTS,
    record::TESTS,
    in_place::TESTS,
    several::TESTS,
    foreign::TESTS,
    image::TESTS,
    imported::TESTS,
    in_container::TESTS,
    batch::TESTS,
    runners::TESTS,
    ci::TESTS,
    dry_run::TESTS,
    json::TESTS,
    history::TESTS,
    kept::TESTS,
    resume::TESTS,
    notices::TESTS,
    ssh::TESTS,
    timings::TESTS,
    isolation::publish::TESTS,
    isolation::staging::TESTS,
    isolation::budgets::TESTS,
    isolation::secrets::TESTS,
    isolation::terminal::TESTS,
    isolation::process::TESTS,
    isolation::endurance::TESTS,
    container::TESTS,
    container::network::TESTS,
    container::real::TESTS,
    isolation::container::TESTS,
    full::TESTS,
    full::container::TESTS,
    full::guests::TESTS,
    full::types::TESTS,
    runners::slurm::TESTS,
    runners::ssh::TESTS,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let engine = std::env::var(ENGINE).ok();
    let mut tests = match selected(engine.as_deref()) {
        Ok(tests) => tests,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.list {
        // Where other programs are tested, they are built later.
        let here = engine.as_deref() != Some("kvm") || foreign_arch().is_none();
        if here && let Err(reason) = test_env() {
            eprintln!("the program under test cannot be built: {reason}");
            return ExitCode::FAILURE;
        }
        if engine.as_deref() == Some("kvm") {
            let bed = match foreign_arch() {
                Some(arch) => TestBed::of_foreign(&arch),
                None => TestBed::find(),
            };
            println!("test bed of engine kvm: {bed}");
            match bed {
                TestBed::Kvm => {}
                TestBed::Lab { .. } => return self::in_lab::run(&bed, &tests, &arguments),
                TestBed::None { reason } => {
                    let what = format!("all {} end-to-end tests of engine kvm", tests.len());
                    skip(&what, &reason);
                    return ExitCode::SUCCESS;
                }
            }
        }
        container::fixture::drop_what_cannot_run(&mut tests, &arguments);
    }
    // Each test is a machine or a container of its own: one more than processors, as some only wait.
    // Those that take long share a box, memory and /var/tmp.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let at_once = if arguments.ignored {
        1
    } else if in_lab() {
        self::in_lab::AT_ONCE
    } else {
        processors + 1
    };
    arguments.test_threads = arguments.test_threads.or(Some(at_once));
    let trials = tests.into_iter().map(|test| {
        let run = move || {
            let start = Instant::now();
            (test.run)();
            if std::env::var_os(TIMES).is_some() {
                println!("time: {:.1} s {}", start.elapsed().as_secs_f32(), test.name);
            }
            Ok(())
        };
        Trial::test(test.name, run).with_ignored_flag(test.venue == Venue::Full)
    });
    // What the long tests share goes when they have ended.
    let _shared = (arguments.ignored || arguments.include_ignored).then(full::Shared::new);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Returns the tests of `engine`, in the order in which they are registered.
fn selected(engine: Option<&str>) -> Result<Vec<Test>, String> {
    let venues: &[Venue] = match engine {
        None => &[
            Venue::Engine,
            Venue::Program,
            Venue::Qemu,
            Venue::Container,
            Venue::Podman,
            Venue::Full,
        ],
        Some("qemu") => &[Venue::Engine, Venue::Program, Venue::Qemu],
        Some("kvm") => &[Venue::Engine, Venue::Program],
        Some("podman") => &[Venue::Container, Venue::Podman],
        Some(other) => return Err(format!("{ENGINE}={other}: not one of qemu, kvm, podman")),
    };
    let mut tests = ALL.concat();
    tests.retain(|test| venues.contains(&test.venue));
    // What says little about the machine says nothing more of an emulated one.
    if foreign_arch().is_some() && engine != Some("kvm") {
        tests.retain(|test| test.venue == Venue::Engine);
    }
    if let Ok(only) = std::env::var(ONLY) {
        tests.retain(|test| only.split(',').any(|wanted| wanted == test.name));
    }
    Ok(tests)
}

/// Whether `name` is one of those that the command line asks for, so that what only some tests need
/// is not looked for without them.
fn is_asked_for(arguments: &Arguments, test: &Test) -> bool {
    let matches = |filter: &String| {
        if arguments.exact {
            test.name == filter
        } else {
            test.name.contains(filter.as_str())
        }
    };
    let long = test.venue == Venue::Full;
    let kind = arguments.include_ignored || arguments.ignored == long;
    kind && arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}
