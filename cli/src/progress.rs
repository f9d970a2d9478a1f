//! What the user sees while something runs: one live line per phase on a terminal, plain
//! lines elsewhere, everything with `--verbose`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde_json::json;

use crate::json::emit;
use crate::ssh;

/// Where there is no terminal, a line each of these times says how far a long step is.
const REPORT: Duration = Duration::from_secs(20);

/// Shows the progress of a run on standard error.
#[derive(Debug)]
pub struct Progress {
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
    pub fn new(verbose: bool) -> Progress {
        Progress {
            verbose,
            live: !verbose && std::io::stderr().is_terminal(),
            muted: false,
            json: false,
            current: None,
        }
    }

    /// Events for programs instead ([`crate::json`]); `verbose` adds every line.
    pub fn json(verbose: bool) -> Progress {
        Progress {
            verbose,
            live: false,
            muted: false,
            json: true,
            current: None,
        }
    }

    /// Whether programs read it.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Begins a step; the one before is done.
    pub fn begin(&mut self, name: &str) {
        self.finish(true);
        if self.json {
            emit(&json!({"event": "phase", "phase": name, "state": "started"}));
        }
        let bar = (self.live && !self.muted).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:<14} {elapsed:>6}  {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        self.current = Some(Step {
            name: name.to_owned(),
            since: Instant::now(),
            reported: Instant::now(),
            bar,
        });
    }

    /// Shows nothing but notes while somebody else has the terminal.
    pub fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Says what the current step is at.
    pub fn detail(&mut self, text: &str) {
        match &self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(text.to_owned()),
            Some(step) if self.json => {
                emit(&json!({"event": "progress", "phase": step.name, "text": text}));
            }
            _ => {}
        }
    }

    /// Says how far the current step is: in its line on a terminal, else now and then.
    pub fn report(&mut self, text: &str) {
        match &mut self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(text.to_owned()),
            Some(step) if step.reported.elapsed() > REPORT => {
                step.reported = Instant::now();
                print(&format!("  {:<14} {text}", step.name));
            }
            _ => {}
        }
    }

    /// Shows a line of log or console, if everything is to be shown.
    pub fn line(&mut self, text: &str) {
        if self.json && self.verbose {
            emit(&json!({"event": "line", "text": text}));
        } else if self.verbose && !self.muted {
            print(text);
        }
    }

    /// Shows a line that the user must see.
    pub fn note(&mut self, text: &str) {
        match &self.current {
            _ if self.json => emit(&json!({"event": "note", "text": text})),
            Some(Step { bar: Some(bar), .. }) => bar.suspend(|| print(text)),
            _ => print(text),
        }
    }

    /// Says which address of this host leads to the box's sshd.
    pub fn listening(&mut self, address: SocketAddr) {
        if self.json {
            emit(&json!({"event": "ssh", "address": address.ip(), "port": address.port()}));
        } else {
            self.note(&format!("{address} leads to port {} of the box", ssh::SSHD));
        }
    }

    /// Ends the current step, if there is one.
    pub fn finish(&mut self, good: bool) {
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
        print(&format!(
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

/// A line on standard error; a closed one is no reason to fail a build.
fn print(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A time for people: `3.2 s`, `4 min 05 s`, `1 h 02 min`.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A moment for people: `2026-11-25 16:30:03 UTC`.
pub fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A size for people, in binary units.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(seconds(Duration::from_millis(3240)), "3.2 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(seconds(Duration::from_secs(3720)), "1 h 02 min");
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(date(moment), "2001-09-09 01:46:40 UTC");
        assert_eq!(size(512), "512 B");
        assert_eq!(size(34 << 20), "34.0 MiB");
    }
}
