//! Watches what a guest writes to its serial line, types on it, and judges.

mod script;
mod signs;
mod transcript;

use std::time::{Duration, Instant};

use boxbuild_engine::CpuLevel;
use regex::Regex;

pub(crate) use script::{Step, parse, pattern};
use signs::Sign;
pub(crate) use transcript::Transcript;

use crate::outcome::Reason;
#[cfg(test)]
use crate::outcome::Trouble;

/// What shows that an image came up unless the user says otherwise: the prompt of getty(8).
pub const LOGIN_PROMPT: &str = r"^(\S+ )?login: ?";

/// Time between what a guest wrote and an answer to it: programs drop what was typed before they
/// read (getty(8), tcsetattr(3), TCSAFLUSH).
const BEFORE_TYPING: Duration = Duration::from_millis(500);
/// Time for the rest of what a guest has to say when it is known not to come up.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long a prompt stands before it is taken for one.
const STANDING: Duration = Duration::from_millis(1500);
/// How often the pass phrase is given: as often as systemd asks.
const MOST_ATTEMPTS: u32 = 3;
/// Last lines that are kept for a report.
const LAST_LINES: usize = 15;

/// What is waited for, and how long.
#[derive(Debug)]
pub(crate) struct Expectations {
    pub(crate) steps: Vec<Step>,
    /// For all of it.
    pub(crate) timeout: Option<Duration>,
    /// Without a byte.
    pub(crate) idle: Option<Duration>,
    pub(crate) passphrase: Option<String>,
    /// Texts that are never shown.
    pub(crate) secrets: Vec<String>,
}

/// What became of the guest so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All that was expected has been seen.
    Passed,
    /// It will not be.
    Failed(Reason),
    /// The same machine with a newer processor may come up.
    NeedsProcessor(CpuLevel),
    /// The emulated machine was too slow for its kernel: the next one may be fast enough.
    Again(String),
}

/// A guest under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    expectations: Expectations,
    transcript: Transcript,
    /// The step that is due, and since when.
    step: usize,
    since: Instant,
    /// Up to where the text has been searched with success.
    seen: u64,
    /// When the first machine of the test was started, and this one.
    began: Instant,
    started: Instant,
    /// When the last byte came, if any has.
    last_byte: Option<Instant>,
    /// Why it does not come up, and when that was found out.
    trouble: Option<(Judgement, Instant)>,
    /// Where the line with the prompt begins that has been answered: what is echoed there is no new one.
    answered: Option<u64>,
    attempts: u32,
    last_lines: Vec<String>,
}

impl Watch {
    /// The time for all of it has passed since `began`.
    pub(crate) fn new(expectations: Expectations, began: Instant, now: Instant) -> Watch {
        Watch {
            expectations,
            transcript: Transcript::default(),
            step: 0,
            since: now,
            seen: 0,
            began,
            started: now,
            last_byte: None,
            trouble: None,
            answered: None,
            attempts: 0,
            last_lines: Vec::new(),
        }
    }

    /// Takes what the guest wrote. Returns the lines that have ended.
    pub(crate) fn take(&mut self, bytes: &[u8], now: Instant) -> Vec<String> {
        self.last_byte = Some(now);
        self.transcript.push(bytes);
        let lines = self.transcript.take_lines();
        for line in &lines {
            if self.trouble.is_none() {
                self.sign(signs::of_line(line), now);
            }
        }
        let lines: Vec<String> = lines.iter().map(|line| self.redacted(line)).collect();
        let shown = lines.iter().filter(|line| !line.trim().is_empty());
        self.last_lines.extend(shown.cloned());
        let excess = self.last_lines.len().saturating_sub(LAST_LINES);
        self.last_lines.drain(..excess);
        lines
    }

