//! Runs the machine of an image.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boxbuild_core::terminal::Session;
use boxbuild_engine::qemu::image;
use boxbuild_engine::{
    Console, CpuLevel, Ended, Event, EventReceiver, Running, StartError, events,
};
use boxbuild_host::interrupt::Interrupt;

use crate::container::Container;
use crate::error::RunError;
use crate::log::SerialLog;
use crate::outcome::{Outcome, Reason, Trouble, Verdict};
use crate::plan::{Plan, expectations, most_restarts};
use crate::request::{Request, TestRequest};
use crate::watch::{Expectations, Judgement, Transcript, Watch};

/// How often a guest is looked at. Text is searched that often at most.
const TICK: Duration = Duration::from_millis(100);
/// Time for QEMU to end when it is told to.
const GRACE: Duration = Duration::from_secs(3);
/// How often a machine is started again that was too slow for its kernel.
const MOST_AGAIN: u32 = 3;

/// What is said of a container that root runs.
const ROOTFUL: &str = "root runs the image in a container of its own, which shares the host's kernel: as a normal user, \
                       it is isolated better";

/// What hears of a test while it runs.
pub trait Witness {
    /// The guest has written a line. It is sanitised.
    fn line(&mut self, line: &str);
    /// The user should know something.
    fn note(&mut self, text: &str);
    /// The guest is under way; `last` is its last line.
    fn progress(&mut self, time: Duration, last: &str);
}

/// Runs an image in its machine until what is expected has been seen, or cannot be.
///
/// # Errors
/// If an option is wrong, or the machine cannot be started or fails.
pub fn test(
    plan: &Plan,
    request: &TestRequest,
    interrupt: &Interrupt,
    witness: &mut dyn Witness,
) -> Result<Outcome, RunError> {
    let slow = plan.accelerator == image::Accelerator::Tcg;
    // All of it is read before anything is started.
    expectations(request, slow)?;
    let mut log = plan.begin_log()?;
    if !plan.in_machine() {
        let container = Container::prepare(plan, interrupt)?;
        if container.is_rootful() {
            witness.note(ROOTFUL);
        }
        return test_container(&container, request, interrupt, witness, log.as_mut());
    }
    let mut level = CpuLevel::V1;
    let mut again = 0;
    let began = Instant::now();
    loop {
        let expectations = expectations(request, slow)?;
        let machine = plan.machine(level, most_restarts())?;
        let (sender, events) = events();
        let mut running = image::start(machine, sender)?;
        let watch = Watch::new(expectations, began, Instant::now());
        let mut test = Test::new(watch, interrupt, &mut *witness, log.as_mut());
        match test.supervise(running.as_mut(), &events)? {
            Judged::Outcome(outcome) => return Ok(outcome),
            Judged::NeedsProcessor(wanted, _) if slow && plan.may_emulate(wanted, level) => {
                level = wanted;
                witness.note(&format!(
                    "the image needs a processor of the level {}: it is started again with one",
                    wanted.name()
                ));
            }
            Judged::NeedsProcessor(_, outcome) => return Ok(outcome),
            Judged::Again(outcome) if again == MOST_AGAIN || !slow => return Ok(outcome),
            Judged::Again(_) => {
                again += 1;
                witness.note(
                    "the kernel of the image has not seen its timer in time, as this host is busy: it is \
                     started again",
                );
            }
        }
    }
}

/// Runs a container until what is expected has been seen, or its command has ended.
fn test_container(
    container: &Container,
    request: &TestRequest,
    interrupt: &Interrupt,
    witness: &mut dyn Witness,
    log: Option<&mut SerialLog>,
) -> Result<Outcome, RunError> {
    let asked = request.expect.is_some();
    let mut expectations = expectations(request, false)?;
    container.adapt(&mut expectations, asked)?;
    let (mut run, events) = container.start()?;
    let now = Instant::now();
    let watch = Watch::new(expectations, now, now);
    let mut test = Test::new(watch, interrupt, witness, log);
    match test.supervise(&mut run, &events)? {
        Judged::Outcome(outcome) => Ok(container.judge(asked, run.exit_code(), outcome)),
        Judged::NeedsProcessor(_, outcome) | Judged::Again(outcome) => Ok(outcome),
    }
}

