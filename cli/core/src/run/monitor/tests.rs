use std::fs;
use std::net::SocketAddr;

use super::*;

/// Steps with their marks.
#[derive(Debug, Default)]
struct Steps {
    current: Option<String>,
    seen: Vec<String>,
}

impl Reporter for Steps {
    fn begin(&mut self, step: &str) {
        self.finish(true);
        self.current = Some(step.to_owned());
    }
    fn finish(&mut self, good: bool) {
        let mark = if good { "✓" } else { "✗" };
        let step = self.current.take();
        self.seen.extend(step.map(|step| format!("{mark} {step}")));
    }
    fn detail(&mut self, _: &str) {}
    fn report(&mut self, _: &str) {}
    fn line(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn listening(&mut self, _: SocketAddr) {}
    fn mute(&mut self, _: bool) {}
}

const CREATE: &str = "[ INFO    ]: 10:11:12 | Creating system image\n";

/// The steps of a build whose guest writes `log` before its last reports, which are `reports`, and what
/// failed.
fn steps(log: &str, reports: &[&str], console: &str) -> (Vec<String>, Phase) {
    let folder = tempfile::tempdir().unwrap();
    let mut steps = Steps::default();
    steps.begin(Phase::Boot.name());
    let share = Dir::open(folder.path()).unwrap();
    let mut monitor = Monitor::new(Some(share), Limits::default(), None, &mut steps);
    fs::write(folder.path().join("result.log"), log).unwrap();
    for report in reports {
        monitor.control(format!("boxbuild 1 {report}\n").as_bytes());
    }
    monitor.console(console.as_bytes());
    monitor.end();
    let failed = monitor.finish_failed();
    (steps.seen, failed)
}

/// What the guest writes into its log, its reports, its console; the steps, and what failed.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    Phase,
);

/// E1: `✓ prepare` and `✗ power off` where kiwi had failed in its first phase.
#[test]
fn the_phase_that_failed_has_the_cross() {
    let cases: &[Case] = &[
        (
            "",
            &["phase mount", "phase build", "exit 1", "phase done"],
            "",
            &["✓ boot", "✗ prepare", "✓ power off"],
            Phase::Prepare,
        ),
        // The log of a phase is read before the report that ends it.
        (
            CREATE,
            &["phase build", "exit 1", "phase done"],
            "",
            &["✓ boot", "✓ prepare", "✗ create", "✓ power off"],
            Phase::Create,
        ),
        (
            CREATE,
            &["phase build", "phase bundle", "exit 1", "phase done"],
            "",
            &["✓ boot", "✓ prepare", "✓ create", "✗ bundle", "✓ power off"],
            Phase::Bundle,
        ),
        // A share that cannot be mounted: kiwi is never reached, and says nothing.
        (
            "",
            &["phase mount", "phase done"],
            "",
            &["✗ boot", "✓ power off"],
            Phase::Boot,
        ),
        // The box stays open for its user.
        (
            "",
            &["phase build", "exit 2", "phase shell", "phase done"],
            "",
            &["✓ boot", "✗ prepare", "✓ shell", "✓ power off"],
            Phase::Prepare,
        ),
        // It hangs when all is done.
        (
            "",
            &["phase build", "exit 0", "phase done"],
            "",
            &["✓ boot", "✓ prepare", "✗ power off"],
            Phase::PowerOff,
        ),
        // A box that its own init booted reports nothing, and bundles with another kiwi.
        (CREATE, &[], "", &["✓ boot", "✗ create"], Phase::Create),
        (
            CREATE,
            &[],
            "[ INFO    ]: 10:11:12 | Bundle build results\n",
            &["✓ boot", "✓ create", "✗ bundle"],
            Phase::Bundle,
        ),
    ];
    for (log, reports, console, expected, failed) in cases {
        let seen = steps(log, reports, console);
        assert_eq!(
            (seen.0.as_slice(), seen.1),
            (
                expected
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .as_slice(),
                *failed
            ),
            "{reports:?}"
        );
    }
}

/// E5: builds that never came to kiwi pushed out those that did.
#[test]
fn only_a_build_that_came_to_kiwi_is_one() {
    let reached = |log: &str, reports: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::default();
        let share = Dir::open(folder.path()).unwrap();
        let mut monitor = Monitor::new(Some(share), Limits::default(), None, &mut steps);
        fs::write(folder.path().join("result.log"), log).unwrap();
        for report in reports {
            monitor.control(format!("boxbuild 1 {report}\n").as_bytes());
        }
        monitor.console(b"Kernel panic - not syncing: no init\n");
        monitor.end();
        monitor.reached_kiwi()
    };
    assert!(!reached("", &[]));
    assert!(!reached("", &["phase mount", "phase setup", "phase done"]));
    assert!(reached("", &["phase build"]));
    assert!(reached("[ INFO    ]: 10:11:12 | Loading XML\n", &[]));
}

/// In a build that goes on with another one, what had been written between the two checkpoints was lost.
#[test]
fn a_guest_gets_one_checkpoint_if_it_was_to_ask_for_one() {
    let mut steps = Steps::default();
    let mut monitor = Monitor::new(None, Limits::default(), None, &mut steps);
    let wanted = b"boxbuild 1 checkpoint wanted\n";
    assert_eq!(monitor.checkpoint(|| Ok(true)), None);
    monitor.control(wanted);
    let refused = monitor.checkpoint(|| panic!("a checkpoint was taken"));
    assert_eq!((refused, monitor.taken()), (Some(false), &Taken::No));
    monitor.takes_checkpoint();
    monitor.control(wanted);
    assert_eq!(monitor.checkpoint(|| Ok(true)), Some(true));
    monitor.control(wanted);
    let again = monitor.checkpoint(|| panic!("a second checkpoint was taken"));
    assert_eq!(again, Some(false));
    assert!(matches!(monitor.taken(), Taken::Yes(_)));
}

/// A container that ended before its first word was told of drivers that its kernel lacks.
#[test]
fn only_a_machine_lacks_drivers() {
    let mut steps = Steps::default();
    let mut monitor = Monitor::new(None, Limits::default(), None, &mut steps);
    let verdict = |monitor: &Monitor<'_>| monitor.verdict(&Ended::PoweredOff, &ResultCode::Missing);
    assert_eq!(verdict(&monitor), Some(Reason::SilentPowerOff));
    monitor.shares_kernel();
    assert_eq!(verdict(&monitor), Some(Reason::EarlyPowerOff));
}
