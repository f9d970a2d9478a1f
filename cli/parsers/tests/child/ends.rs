//! Children that do not do their work: what becomes of them, and what is said.

use std::error::Error;
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use boxbuild_jail::seccomp::proof;
use boxbuild_jail::{Confinement, Entered, Limits, Program};
use boxbuild_parsers::{CALLS, ParseError, Parser, ROLE, confine};

use crate::{Test, file, parser};

pub(crate) const TESTS: &[Test] = crate::tests![
    a_child_that_panics_is_an_error,
    a_child_without_memory_is_an_error,
    a_child_that_never_ends_is_killed,
    a_child_that_the_host_kills_may_succeed_later,
    a_child_that_opens_a_file_is_stopped,
    a_child_that_connects_is_stopped,
    a_child_that_writes_to_what_it_reads_is_stopped,
    an_answer_that_cannot_be_read_is_an_error,
    what_a_child_says_is_fit_for_a_terminal,
    the_user_can_interrupt_it,
    each_rule_lets_through_what_it_says_and_no_more,
];

/// Beginning of a word that makes a child misbehave.
const WORD: &str = "misbehave=";

pub(crate) fn misbehave_or_work(entered: Entered) -> Result<(), Box<dyn Error>> {
    let config: serde_json::Value = entered.config()?;
    let word = config["RootKind"]["cmdline"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match word.strip_prefix(WORD) {
        None => (ROLE.run)(entered),
        Some(how) => misbehave(entered, how),
    }
}

fn misbehave(mut entered: Entered, how: &str) -> Result<(), Box<dyn Error>> {
    if how == "killed" {
        // SAFETY: it has no arguments in memory.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    let file = entered.file()?;
    confine(Limits {
        memory: Some(1 << 30),
        processor: Some(Duration::from_secs(if how == "loop" { 1 } else { 60 })),
        ..Limits::default()
    })?;
    match how {
        "panic" => panic!("out of order\x1b[31m"),
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        "loop" => loop {
            std::hint::spin_loop();
        },
        "sleep" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "open" => {
            let _ = std::fs::File::open("/etc/passwd");
        }
        "connect" => {
            let _ = std::net::TcpStream::connect("127.0.0.1:1");
        }
        "write" => {
            let _ = file.set_len(0);
        }
        "answer" => entered.channel().send(b"\xff\x1b[31m", &[])?,
        "text" => entered
            .channel()
            .send(b"{\"Failed\": \"\\u001b[31mred\\u0007\\nline\"}", &[])?,
        _ => return Err("what?".into()),
    }
    // A child that was stopped does not get here.
    entered.channel().send(b"{\"Done\": null}", &[])?;
    Ok(())
}

fn ask(parser: &Parser, how: &str) -> Result<Option<String>, ParseError> {
    let word = format!("{WORD}{how}");
    parser.root_kind(&file(b"content"), &[word])
}

#[track_caller]
fn ends(how: &str, text: &str) {
    let start = Instant::now();
    let error = ask(&parser(), how).unwrap_err();
    assert!(error.to_string().contains(text), "{error}");
    assert!(!error.to_string().contains('\x1b'), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

fn a_child_that_panics_is_an_error() {
    ends("panic", "out of order");
}

fn a_child_without_memory_is_an_error() {
    ends("memory", "MiB of memory");
}

fn a_child_that_never_ends_is_killed() {
    ends("loop", "processor time");
}

fn a_child_that_the_host_kills_may_succeed_later() {
    let error = ask(&parser(), "killed").unwrap_err();
    assert!(error.to_string().contains("killed"), "{error}");
    assert!(!error.is_final(), "{error}");
}

fn a_child_that_opens_a_file_is_stopped() {
    ends("open", "system call it never needs");
}

fn a_child_that_connects_is_stopped() {
    ends("connect", "system call it never needs");
}

fn a_child_that_writes_to_what_it_reads_is_stopped() {
    ends("write", "system call it never needs");
}

fn an_answer_that_cannot_be_read_is_an_error() {
    ends("answer", "answer cannot be read");
}

fn what_a_child_says_is_fit_for_a_terminal() {
    ends("text", "red; line");
}

fn the_user_can_interrupt_it() {
    let interrupt = Interrupt::default();
    let parser = Parser::new(interrupt.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            interrupt.request();
        });
        let start = Instant::now();
        let error = ask(&parser, "sleep").unwrap_err();
        assert!(matches!(error, ParseError::Interrupted), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

fn each_rule_lets_through_what_it_says_and_no_more() {
    if !Confinement::of_host().seccomp {
        println!("skipped: each_rule_lets_through_what_it_says_and_no_more: no seccomp");
        return;
    }
    let failed: Vec<String> = CALLS
        .iter()
        .filter_map(|rule| proof::prove(&Program::this(), rule).err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
