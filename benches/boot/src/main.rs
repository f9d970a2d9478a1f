//! Runs a machine monitor and measures when its guest did what. Meant for the lab's counting mode,
//! where a nanosecond is an instruction (docs/benchmarks.md, "Boot, counted").
//!
//!     boot-probe LABEL [--exits | --syscalls | --together N] -- COMMAND...
//!
//! Times: milliseconds from before the monitor is started to its first entry into the guest,
//! to the guest's first line ("INIT", with the guest's own uptime), to the monitor's end. With
//! `--exits` it counts VM exits instead, all and those that reach user space: counting costs
//! instructions itself. With `--syscalls` it counts the system calls before the first entry, and
//! names those that took longest. Memory: what the monitor has beyond the guest's RAM when the guest says
//! "IDLE", and what of it is private and dirty. With `--together` it runs so many at once.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

mod together;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};

/// Where the kernel's trace events are.
const TRACING: &str = "/sys/kernel/tracing";
/// A mapping of at least this size is the guest's RAM: no other is as large.
const GUEST_KIB: u64 = 128 << 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let label = arguments.next().context("no label")?;
    let mut measure: fn(&str, &mut Command) -> Result<()> = time;
    let mut count = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--together" => {
                let number = arguments.next().context("no number")?;
                count = Some(number.parse().context("--together")?);
            }
            "--exits" => measure = count_exits,
            "--syscalls" => measure = count_syscalls,
            "--" => break,
            other => bail!("unknown option {other}"),
        }
    }
    let program = arguments.next().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    match count {
        Some(count) => together::run(&label, &mut command, count),
        None => measure(&label, &mut command),
    }
}

/// CLOCK_MONOTONIC in milliseconds, as the trace clock `mono` has it.
fn now() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6)
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = format!("{TRACING}/{file}");
    fs::write(&path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}

/// What a run showed.
#[derive(Debug, Default)]
struct Seen {
    start: f64,
    init: Option<f64>,
    uptime: String,
    memory: Option<Memory>,
    end: f64,
}

/// Runs the monitor to its end.
fn observe(command: &mut Command) -> Result<Seen> {
    let mut seen = Seen {
        start: now()?,
        ..Seen::default()
    };
    let mut monitor = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = monitor.stdout.take().context("no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some((_, uptime)) = line.split_once("INIT ") {
            seen.init = Some(now()?);
            seen.uptime = uptime.trim().to_owned();
        } else if line.contains("IDLE") {
            seen.memory = Some(Memory::of(monitor.id())?);
        }
    }
    monitor.wait()?;
    seen.end = now()?;
    Ok(seen)
}

fn time(label: &str, command: &mut Command) -> Result<()> {
    write("trace_clock", "mono")?;
    write("trace", "")?;
    // The first entry only: the others would be measured too. A trigger on the event itself
    // would act before it is recorded, so the first exit ends it.
    let (event, trigger) = ("events/kvm/kvm_entry/enable", "events/kvm/kvm_exit/trigger");
    write(event, "1")?;
    write(trigger, "disable_event:kvm:kvm_entry:1")?;
    let seen = observe(command)?;
    write(event, "0")?;
    write(trigger, "!disable_event:kvm:kvm_entry:1")?;
    let entry = first_entry()?;
    let since = |time: Option<f64>| time.map_or(-1.0, |time| time - seen.start);
    println!(
        "{label}: entry {:.1} init {:.1} guest-uptime {} exit {:.1}",
        since(entry),
        since(seen.init),
        seen.uptime,
        seen.end - seen.start
    );
    if let Some(memory) = seen.memory {
        println!(
            "{label}: memory beyond the guest: rss {} KiB, private dirty {} KiB; guest {} KiB",
            memory.rss, memory.private_dirty, memory.guest
        );
    }
    if seen.init.is_none() {
        bail!("{label}: the guest printed nothing");
    }
    Ok(())
}

/// The time of the first event in the trace: `task-pid [cpu] flags seconds.micros: kvm_entry`.
fn first_entry() -> Result<Option<f64>> {
    let trace = fs::read_to_string(format!("{TRACING}/trace"))?;
    let line = trace.lines().find(|line| line.contains(": kvm_entry:"));
    let Some((before, _)) = line.and_then(|line| line.split_once(": kvm_entry:")) else {
        return Ok(None);
    };
    let seconds: f64 = before
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("no time in {before:?}"))?;
    Ok(Some(seconds * 1e3))
}

