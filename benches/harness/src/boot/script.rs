//! What the lab's shell runs.

use std::path::Path;

use super::rows::Row;

/// Ends a monitor whose guest prints nothing, or never ends: 10 s of the counted clock are several
/// times what any takes. The limit's end takes the monitor, too.
const LIMITED: &str = "limited() {
    timeout 10 \"$@\" && return
    for name in boot qemu-system-x86_64 firecracker cloud-hypervisor; do
        killall -9 $name
    done 2>/dev/null
    return 1
}
";

/// Machines at once.
pub const TOGETHER: [usize; 4] = [1, 2, 4, 8];

/// A warm-up of each row, then so many of it at once as [`TOGETHER`] says.
pub(super) fn together(rows: &[Row], probe: &Path) -> String {
    let probe = shell_words::quote(&probe.display().to_string()).into_owned();
    let mut script = String::new();
    for row in rows {
        let program = row.program.display().to_string();
        let words = [std::slice::from_ref(&program), row.arguments.as_slice()].concat();
        let monitor = shell_words::join(&words);
        let holding = ["rd.cpio", "off.cpio"]
            .iter()
            .fold(monitor, |monitor, ramdisk| {
                monitor.replace(ramdisk, "hold.cpio")
            });
        let name = row.name;
        script += &format!("{probe} {name} --together 1 -- {holding} >/dev/null\n");
        for count in TOGETHER {
            script += &format!("{probe} {name} --together {count} -- {holding}\n");
        }
    }
    script
}

/// A warm-up of each row, then its times, exits, system calls and memory. Nothing of a row whose
/// warm-up fails.
pub(super) fn of(rows: &[Row], probe: &Path, times_only: bool) -> String {
    let mut script = String::from(LIMITED);
    let probe = probe.display().to_string();
    for row in rows {
        let program = row.program.display().to_string();
        let words = [std::slice::from_ref(&program), row.arguments.as_slice()].concat();
        let monitor = shell_words::join(&words);
        let probe = shell_words::quote(&probe);
        let name = row.name;
        let mut line = |text: String| script = std::mem::take(&mut script) + &text + "\n";
        line(format!(
            "if limited {probe} {name} -- {monitor} >/dev/null 2>&1; then"
        ));
        line(format!("limited {probe} {name} -- {monitor}"));
        if !times_only {
            if row.counts_exits() {
                line(format!("{probe} {name} --exits -- {monitor}"));
            }
            line(format!("{probe} {name} --syscalls -- {monitor}"));
            if row.measures_memory() {
                let idle = monitor.replace("rd.cpio", "idle.cpio");
                line(format!("{probe} {name}-memory -- {idle} | grep memory"));
            }
        }
        line(format!(
            "else echo '{name}: no end, or no output of the guest' >&2; fi"
        ));
    }
    script
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_row_is_warmed_up_and_measured() {
        let row = Row {
            name: "elf",
            program: PathBuf::from("/boot"),
            arguments: vec![String::from("--cmdline"), String::from("a b")],
        };
        let rows = [row];
        let script = of(&rows, Path::new("/probe"), true);
        assert!(
            script.contains("limited /probe elf -- /boot --cmdline 'a b'\n"),
            "{script}"
        );
        assert!(!script.contains("--exits"));
        let script = of(&rows, Path::new("/probe"), false);
        assert!(script.contains("--exits") && script.contains("--syscalls"));
        let script = together(&rows, Path::new("/probe"));
        assert!(
            script.contains("/probe elf --together 8 -- /boot --cmdline"),
            "{script}"
        );
    }
}
