//! What the smoke guest has found of this host's KVM, kept in the user's cache.
//!
//! Only that KVM works is kept, and only for what may change it: a boot of the host, its kernel and
//! microcode, the parameters of KVM's modules, and this program. A file that is not exactly that, or that
//! another user could have written, counts for nothing, and the guest runs. So does a machine that ends
//! with a fault: its next one is not started on old knowledge.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxbuild_host::digest;
use boxbuild_host::untrusted::{Dir, Replacement};
use boxbuild_vmm::smoke::{self, Unusable};
use etcetera::BaseStrategy;

/// Longest verdict, in bytes.
const LONGEST: u64 = 64 << 10;
/// Bytes of a parameter's value that count, and of what is known of the first processor.
const VALUE: u64 = 256;
const PROCESSOR: usize = 8 << 10;
/// Verdicts that are kept: of hosts that share a home folder.
const MOST: usize = 32;

const DEVICE: &str = "/dev/kvm";

/// Whether KVM can run a kernel: from what is known, or by the smoke guest.
///
/// # Errors
/// See [`smoke::run`].
pub(crate) fn usable() -> Result<(), Unusable> {
    decide(folder().as_deref(), facts().as_deref(), opens, smoke::run)
}

/// The same, by the smoke guest in any case.
///
/// # Errors
/// See [`smoke::run`].
pub(super) fn examined() -> Result<(), Unusable> {
    decide(
        folder().as_deref(),
        facts().as_deref(),
        || false,
        smoke::run,
    )
}

/// Forgets that it can.
pub(super) fn forget() {
    if let (Some(folder), Some(facts)) = (folder(), facts()) {
        remove(&folder, &facts);
    }
}

fn decide<E>(
    folder: Option<&Path>,
    facts: Option<&str>,
    opens: impl FnOnce() -> bool,
    run: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let place = folder.zip(facts);
    if opens() && place.is_some_and(|(folder, facts)| is_kept(folder, facts)) {
        return Ok(());
    }
    let verdict = run();
    if let Some((folder, facts)) = place {
        match verdict {
            // A cache that cannot be written to is no reason to fail.
            Ok(()) => drop(keep(folder, facts)),
            Err(_) => remove(folder, facts),
        }
    }
    verdict
}

/// The permission may have been taken away since.
fn opens() -> bool {
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(libc::O_CLOEXEC).open(DEVICE).is_ok()
}

fn folder() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.cache_dir().join("boxbuild/kvm"))
}

/// All that the verdict depends on, as text. `None` if something of it cannot be told.
fn facts() -> Option<String> {
    let kernel = nix::sys::utsname::uname().ok()?;
    let mut facts = format!(
        "boxbuild: KVM runs a kernel\nkernel {} {}\nboot {}\n",
        kernel.release().to_string_lossy(),
        kernel.version().to_string_lossy(),
        value(Path::new("/proc/sys/kernel/random/boot_id"))?,
    );
    for path in ["/proc/self/exe", DEVICE] {
        let of = fs::metadata(path).ok()?;
        let (dev, inode, device) = (of.dev(), of.ino(), of.rdev());
        let (len, changed) = (of.len(), (of.ctime(), of.ctime_nsec()));
        facts += &match path {
            // Its times change with each start of udev.
            DEVICE => format!("{path} {device}\n"),
            _ => format!("{path} {dev} {inode} {len} {changed:?}\n"),
        };
    }
    facts += &processor()?;
    for module in ["kvm", "kvm_intel", "kvm_amd"] {
        facts += &parameters(module);
    }
    Some(facts)
}

/// What the first processor is, its microcode among it, without what changes from moment to moment
/// (proc_cpuinfo(5)).
fn processor() -> Option<String> {
    let mut bytes = vec![0; PROCESSOR];
    let mut file = File::options().read(true).open("/proc/cpuinfo").ok()?;
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]).ok()? {
            0 => break,
            count => len += count,
        }
    }
    let text = String::from_utf8_lossy(&bytes[..len]);
    let first = text.split("\n\n").next()?;
    let lines = first.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default().trim();
        !matches!(name, "cpu MHz" | "bogomips" | "BogoMIPS")
    });
    Some(lines.map(|line| format!("{line}\n")).collect())
}

/// The build and the parameters of a module of the kernel (sysfs, `/sys/module`).
fn parameters(module: &str) -> String {
    let folder = Path::new("/sys/module").join(module);
    let names = fs::read_dir(folder.join("parameters"))
        .into_iter()
        .flatten();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.map(|name| format!("parameters/{name}")).collect();
    names.push(String::from("srcversion"));
    names.sort();
    let lines = names.iter().map(|name| {
        let value = value(&folder.join(name)).unwrap_or_default();
        format!("{module} {name} {value}\n")
    });
    lines.collect()
}