/// How a run ended.
enum Judged {
    Outcome(Outcome),
    /// The same machine with a newer processor may come up; what it comes to if no other is tried.
    NeedsProcessor(CpuLevel, Outcome),
    /// The emulated machine was too slow for its kernel; what it comes to if no other is tried.
    Again(Outcome),
}

/// A test that runs.
struct Test<'a> {
    watch: Watch,
    interrupt: &'a Interrupt,
    witness: &'a mut dyn Witness,
    log: Option<&'a mut SerialLog>,
    started: Instant,
    /// When progress was told last.
    told: Instant,
}

impl<'a> Test<'a> {
    fn new(
        watch: Watch,
        interrupt: &'a Interrupt,
        witness: &'a mut dyn Witness,
        log: Option<&'a mut SerialLog>,
    ) -> Test<'a> {
        let now = Instant::now();
        Test {
            watch,
            interrupt,
            witness,
            log,
            started: now,
            told: now,
        }
    }

    fn supervise(
        &mut self,
        running: &mut dyn Running,
        events: &EventReceiver,
    ) -> Result<Judged, RunError> {
        let console = running.console();
        let mut looked = Instant::now();
        let judged = loop {
            match events.next(TICK) {
                Some(Event::Console(bytes)) => self.take(&bytes),
                Some(Event::Note(text)) => self.witness.note(&text),
                Some(Event::Hopeless(text)) => break Err(RunError::Engine(text)),
                Some(Event::Ended(ended)) => break self.ended(ended),
                Some(Event::Control(_)) | None => {}
            }
            if self.interrupt.count() > 0 {
                break Ok(Judged::Outcome(self.outcome(Verdict::Interrupted)));
            }
            let now = Instant::now();
            if now.duration_since(looked) < TICK {
                continue;
            }
            looked = now;
            if let Some(judged) = self.look(now, console.as_deref()) {
                break Ok(judged);
            }
        };
        // Its disk is thrown away: nothing of it has an order to keep.
        running.kill(if self.interrupt.count() > 1 {
            Duration::ZERO
        } else {
            GRACE
        });
        self.flush();
        judged
    }

    fn flush(&mut self) {
        if let Some(note) = self.log.as_mut().and_then(|log| log.flush()) {
            self.witness.note(&note);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for line in self.watch.take(bytes, Instant::now()) {
            self.witness.line(&line);
            if let Some(note) = self.log.as_mut().and_then(|log| log.line(&line)) {
                self.witness.note(&note);
            }
        }
    }

    fn look(&mut self, now: Instant, console: Option<&dyn Console>) -> Option<Judged> {
        let (typed, judgement) = self.watch.look(now);
        if !typed.is_empty()
            && let Some(console) = console
        {
            console.send(&typed);
        }
        if now.duration_since(self.told) >= Duration::from_secs(1) {
            self.told = now;
            // Another program may follow it.
            self.flush();
            let last = self.watch.last_lines().pop().unwrap_or_default();
            self.witness
                .progress(now.duration_since(self.started), &last);
        }
        judgement.map(|judgement| self.judged(judgement))
    }

    fn judged(&mut self, judgement: Judgement) -> Judged {
        match judgement {
            Judgement::Passed => Judged::Outcome(self.outcome(Verdict::Passed)),
            Judgement::Failed(reason) => Judged::Outcome(self.outcome(Verdict::Failed(reason))),
            Judgement::NeedsProcessor(level) => {
                let reason = Reason::Processor(level);
                Judged::NeedsProcessor(level, self.outcome(Verdict::Failed(reason)))
            }
            Judgement::Again(text) => {
                let reason = Reason::Trouble(Trouble::Panic, text);
                Judged::Again(self.outcome(Verdict::Failed(reason)))
            }
        }
    }

    /// The guest is gone. What it wrote last may be what was expected.
    fn ended(&mut self, ended: Ended) -> Result<Judged, RunError> {
        let gone = match ended {
            Ended::Failed(text) => return Err(RunError::Engine(text)),
            Ended::PoweredOff | Ended::Killed => Reason::PoweredOff,
            Ended::Reset | Ended::TripleFault(_) => Reason::Restarts,
        };
        let judgement = self.watch.ended();
        Ok(self.judged(judgement.unwrap_or(Judgement::Failed(gone))))
    }

    fn outcome(&mut self, verdict: Verdict) -> Outcome {
        let current = self.watch.rest();
        if let Some(rest) = current {
            self.witness.line(&rest);
            if let Some(note) = self.log.as_mut().and_then(|log| log.line(&rest)) {
                self.witness.note(&note);
            }
        }
        Outcome {
            verdict,
            time: self.started.elapsed(),
            last_lines: self.watch.last_lines(),
        }
    }
}