    /// Returns the last lines, that without an end among them.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let mut lines = self.last_lines.clone();
        lines.extend(self.rest());
        lines
    }

    /// Returns the line that has not ended, if there is one.
    pub(crate) fn rest(&self) -> Option<String> {
        let rest = self.redacted(self.transcript.current());
        (!rest.trim().is_empty()).then_some(rest)
    }

    /// Returns what is to be typed now, and the judgement if there is one.
    pub(crate) fn look(&mut self, now: Instant) -> (Vec<u8>, Option<Judgement>) {
        let mut typed = Vec::new();
        loop {
            match self.expectations.steps.get(self.step) {
                None => return (typed, Some(Judgement::Passed)),
                Some(Step::Expect { .. }) => {
                    if !self.is_seen() {
                        break;
                    }
                }
                Some(Step::Type(_)) if now.duration_since(self.since) < BEFORE_TYPING => break,
                Some(Step::Type(bytes)) => {
                    typed.extend_from_slice(bytes);
                    // The answer is searched in what comes from now on.
                    self.seen = self.transcript.end();
                }
                Some(Step::Wait(time)) if now.duration_since(self.since) < *time => break,
                Some(Step::Wait(_)) => {}
            }
            self.step += 1;
            self.since = now;
        }
        self.prompt(now, &mut typed);
        let judgement = self.judge(now);
        (typed, judgement)
    }

    /// Returns the judgement on a guest that is gone, if it is more than that: nothing is typed any more,
    /// and no time goes by that the script waits.
    pub(crate) fn ended(&mut self) -> Option<Judgement> {
        while self.is_seen() {
            self.step += 1;
        }
        if self.step == self.expectations.steps.len() {
            return Some(Judgement::Passed);
        }
        if self.trouble.is_none() {
            self.sign(self.of_prompt(), self.started);
        }
        self.trouble.take().map(|(judgement, _)| judgement)
    }

    /// Whether the step that is due expects something that is there.
    fn is_seen(&mut self) -> bool {
        let Some(Step::Expect { pattern, .. }) = self.expectations.steps.get(self.step) else {
            return false;
        };
        let Some(found) = pattern.find(self.transcript.since(self.seen)) else {
            return false;
        };
        self.seen = self.transcript.place_in(self.seen, found.end());
        // What it said before is no trouble.
        self.trouble = None;
        true
    }

    /// What the line tells that the guest has not ended.
    fn of_prompt(&self) -> Option<Sign> {
        let sign = signs::of_prompt(self.transcript.current());
        match sign.or_else(|| signs::of_drawn(&self.transcript.drawn())) {
            // A shell that the user has logged into.
            Some(Sign::Stuck(..)) if self.step > 0 => None,
            sign => sign,
        }
    }

    /// Looks at the line that the guest has not ended, if it has been silent since.
    fn prompt(&mut self, now: Instant, typed: &mut Vec<u8>) {
        let standing = self
            .last_byte
            .is_some_and(|last| now.duration_since(last) >= STANDING);
        if !standing || self.trouble.is_some() {
            return;
        }
        let sign = self.of_prompt();
        let Some(Sign::AsksForPassphrase(prompt)) = sign else {
            self.sign(sign, now);
            return;
        };
        let line = match signs::of_prompt(self.transcript.current()) {
            Some(_) => self.transcript.place_of_line(),
            None => self.transcript.place_of_drawn(),
        };
        let line = Some(line);
        if line == self.answered {
            return;
        }
        let prompt = self.redacted(&prompt);
        let reason = match &self.expectations.passphrase {
            None => Reason::AsksForPassphrase(prompt),
            Some(_) if self.attempts == MOST_ATTEMPTS => Reason::WrongPassphrase(prompt),
            Some(passphrase) => {
                self.attempts += 1;
                self.answered = line;
                typed.extend_from_slice(passphrase.as_bytes());
                typed.push(b'\r');
                return;
            }
        };
        self.trouble = Some((Judgement::Failed(reason), now));
    }

    fn sign(&mut self, sign: Option<Sign>, now: Instant) {
        let judgement = match sign {
            Some(Sign::Stuck(trouble, text)) => {
                Judgement::Failed(Reason::Trouble(trouble, self.redacted(&text)))
            }
            Some(Sign::NeedsProcessor(level)) => Judgement::NeedsProcessor(level),
            Some(Sign::LateTimer(text)) => Judgement::Again(self.redacted(&text)),
            Some(Sign::AsksForPassphrase(_)) | None => return,
        };
        self.trouble = Some((judgement, now));
    }

    fn judge(&self, now: Instant) -> Option<Judgement> {
        if let Some((judgement, since)) = &self.trouble {
            return (now.duration_since(*since) >= LAST_WORDS).then(|| judgement.clone());
        }
        let failed = |reason| Some(Judgement::Failed(reason));
        let over =
            |time: Option<Duration>, since| time.filter(|time| now.duration_since(since) >= *time);
        if let Some(time) = over(self.expectations.timeout, self.began) {
            return failed(self.not_seen(time));
        }
        if let Some(Step::Expect { patience, line, .. }) = self.expectations.steps.get(self.step)
            && *line > 0
            && let Some(time) = over(*patience, self.since)
        {
            return failed(self.not_seen(time));
        }
        let last = self.last_byte.unwrap_or(self.started);
        let time = over(self.expectations.idle, last)?;
        failed(match self.last_byte {
            None => Reason::Silent(time),
            Some(_) => Reason::Hung(time),
        })
    }

    /// What was not seen in time.
    fn not_seen(&self, time: Duration) -> Reason {
        let steps = self.expectations.steps.get(self.step..).unwrap_or_default();
        let next = steps.iter().find_map(|step| match step {
            Step::Expect { pattern, line, .. } => Some((pattern, *line)),
            _ => None,
        });
        let (pattern, line) = next.map_or((String::new(), 0), |(pattern, line)| {
            (Regex::as_str(pattern).to_owned(), line)
        });
        if self.last_byte.is_none() {
            return Reason::Silent(time);
        }
        Reason::NotSeen {
            pattern,
            line,
            time,
        }
    }

    /// Returns a text without its secrets.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let secrets = self.expectations.secrets.iter();
        let secrets = secrets.chain(&self.expectations.passphrase);
        secrets
            .filter(|secret| secret.len() > 2)
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret.as_str(), "***")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectations(expect: &str, script: &str) -> Expectations {
        let mut steps = vec![Step::Expect {
            pattern: pattern(expect).unwrap(),
            patience: None,
            line: 0,
        }];
        steps.extend(parse(script, |_| None).unwrap().steps);
        Expectations {
            steps,
            timeout: Some(Duration::from_secs(600)),
            idle: Some(Duration::from_secs(60)),
            passphrase: None,
            secrets: Vec::new(),
        }
    }

    struct Guest {
        watch: Watch,
        start: Instant,
    }

    impl Guest {
        fn new(expectations: Expectations) -> Guest {
            let start = Instant::now();
            Guest {
                watch: Watch::new(expectations, start, start),
                start,
            }
        }

        fn says(&mut self, text: &str, seconds: u64) {
            let now = self.start + Duration::from_secs(seconds);
            self.watch.take(text.as_bytes(), now);
        }

        fn at(&mut self, seconds: u64) -> (String, Option<Judgement>) {
            let (typed, judgement) = self.watch.look(self.start + Duration::from_secs(seconds));
            (String::from_utf8(typed).unwrap(), judgement)
        }
    }

    #[test]
    fn a_login_prompt_is_seen_in_any_form() {
        for text in [
            "\r\nDebian 13 host ttyS0\r\n\r\nhost login: ",
            "\nlogin: ",
            "\r\n(none) login: ",
        ] {
            let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
            guest.says("[    0.1] Linux\r\n", 1);
            assert_eq!(guest.at(1).1, None);
            guest.says(text, 2);
            assert_eq!(guest.at(2).1, Some(Judgement::Passed), "{text:?}");
        }
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
        guest.says("[  OK  ] Started getty: login: none\r\n", 1);
        assert_eq!(guest.at(2).1, None);
    }

    #[test]
    fn a_script_is_typed_step_by_step() {
        let script = "send root\nexpect ^# $\nsend id\nexpect uid=(\\d+)\n";
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, script));
        guest.says("host login: ", 1);
        assert_eq!(
            guest.at(1),
            (String::new(), None),
            "getty does not read yet"
        );
        assert_eq!(guest.at(2).0, "root\r");
        guest.says("root\r\n# ", 3);
        guest.at(3);
        assert_eq!(guest.at(4).0, "id\r");
        guest.says("id\r\nuid=0(root)\r\n", 5);
        assert_eq!(guest.at(5).1, Some(Judgement::Passed));
    }

    #[test]
    fn an_answer_that_does_not_come_is_told_with_its_line() {
        let mut guest = Guest::new(expectations("up", "send x\ntimeout 10\nexpect never\n"));
        guest.says("up", 1);
        guest.at(1);
        guest.at(2);
        guest.says("x\r\nnothing\r\n", 3);
        assert_eq!(guest.at(11).1, None);
        let Some(Judgement::Failed(Reason::NotSeen { pattern, line, .. })) = guest.at(13).1 else {
            panic!("it is not seen");
        };
        assert_eq!((pattern.as_str(), line), ("never", 3));
    }

    #[test]
    fn a_panic_is_told_after_its_last_words() {
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
        guest.says("[ 1.0] Kernel panic - not syncing: no init\r\n", 1);
        assert_eq!(guest.at(1).1, None);
        guest.says("[ 1.0] CPU: 0\r\n", 2);
        let Some(Judgement::Failed(Reason::Trouble(trouble, text))) = guest.at(5).1 else {
            panic!("it panicked");
        };
        assert_eq!(trouble, Trouble::Panic);
        assert!(text.contains("no init"), "{text}");
        assert!(guest.watch.last_lines().last().unwrap().contains("CPU: 0"));
    }

    #[test]
    fn what_is_expected_is_no_trouble() {
        let mut guest = Guest::new(expectations("You are in emergency mode", ""));
        guest.says("You are in emergency mode\r\n", 1);
        assert_eq!(guest.at(2).1, Some(Judgement::Passed));
    }

    /// `wait 30s` at the end of a script holds that the guest is still there then.
    #[test]
    fn a_guest_that_is_gone_has_not_outlasted_a_wait() {
        let mut guest = Guest::new(expectations("up", "wait 30s\n"));
        guest.says("up", 1);
        assert_eq!(guest.at(2).1, None);
        assert_eq!(guest.watch.ended(), None);
        let mut guest = Guest::new(expectations("up", "send x\n"));
        guest.says("up", 1);
        guest.at(1);
        assert_eq!(guest.watch.ended(), None, "nothing was typed");
        let mut guest = Guest::new(expectations("up", "expect and running\n"));
        guest.says("up and running", 1);
        assert_eq!(guest.watch.ended(), Some(Judgement::Passed));
        let mut guest = Guest::new(expectations("up", ""));
        guest.says("Kernel panic - not syncing: x", 1);
        let ended = guest.watch.ended();
        assert!(
            matches!(
                &ended,
                Some(Judgement::Failed(Reason::Trouble(Trouble::Panic, _)))
            ),
            "{ended:?}"
        );
    }

    #[test]
    fn the_time_for_all_counts_from_the_first_machine() {
        let began = Instant::now();
        let started = began + Duration::from_secs(590);
        let mut watch = Watch::new(expectations("up", ""), began, started);
        assert_eq!(watch.look(started + Duration::from_secs(5)).1, None);
        let judgement = watch.look(started + Duration::from_secs(10)).1;
        assert!(
            matches!(&judgement, Some(Judgement::Failed(Reason::Silent(_)))),
            "{judgement:?}"
        );
    }

    #[test]
    fn silence_and_hanging_differ() {
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
        assert_eq!(guest.at(59).1, None);
        let silent = Reason::Silent(Duration::from_secs(60));
        assert_eq!(guest.at(60).1, Some(Judgement::Failed(silent)));
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
        guest.says("Booting from Hard Disk...", 10);
        let hung = Reason::Hung(Duration::from_secs(60));
        assert_eq!(guest.at(70).1, Some(Judgement::Failed(hung)));
    }

    #[test]
    fn a_pass_phrase_is_typed_and_never_shown() {
        let prompt = "Please enter passphrase for disk x (luks): ";
        let mut guest = Guest::new(expectations(LOGIN_PROMPT, ""));
        guest.says(prompt, 1);
        assert_eq!(guest.at(1), (String::new(), None));
        guest.at(3);
        let asked = guest.at(7).1;
        assert!(
            matches!(
                &asked,
                Some(Judgement::Failed(Reason::AsksForPassphrase(_)))
            ),
            "{asked:?}"
        );
        let mut with = expectations(LOGIN_PROMPT, "");
        with.passphrase = Some(String::from("s3cret"));
        let mut guest = Guest::new(with);
        guest.says(prompt, 1);
        assert_eq!(guest.at(3).0, "s3cret\r");
        assert_eq!(guest.at(4).0, "", "it was answered");
        guest.says("****", 4);
        assert_eq!(guest.at(6).0, "", "that is its echo");
        guest.says("s3cret\r\n", 6);
        assert!(
            guest
                .watch
                .last_lines()
                .iter()
                .all(|line| !line.contains("s3cret"))
        );
        for second in [7, 12] {
            guest.says(prompt, second);
            assert_eq!(guest.at(second + 2).0, "s3cret\r");
            guest.says("\r\n", second + 3);
        }
        let echoed = "Please enter passphrase for disk x (luks): s3cret";
        guest.says(echoed, 20);
        guest.at(22);
        let wrong = guest.at(26).1;
        let Some(Judgement::Failed(Reason::WrongPassphrase(text))) = wrong else {
            panic!("{wrong:?}");
        };
        assert!(!text.contains("s3cret"), "{text}");
    }

    /// GRUB places the cursor where it already is, in the middle of its prompt: nothing was typed.
    #[test]
    fn a_prompt_with_a_placed_cursor_is_answered_once() {
        let mut with = expectations(LOGIN_PROMPT, "");
        with.passphrase = Some(String::from("s3cret"));
        let mut guest = Guest::new(with);
        guest.says(
            "Welcome to GRUB!\r\n\r\nEnter passphrase for hd0,msdos1 (375\x1b[06;36H\x1b[06;37H9732e): ",
            1,
        );
        assert_eq!(guest.at(3).0, "s3cret\r");
        assert_eq!(guest.at(6).0, "");
        guest.says("\x1b[06;60H", 6);
        assert_eq!(guest.at(9).0, "", "it has been answered");
        guest.says("\r\nSlot 0 opened\r\nhost login: ", 9);
        assert_eq!(guest.at(10).1, Some(Judgement::Passed));
    }
}
