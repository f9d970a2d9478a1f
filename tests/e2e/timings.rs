//! Where the time of a build goes, as `--timings` tells it.

use std::fs;

use boxbuild_tests::Sandbox;

crate::tests! {
    Engine:
        timings_have_all_parts_and_add_up;
    Program:
        timings_of_a_boot_by_the_boxs_init;
}

/// Kiwi's parts, with a known rest in one of them.
const SCRIPT: &str = "echo image >/result/image\nsleep 2\n\
    echo '[ INFO    ]: 00:00:00 | Creating system image' >>\"$log\"\nsleep 1\n\
    echo '[ INFO    ]: 00:00:00 | Bundle build results' >>\"$log\"\nsleep 1\n";

/// What a fast boot is made of, up to kiwi's first line.
const BOOT: [&str; 7] = [
    "host set-up",
    "power-on",
    "kernel",
    "root mount",
    "shares and network",
    "udev",
    "kiwi import",
];

/// What the set-up is made of; the last two are known of the kvm engine only.
const SET_UP: [&str; 8] = [
    "loader",
    "command line",
    "plan",
    "engine",
    "folders",
    "boot files, process",
    "confinement",
    "machine and kernel",
];

/// What comes after it.
const BUILD: [&str; 5] = ["prepare", "create", "bundle", "power off", "publish"];

/// The table of `--timings`, in milliseconds.
struct Table {
    parts: Vec<(String, u64)>,
    /// Parts of the set-up, in microseconds.
    set_up: Vec<(String, u64)>,
    /// Parts before kiwi's first line, and when that was.
    boot: usize,
    first_line: u64,
    total: u64,
}

impl Table {
    fn read(stderr: &str) -> Table {
        let mut table = Table {
            parts: Vec::new(),
            set_up: Vec::new(),
            boot: 0,
            first_line: 0,
            total: 0,
        };
        let lines = stderr.lines().skip_while(|line| *line != "timings").skip(1);
        for line in lines {
            // "    loader   1.234 ms"
            if let Some(part) = line.strip_prefix("    ") {
                let (name, time) = part.trim_end().rsplit_once("  ").unwrap();
                let (whole, rest) = time.strip_suffix(" ms").unwrap().split_once('.').unwrap();
                let micros: u64 = format!("{}{rest}", whole.trim()).parse().unwrap();
                table.set_up.push((name.trim().to_owned(), micros));
                continue;
            }
            let (name, time) = row(line).unwrap_or_else(|| panic!("{line:?} in {stderr}"));
            match name.as_str() {
                "-- kiwi's first line after" => {
                    (table.boot, table.first_line) = (table.parts.len(), time);
                }
                "total" => {
                    table.total = time;
                    return table;
                }
                _ => table.parts.push((name, time)),
            }
        }
        panic!("no total in {stderr}");
    }

    fn names(&self) -> Vec<&str> {
        self.parts.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Times are shown in steps of 1 ms, 10 ms or, from a minute on, 1 s.
    #[track_caller]
    fn assert_sum(&self, parts: &[(String, u64)], shown: u64) {
        let step = |time: u64| match time {
            0..1000 => 1,
            1000..60_000 => 10,
            _ => 1000,
        };
        let sum: u64 = parts.iter().map(|(_, time)| time).sum();
        let inexact: u64 = parts.iter().map(|(_, time)| step(*time)).sum();
        let most = inexact + step(shown);
        assert!(
            sum.abs_diff(shown) <= most,
            "{sum} is not {shown} (by {most} at most): {:?}",
            self.parts
        );
    }

    #[track_caller]
    fn assert_adds_up(&self) {
        self.assert_sum(&self.parts, self.total);
        self.assert_sum(&self.parts[..self.boot], self.first_line);
        // The set-up is the sum of its parts; it is shown in milliseconds, or in hundredths of a second.
        let sum: u64 = self.set_up.iter().map(|(_, micros)| micros).sum();
        let shown = self.part("host set-up");
        assert!((sum / 1000).abs_diff(shown) <= 10, "{sum} µs, {shown} ms");
    }

    fn part(&self, name: &str) -> u64 {
        let part = self.parts.iter().find(|(part, _)| part == name);
        part.map_or(0, |(_, time)| *time)
    }
}

/// A name and a time: "50 ms", "2.55 s" or "1 min 27 s", then perhaps a bar.
fn row(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line
        .split_whitespace()
        .filter(|word| !word.starts_with('#'))
        .collect();
    let number = |word: &&str| word.parse::<f64>().is_ok();
    let at = words.iter().position(number)?;
    let mut milliseconds = 0.0;
    for pair in words[at..].chunks(2) {
        let [value, unit] = pair else { return None };
        let factor = match *unit {
            "ms" => 1.0,
            "s" => 1e3,
            "min" => 60e3,
            "h" => 3600e3,
            _ => return None,
        };
        milliseconds += value.parse::<f64>().ok()? * factor;
    }
    Some((words[..at].join(" "), milliseconds.round() as u64))
}

fn timings_have_all_parts_and_add_up() {
    let sandbox = Sandbox::new(SCRIPT);
    let output = sandbox.build(&["--timings=html", "--boot", "fast"], &[]);
    output.expect(0, &["timings", "total", "timings.html"]);
    let table = Table::read(&output.stderr);
    assert_eq!(table.names(), [&BOOT[..], &BUILD].concat());
    assert_eq!(table.boot, BOOT.len());
    table.assert_adds_up();
    let set_up: Vec<&str> = table.set_up.iter().map(|(name, _)| name.as_str()).collect();
    let of_kvm = if boxbuild_tests::engine() == "kvm" {
        8
    } else {
        6
    };
    assert_eq!(set_up, SET_UP[..of_kvm]);
    // Clocks of host and guest may differ; a rest that is seen elsewhere is gone entirely.
    for (name, rest) in [("prepare", 2000), ("create", 1000), ("bundle", 1000)] {
        let time = table.part(name);
        assert!(time > rest / 2, "{name}: {time} ms\n{}", output.stderr);
    }
    // A kernel takes some time on any machine.
    assert!(table.part("kernel") > 0, "{}", output.stderr);
    let page = fs::read_to_string(sandbox.target().join("timings.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for name in table.names() {
        assert!(page.contains(name), "{name} is not in the page");
    }
    assert!(!page.contains("<script") && !page.contains("http://"));
    sandbox.assert_nothing_left();
}

fn timings_of_a_boot_by_the_boxs_init() {
    let sandbox = Sandbox::new(SCRIPT);
    let output = sandbox.build(&["--timings", "--boot", "compat"], &[]);
    output.expect(0, &["timings", "total"]);
    let table = Table::read(&output.stderr);
    assert_eq!(table.names()[..2], ["host set-up", "boot"]);
    assert_eq!(table.boot, 2);
    table.assert_adds_up();
    assert!(!sandbox.target().join("timings.html").exists());
}