fn count_exits(label: &str, command: &mut Command) -> Result<()> {
    for (event, key) in EVENTS {
        write(
            &format!("events/kvm/{event}/trigger"),
            &format!("hist:keys={key}"),
        )?;
    }
    observe(command)?;
    for (event, key) in EVENTS {
        let hist = fs::read_to_string(format!("{TRACING}/events/kvm/{event}/hist"))?;
        let counts = parse_hist(&hist);
        let total: u64 = counts.values().sum();
        let mut most: Vec<_> = counts.into_iter().collect();
        most.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        most.truncate(12);
        let most: Vec<String> = most
            .iter()
            .map(|(key, count)| format!("{key} x {count}"))
            .collect();
        println!("{label}: {event} {total}: {}", most.join(", "));
        write(
            &format!("events/kvm/{event}/trigger"),
            &format!("!hist:keys={key}"),
        )?;
    }
    Ok(())
}

/// What is counted, by what.
const EVENTS: [(&str, &str); 4] = [
    ("kvm_exit", "exit_reason"),
    ("kvm_userspace_exit", "reason"),
    ("kvm_pio", "port.hex"),
    ("kvm_mmio", "gpa.hex"),
];

fn count_syscalls(label: &str, command: &mut Command) -> Result<()> {
    let us = std::process::id();
    write("trace_clock", "mono")?;
    write("trace", "")?;
    write("options/event-fork", "1")?;
    write("set_event_pid", &us.to_string())?;
    let end = ("events/kvm/kvm_exit/trigger", "traceoff:1");
    let events = ["raw_syscalls", "kvm/kvm_entry", "sched/sched_process_exec"];
    write(end.0, end.1)?;
    for event in events {
        write(&format!("events/{event}/enable"), "1")?;
    }
    observe(command)?;
    let trace = fs::read_to_string(format!("{TRACING}/trace"))?;
    for event in events {
        write(&format!("events/{event}/enable"), "0")?;
    }
    write(end.0, "!traceoff")?;
    write("set_event_pid", "")?;
    write("tracing_on", "1")?;
    print_syscalls(label, us, &trace);
    Ok(())
}

/// Pairs `sys_enter: NR N (…)` with `sys_exit: NR N = …` of each thread, from the monitor's exec
/// to its first entry into the guest.
fn print_syscalls(label: &str, us: u32, trace: &str) {
    let mut started = BTreeMap::new();
    let mut calls = Vec::new();
    let (mut begin, mut count) = (None, 0);
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, event)) = line.split_once(": ") else {
            continue;
        };
        let time = head.rsplit(' ').next().and_then(|t| t.parse::<f64>().ok());
        let thread = head.split('[').next().unwrap_or_default().trim();
        let (Some(time), false) = (time, thread.ends_with(&format!("-{us}"))) else {
            continue;
        };
        if event.starts_with("sched_process_exec") {
            begin = Some(time);
        } else if event.starts_with("kvm_entry") {
            calls.push((time - begin.unwrap_or(time), time, String::from("all")));
            break;
        } else if let (Some(call), Some(_)) = (event.strip_prefix("sys_enter: "), begin) {
            count += 1;
            started.insert(thread.to_owned(), (time, call.to_owned()));
        } else if event.starts_with("sys_exit: ")
            && let Some((start, call)) = started.remove(thread)
        {
            calls.push((time - start, start, call));
        }
    }
    println!("{label}: {count} system calls from exec to the first entry");
    calls.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (took, start, call) in calls.iter().take(25) {
        let after = start - begin.unwrap_or(*start);
        println!("   {:.3} ms at {:.3}: {call}", took * 1e3, after * 1e3);
    }
}

/// Lines like `{ exit_reason: 114 } hitcount: 805`.
fn parse_hist(hist: &str) -> BTreeMap<String, u64> {
    hist.lines()
        .filter_map(|line| {
            let (key, count) = line.strip_prefix('{')?.split_once("} hitcount:")?;
            let key = key.split_once(':').map_or(key, |(_, value)| value);
            Some((key.trim().to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

/// KiB of a process, from /proc/PID/smaps.
#[derive(Debug, Default)]
struct Memory {
    rss: u64,
    private_dirty: u64,
    guest: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Memory> {
        let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let mut memory = Memory::default();
        let (mut is_guest, mut size) = (false, 0);
        for line in smaps.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let kib = || {
                let number = value.split_whitespace().next().unwrap_or_default();
                number.parse::<u64>().unwrap_or(0)
            };
            match name {
                "Size" => {
                    size = kib();
                    is_guest = size >= GUEST_KIB;
                }
                "Rss" if is_guest => memory.guest += kib(),
                "Rss" => memory.rss += kib(),
                "Private_Dirty" if !is_guest => {
                    memory.private_dirty += kib();
                    if kib() > 256 {
                        eprintln!("   a mapping of {size} KiB has {} KiB dirty", kib());
                    }
                }
                _ => {}
            }
        }
        Ok(memory)
    }
}