/// Runs an image with the user's terminal as its console, until it switches itself off or the user
/// leaves it. Returns what it ended with.
///
/// # Errors
/// If the machine cannot be started or fails, or there is no terminal.
pub fn attach(plan: &Plan, interrupt: &Interrupt) -> Result<(), RunError> {
    if !plan.in_machine() {
        // podman has the terminal, and gives it back.
        let container = Container::prepare(plan, interrupt)?;
        return container.attach();
    }
    let mut log = plan.begin_log()?;
    let (sender, events) = events();
    let mut running = image::start(plan.machine(CpuLevel::V2, None)?, sender)?;
    let console: Arc<dyn Console> = running.console().ok_or_else(|| {
        let text = String::from("it has no console");
        RunError::Start(StartError::Machine(text.into()))
    })?;
    let session = Session::open(console)
        .map_err(|error| RunError::Host(String::from("use this terminal"), error))?;
    let mut transcript = Transcript::default();
    let ended = loop {
        match events.next(TICK) {
            Some(Event::Console(bytes)) => {
                session.show(&bytes);
                if let Some(log) = &mut log {
                    transcript.push(&bytes);
                    let problems = transcript.take_lines().into_iter();
                    let problems = problems.filter_map(|line| log.line(&line));
                    problems.for_each(|problem| session.say(&problem));
                }
            }
            Some(Event::Note(text)) => session.say(&text),
            Some(Event::Hopeless(text)) => break Ended::Failed(text),
            Some(Event::Ended(ended)) => break ended,
            Some(Event::Control(_)) => {}
            None => {
                let problem = log.as_mut().and_then(SerialLog::flush);
                problem
                    .into_iter()
                    .for_each(|problem| session.say(&problem));
            }
        }
        if session.left() || interrupt.count() > 0 {
            break Ended::Killed;
        }
    };
    if let Some(log) = &mut log {
        let problems = [log.line(transcript.current()), log.flush()];
        let problems = problems.into_iter().flatten();
        problems.for_each(|problem| session.say(&problem));
    }
    drop(session);
    running.kill(GRACE);
    drop(running);
    match ended {
        Ended::Failed(text) => Err(RunError::Engine(text)),
        _ => Ok(()),
    }
}

/// Reads what a test needs, and checks it.
///
/// # Errors
/// If a file cannot be read, an expression or a script is wrong, or options do not fit each other.
pub fn check_test(request: &TestRequest, image: &Request) -> Result<(), RunError> {
    // A command is judged by its end: a script would never be typed, and its failure never be seen.
    if request.script.is_some() && request.expect.is_none() && image.command.is_some() {
        let text =
            "--script with --command needs --expect REGEX: what the command shows once it reads";
        return Err(RunError::Option(String::from(text)));
    }
    expectations(request, false).map(|_: Expectations| ())
}
