//! `boxbuild test` and `boxbuild run`: a built image is started.

mod show;

use std::path::Path;
use std::time::Duration;

use boxbuild_core::plan::PlanError;
use boxbuild_core::terminal;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::shown_path;
use boxbuild_host::watchdog::Watchdog;
use boxbuild_images::{Outcome, Plan, Verdict, Witness};

use super::forced_end::{GRACE, forced_end};
use super::signals;
use crate::args::{RunArgs, TestArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::event::{BuildEvent, ImageEvent, TestReport, TestStatus};
use crate::output::json::{emit, emit_exit, print_document};
use crate::output::print::{print_line, print_text};
use crate::output::progress::Progress;
use crate::output::text::test_lines;

/// The step of a test, as progress shows it.
const STEP: &str = "boot";

/// Starts an image, and judges what it does.
///
/// # Errors
/// Fails if it cannot be started.
pub(crate) fn test(args: &TestArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let json = args.json;
    let stop = StopCheck::new(&interrupt, None);
    let _watchdog = Watchdog::start(stop, GRACE, move |stopped| forced_end(stopped, json))
        .host_context(|| "cannot start a thread")?;
    let request = args.request();
    let image = args.image.request();
    boxbuild_images::check_test(&request, &image)?;
    let plan = Plan::new(&image, &interrupt)?;
    if args.image.dry_run {
        return show_plan(&plan, json);
    }
    let mut progress = if json {
        emit(&ImageEvent::Image(&plan.facts));
        Progress::events(args.verbose)
    } else {
        print_line(&show::heading(&plan.facts));
        Progress::new(args.verbose)
    };
    plan.facts.notes.iter().for_each(|note| progress.note(note));
    progress.begin(STEP);
    let mut shown = Shown(&mut progress);
    let ran = boxbuild_images::test(&plan, &request, &interrupt, &mut shown);
    progress.finish(ran.as_ref().is_ok_and(|ran| ran.verdict == Verdict::Passed));
    let outcome = ran?;
    let (report, code) = report(&plan, &outcome, args.image.log.as_deref());
    let Some(report) = report else {
        progress.note("interrupted");
        if json {
            emit_exit(code);
        }
        return Ok(code);
    };
    if json {
        emit(&BuildEvent::Test(report));
        emit_exit(code);
    } else if report.status == TestStatus::Passed {
        print_text(&(test_lines(&report).join("\n") + "\n"))?;
    } else {
        test_lines(&report).iter().for_each(|line| print_line(line));
    }
    Ok(code)
}

/// Starts an image with the user's terminal as its console.
///
/// # Errors
/// Fails if it cannot be started, or there is no terminal.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    if !args.image.dry_run {
        terminal::needed().map_err(|problem| {
            PlanError::Option(format!("boxbuild run {problem}; boxbuild test needs none"))
        })?;
    }
    let stop = StopCheck::new(&interrupt, None);
    let _watchdog = Watchdog::start(stop, GRACE, |stopped| forced_end(stopped, false))
        .host_context(|| "cannot start a thread")?;
    let plan = Plan::new(&args.image.request(), &interrupt)?;
    if args.image.dry_run {
        return show_plan(&plan, false);
    }
    print_line(&show::heading(&plan.facts));
    plan.facts.notes.iter().for_each(|note| print_line(note));
    print_line(show::KEYS);
    boxbuild_images::attach(&plan, &interrupt)?;
    Ok(if interrupt.count() > 0 {
        ExitCode::INTERRUPTED
    } else {
        ExitCode::SUCCESS
    })
}

fn show_plan(plan: &Plan, json: bool) -> Result<ExitCode> {
    if json {
        print_document(&plan.facts)?;
    } else {
        print_text(&show::facts(&plan.facts))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report on a test, unless it was interrupted, and the exit code.
fn report(plan: &Plan, outcome: &Outcome, log: Option<&Path>) -> (Option<TestReport>, ExitCode) {
    let (status, reason, code) = match &outcome.verdict {
        Verdict::Passed => (TestStatus::Passed, None, ExitCode::SUCCESS),
        Verdict::Failed(reason) => (TestStatus::Failed, Some(reason), ExitCode::BUILD_FAILED),
        Verdict::Interrupted => return (None, ExitCode::INTERRUPTED),
    };
    let report = TestReport {
        status,
        image: plan.facts.image.to_string_lossy().into_owned(),
        seconds: outcome.time.as_secs_f64(),
        reason: reason.map(|reason| reason.word().to_owned()),
        message: reason.map_or_else(|| show::passed(&plan.facts), ToString::to_string),
        last_lines: outcome.last_lines.clone(),
        log: log.map(shown_path),
        hint: reason
            .and_then(boxbuild_images::Reason::hint)
            .map(str::to_owned),
    };
    (Some(report), code)
}

/// Progress that sees a test.
struct Shown<'a>(&'a mut Progress);

impl Witness for Shown<'_> {
    fn line(&mut self, line: &str) {
        self.0.line(line);
    }

    fn note(&mut self, text: &str) {
        self.0.note(text);
    }

    fn progress(&mut self, _time: Duration, last: &str) {
        self.0.detail(last);
    }
}
