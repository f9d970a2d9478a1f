//! What a guest writes to its console.

use std::time::{Duration, Instant};

use super::kernel_trouble::{KernelTrouble, Processors};
use super::last_lines::LastLines;
use crate::kiwi_log::Lines;

/// Lines that are kept for the report of a failure.
const LAST_LINES: usize = 15;

/// What is kept of the console for a failed build, in bytes.
const TRANSCRIPT: usize = 1 << 20;

/// How the kernel's last message begins (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing: ";

/// What a guest has written to its console.
#[derive(Debug)]
pub(super) struct ConsoleLog {
    lines: Lines,
    last: LastLines,
    transcript: String,
    panic: Option<String>,
    trouble: KernelTrouble,
    processors: Processors,
}

impl ConsoleLog {
    /// An empty log.
    pub(super) fn new() -> ConsoleLog {
        ConsoleLog {
            lines: Lines::default(),
            last: LastLines::new(LAST_LINES),
            transcript: String::new(),
            panic: None,
            trouble: KernelTrouble::default(),
            processors: Processors::default(),
        }
    }

    /// The machine has `number` processors.
    pub(super) fn has_processors(&mut self, number: u32) {
        self.processors.number = number;
    }

    /// The machine has used that much processor time so far.
    pub(super) fn has_used(&mut self, time: Option<Duration>) {
        self.processors.used = time;
    }

    /// Takes bytes, and calls `show` for each line.
    pub(super) fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&str)) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(bytes, |line| {
            self.line(line);
            show(line);
        });
        self.lines = lines;
    }

    /// Takes the line that has no end.
    pub(super) fn finish(&mut self, show: impl FnOnce(&str)) {
        if let Some(rest) = self.lines.rest() {
            self.line(&rest);
            show(&rest);
        }
    }

    fn line(&mut self, line: &str) {
        self.transcribe(line);
        if self.panic.is_some() {
            // Registers and call traces would push out what led to it.
            return;
        }
        self.panic = line.split_once(PANIC).map(|(_, what)| what.to_owned());
        self.trouble.line(line, Instant::now(), self.processors);
        self.last.push(line);
    }

    /// Notes down what the host says, between the lines of the guest.
    pub(super) fn note(&mut self, text: &str) {
        self.transcribe(&format!("boxbuild: {text}"));
    }

    fn transcribe(&mut self, line: &str) {
        self.transcript.push_str(line);
        self.transcript.push('\n');
        if self.transcript.len() > TRANSCRIPT {
            // The second half, from the beginning of a line on.
            let middle = self.transcript.ceil_char_boundary(TRANSCRIPT / 2);
            let cut = self.transcript[middle..]
                .find('\n')
                .map_or(middle, |at| middle + at + 1);
            self.transcript.drain(..cut);
        }
    }

    /// What the kernel panicked with: an oops before it, or its own words.
    pub(super) fn panic(&self) -> Option<String> {
        self.panic.as_deref().map(|panic| self.trouble.cause(panic))
    }

    /// What the kernel says of a CPU that is stuck.
    pub(super) fn lockup(&self) -> Option<String> {
        self.trouble.lockup()
    }

    /// The first lines of the oops that ended in a panic; else the last lines before it, or at all.
    pub(super) fn last_lines(&self) -> Vec<String> {
        match self.panic {
            Some(_) if !self.trouble.oops().is_empty() => self.trouble.oops().to_vec(),
            _ => self.last.to_vec(),
        }
    }

    /// The end of everything, at most a mebibyte.
    pub(super) fn transcript(&self) -> &str {
        &self.transcript
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_led_to_a_panic_is_kept() {
        let mut log = ConsoleLog::new();
        let mut shown = 0;
        log.push(
            b"starting\n[1.0] Kernel panic - not syncing: no init\n",
            |_| {
                shown += 1;
            },
        );
        for _ in 0..100 {
            log.push(b"RIP: 0010\n", |_| shown += 1);
        }
        log.finish(|_| unreachable!());
        assert_eq!(log.panic().as_deref(), Some("no init"));
        assert_eq!(log.last_lines()[0], "starting");
        assert_eq!(log.last_lines().len(), 2);
        assert_eq!(shown, 102);
        assert!(log.transcript().ends_with("RIP: 0010\n"));
    }

    /// Registers and call traces are printed twice between the two.
    #[test]
    fn an_oops_is_shown_and_not_the_registers_after_it() {
        let mut log = ConsoleLog::new();
        log.push(
            b"[1.0] BUG: unable to handle page fault for address: ffff\n",
            |_| {},
        );
        for _ in 0..100 {
            log.push(b"[1.0] RAX: 0\n", |_| {});
        }
        log.push(
            b"[1.0] Kernel panic - not syncing: Fatal exception\n",
            |_| {},
        );
        assert!(
            log.panic()
                .unwrap()
                .starts_with("BUG: unable to handle page fault")
        );
        assert!(log.last_lines()[0].contains("BUG: unable"));
    }

    #[test]
    fn a_flood_leaves_its_end() {
        let mut log = ConsoleLog::new();
        let line = [b'x'; 1023];
        for number in 0..3000 {
            log.push(format!("{number} ").as_bytes(), |_| {});
            log.push(&line, |_| {});
            log.push(b"\n", |_| {});
        }
        assert!(log.transcript().len() <= TRANSCRIPT + 2048);
        assert!(
            log.transcript()
                .lines()
                .last()
                .unwrap()
                .starts_with("2999 ")
        );
        assert_eq!(log.last_lines().len(), LAST_LINES);
    }
}
