//! What the user sees while something runs: one live line per phase on a terminal, plain
//! lines elsewhere, everything with `--verbose`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boxbuild_host::units::seconds;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde_json::json;

use crate::output::json::emit;
use crate::output::print::print_line;
use boxbuild_core::ssh;
use boxbuild_host::reporter::Reporter;

/// Where there is no terminal, a line each of these times says how far a long step is.
const REPORT: Duration = Duration::from_secs(20);

/// Shows the progress of a run on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    verbose: bool,
    live: bool,
    muted: bool,
    json: bool,
    current: Option<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    since: Instant,
    /// When it was last reported on.
    reported: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `verbose` shows every line of log and console instead of a live line.
    pub(crate) fn new(verbose: bool) -> Progress {
        Progress {
            verbose,
            live: !verbose && std::io::stderr().is_terminal(),
            muted: false,
            json: false,
            current: None,
        }
    }

    /// Events for programs instead ([`crate::output::json`]); `verbose` adds every line.
    pub(crate) fn json(verbose: bool) -> Progress {
        Progress {
            verbose,
            live: false,
            muted: false,
            json: true,
            current: None,
        }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }
}

impl Reporter for Progress {
    fn begin(&mut self, step: &str) {
        self.finish(true);
        if self.json {
            emit(&json!({"event": "phase", "phase": step, "state": "started"}));
        }
        let bar = (self.live && !self.muted).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:<14} {elapsed:>6}  {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(step.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        self.current = Some(Step {
            name: step.to_owned(),
            since: Instant::now(),
            reported: Instant::now(),
            bar,
        });
    }

    fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    fn detail(&mut self, text: &str) {
        match &self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(text.to_owned()),
            Some(step) if self.json => {
                emit(&json!({"event": "progress", "phase": step.name, "text": text}));
            }
            _ => {}
        }
    }

    fn report(&mut self, text: &str) {
        match &mut self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(text.to_owned()),
            Some(step) if step.reported.elapsed() > REPORT => {
                step.reported = Instant::now();
                print_line(&format!("  {:<14} {text}", step.name));
            }
            _ => {}
        }
    }

    fn line(&mut self, text: &str) {
        if self.json && self.verbose {
            emit(&json!({"event": "line", "text": text}));
        } else if self.verbose && !self.muted {
            print_line(text);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.current {
            _ if self.json => emit(&json!({"event": "note", "text": text})),
            Some(Step { bar: Some(bar), .. }) => bar.suspend(|| print_line(text)),
            _ => print_line(text),
        }
    }

    fn listening(&mut self, address: SocketAddr) {
        if self.json {
            emit(&json!({"event": "ssh", "address": address.ip(), "port": address.port()}));
        } else {
            self.note(&format!("{address} leads to port {} of the box", ssh::SSHD));
        }
    }

    fn finish(&mut self, good: bool) {
        let Some(step) = self.current.take() else {
            return;
        };
        if let Some(bar) = step.bar {
            bar.finish_and_clear();
        }
        if self.json {
            emit(&json!({
                "event": "phase",
                "phase": step.name,
                "state": if good { "done" } else { "failed" },
                "seconds": step.since.elapsed().as_secs_f64(),
            }));
            return;
        }
        if self.muted {
            return;
        }
        // anstream drops the colour where it does not belong.
        let mark = if good {
            "✓".green().to_string()
        } else {
            "✗".red().to_string()
        };
        print_line(&format!(
            "{mark} {:<14} {}",
            step.name,
            seconds(step.since.elapsed())
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Step { bar: Some(bar), .. }) = &self.current {
            bar.finish_and_clear();
        }
    }
}
