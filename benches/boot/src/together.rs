//! Several machines at once: `--together N`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::{Memory, now};

/// Machines of one run. They are killed when this is dropped.
struct Machines(Vec<Child>);

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in &mut self.0 {
            // One that has ended is waited for, too.
            let _ = machine.kill();
            let _ = machine.wait();
        }
    }
}

/// What a machine's output says.
enum Said {
    Init(f64),
    Idle,
    Ended,
}

/// Starts `count` machines by `command`, whose guests print INIT and IDLE and stay. Prints when the last one
/// had its first line, and what all have of memory beside their guests' and in the page cache then.
pub(crate) fn run(label: &str, command: &mut Command, count: usize) -> Result<()> {
    let cached = page_cache()?;
    let start = now()?;
    let (sender, said) = channel();
    let mut machines = Machines(Vec::new());
    for _ in 0..count {
        let mut machine = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = machine.stdout.take().context("no output")?;
        machines.0.push(machine);
        let sender = sender.clone();
        thread::spawn(move || listen(output, &sender));
    }
    let (mut idle, mut last) = (0, start);
    while idle < count {
        match said.recv()? {
            Said::Init(time) => last = last.max(time),
            Said::Idle => idle += 1,
            Said::Ended => anyhow::bail!("{label}: a machine ended too early"),
        }
    }
    ensure!(last > start, "{label}: no guest printed its first line");
    let mut memory = Memory::default();
    for machine in &machines.0 {
        let own = Memory::of(machine.id())?;
        memory.private_dirty += own.private_dirty;
        memory.guest += own.guest;
    }
    println!(
        "{label}: {count} at once: init {:.1}; memory beyond the guests: private dirty {} KiB; guests {} KiB; \
         page cache grew by {} KiB",
        last - start,
        memory.private_dirty,
        memory.guest,
        page_cache()?.saturating_sub(cached),
    );
    Ok(())
}

fn listen(output: ChildStdout, sender: &Sender<Said>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // The other end is gone once all is known.
        if line.contains("INIT ") {
            let _ = sender.send(Said::Init(now().unwrap_or(f64::MAX)));
        } else if line.contains("IDLE") {
            let _ = sender.send(Said::Idle);
        }
    }
    let _ = sender.send(Said::Ended);
}

/// KiB of the page cache (proc_meminfo(5)).
fn page_cache() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cached:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .context("no Cached in /proc/meminfo")?
        .parse()
        .context("Cached")
}