/// The first line of a file of the kernel.
fn value(path: &Path) -> Option<String> {
    let file = File::options().read(true).open(path).ok()?;
    let mut text = String::new();
    file.take(VALUE).read_to_string(&mut text).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

fn name(facts: &str) -> io::Result<String> {
    digest::sha256(&mut facts.as_bytes()).map(|(_, hash)| hash)
}

/// Whether a file or folder is the user's, and only the user's to change.
fn is_private(file: &File) -> bool {
    const OTHERS: u32 = 0o022;
    let own = nix::unistd::geteuid().as_raw();
    file.metadata()
        .is_ok_and(|found| found.uid() == own && found.mode() & OTHERS == 0)
}

fn is_kept(folder: &Path, facts: &str) -> bool {
    read(folder, facts).is_ok_and(|kept| kept.as_deref() == Some(facts.as_bytes()))
}

/// What is kept, if it is in a private file of a private folder.
fn read(folder: &Path, facts: &str) -> io::Result<Option<Vec<u8>>> {
    let dir = Dir::open(folder)?;
    let file = dir.file(OsStr::new(&name(facts)?))?;
    let dir = File::from(std::os::fd::OwnedFd::from(dir));
    if !is_private(&dir) || !is_private(&file) {
        return Ok(None);
    }
    let mut kept = Vec::new();
    file.take(LONGEST).read_to_end(&mut kept)?;
    Ok(Some(kept))
}

fn keep(folder: &Path, facts: &str) -> io::Result<()> {
    if is_kept(folder, facts) {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let dir = Dir::open(folder)?;
    let names = dir.names()?.filter_map(Result::ok);
    let names: Vec<_> = names.take(10 * MOST).collect();
    if names.len() >= MOST {
        for name in &names {
            // Another build may have been faster.
            let _ = dir.remove(name);
        }
    }
    Replacement::write(&dir, OsStr::new(&name(facts)?), facts.as_bytes(), 0o600)
}

fn remove(folder: &Path, facts: &str) {
    let removed = name(facts).and_then(|name| Dir::open(folder)?.remove(OsStr::new(&name)));
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        log::debug!("what is known of KVM cannot be removed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const FACTS: &str = "kernel 1\nmicrocode 2\n";

    /// The verdict, and whether the guest ran for it.
    fn ask(folder: &Path, facts: &str, opens: bool, works: bool) -> (bool, bool) {
        let ran = Cell::new(false);
        let run = || {
            ran.set(true);
            if works { Ok(()) } else { Err(()) }
        };
        let verdict = decide(Some(folder), Some(facts), || opens, run);
        (verdict.is_ok(), ran.get())
    }

    fn kept(folder: &Path) -> PathBuf {
        folder.join(name(FACTS).unwrap())
    }

    #[test]
    fn the_smoke_guest_runs_once_for_the_same_facts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("boxbuild/kvm");
        assert_eq!(ask(&folder, FACTS, true, true), (true, true));
        assert_eq!(ask(&folder, FACTS, true, false), (true, false));
        // Another kernel, microcode or parameter; no permission any more.
        assert_eq!(ask(&folder, "kernel 2\n", true, false), (false, true));
        assert_eq!(ask(&folder, FACTS, false, true), (true, true));
        // That it fails is not kept, and what was is not true any more.
        assert_eq!(ask(&folder, FACTS, false, false), (false, true));
        assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        assert_eq!(ask(&folder, FACTS, true, true), (true, true));
        remove(&folder, FACTS);
        assert_eq!(ask(&folder, FACTS, true, true), (true, true));
    }

    #[test]
    fn wrong_content_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kvm");
        let long = "x".repeat(3 << 20);
        for content in ["", "kernel 1\n", "kernel 1\nmicrocode 2\n\n", long.as_str()] {
            ask(&folder, FACTS, true, true);
            fs::write(kept(&folder), content).unwrap();
            assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        }
    }

    #[test]
    fn what_another_user_could_have_written_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kvm");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for loose in [0o620, 0o602, 0o666] {
            ask(&folder, FACTS, true, true);
            mode(&kept(&folder), loose);
            assert_eq!(ask(&folder, FACTS, true, false), (false, true), "{loose:o}");
        }
        ask(&folder, FACTS, true, true);
        mode(&folder, 0o777);
        assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        mode(&folder, 0o700);
        // A link, a pipe, a folder in its place.
        let other = dir.path().join("other");
        fs::write(&other, FACTS).unwrap();
        symlink(&other, kept(&folder)).unwrap();
        assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        nix::unistd::mkfifo(&kept(&folder), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        fs::create_dir(kept(&folder)).unwrap();
        assert_eq!(ask(&folder, FACTS, true, true), (true, true));
        fs::remove_dir(kept(&folder)).unwrap();
        if nix::unistd::geteuid().is_root() {
            ask(&folder, FACTS, true, true);
            std::os::unix::fs::chown(kept(&folder), Some(1), None).unwrap();
            assert_eq!(ask(&folder, FACTS, true, false), (false, true));
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), FACTS);
    }

    #[test]
    fn the_cache_does_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3 * MOST {
            ask(dir.path(), &format!("kernel {number}\n"), true, true);
            assert!(fs::read_dir(dir.path()).unwrap().count() <= MOST);
        }
    }

    /// The facts name what the verdict depends on, and are the same when nothing has changed.
    #[test]
    fn facts_stay_the_same_and_name_the_kernel() {
        let release = nix::sys::utsname::uname().unwrap();
        let release = release.release().to_str().unwrap().to_owned();
        let Some(facts) = facts() else {
            assert!(!Path::new(DEVICE).exists());
            return;
        };
        assert!(facts.contains(&release), "{facts}");
        assert!((facts.len() as u64) < LONGEST, "{facts}");
        assert_eq!(super::facts(), Some(facts));
    }
}
