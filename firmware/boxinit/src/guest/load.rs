//! Kernel modules: giving the kernel what a device, a file system or the kernel itself asks for.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use boxinit::job;
use boxinit::modules::{Index, is_packed, name_in};
use boxinit::signature::without_signature;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

/// `MODULE_INIT_COMPRESSED_FILE` (linux/module.h): the kernel unpacks it, where it can.
const COMPRESSED: u32 = 4;

/// Where the kernel has the path of its helper.
const HELPER: &str = "/proc/sys/kernel/modprobe";

/// The modules of one tree: the ramdisk, or the root.
#[derive(Debug)]
pub(super) struct Loader {
    folder: Option<PathBuf>,
    index: Option<Index>,
    loaded: HashSet<String>,
}

impl Loader {
    /// For the running kernel's modules below `root`.
    pub(super) fn at(root: &str) -> Loader {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let folder = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|place| Path::new(root).join(place).join(release.trim_end()))
            .find(|folder| folder.join("modules.dep").is_file());
        Loader {
            folder,
            index: None,
            loaded: HashSet::new(),
        }
    }

    /// Loads all modules that `wanted` (a name or an alias) stands for. What is built in, there
    /// already or nowhere to be found is no error; whoever needs it finds out.
    pub(super) fn load(&mut self, wanted: &str) {
        let Some(folder) = &self.folder else {
            return;
        };
        let index = self.index.get_or_insert_with(|| read_index(folder));
        let mut files: Vec<String> = Vec::new();
        for module in index.modules(wanted) {
            for file in index.files(module) {
                if !self.loaded.contains(file) && !files.iter().any(|known| known == file) {
                    files.push(file.to_owned());
                }
            }
        }
        for file in files {
            if let Err(error) = insert(&folder.join(&file)) {
                // The kernel says more in its log.
                eprintln!("boxbuild: cannot load the module {file}: {error}");
            }
            self.loaded.insert(file);
        }
    }
}

fn read_index(folder: &Path) -> Index {
    let text = |name| {
        let bytes = fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Index {
        dependencies: text("modules.dep"),
        aliases: text("modules.alias"),
        soft: text("modules.softdep"),
    }
}

/// Whether this kernel takes modules without a signature. In FIPS mode it panics at one.
fn unsigned_will_do() -> bool {
    let says = |file, what: &[u8]| fs::read(file).is_ok_and(|text| text.trim_ascii() == what);
    says("/sys/module/module/parameters/sig_enforce", b"N")
        && !says("/proc/sys/crypto/fips_enabled", b"1")
}

/// Gives the kernel the module at `path` without its signature; false if that is not to be done
/// or did not work.
fn insert_unsigned(path: &Path) -> bool {
    let Ok(image) = fs::read(path) else {
        return false;
    };
    without_signature(&image)
        .is_some_and(|module| matches!(init_module(module, c""), Ok(()) | Err(Errno::EEXIST)))
}

/// Gives one file to the kernel. A packed one that it cannot unpack goes through the box's own
/// modprobe.
fn insert(path: &Path) -> Result<(), String> {
    if !is_packed(&path.to_string_lossy()) && unsigned_will_do() && insert_unsigned(path) {
        return Ok(());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let name = path.to_string_lossy();
    let flags = if is_packed(&name) { COMPRESSED } else { 0 };
    match finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(_) if is_packed(&name) => {
            let module = name_in(&name);
            let status = Command::new("modprobe").arg("-q").arg(module).status();
            match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("modprobe: {status}")),
                Err(error) => Err(format!("the kernel cannot unpack it; modprobe: {error}")),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

/// This program is the kernel's helper for modules as long as this lives: while there is no
/// other one in reach.
#[derive(Debug)]
pub(super) struct Helping {
    before: Option<Vec<u8>>,
}

impl Helping {
    /// From now on.
    pub(super) fn start() -> Helping {
        let before = fs::read(HELPER).ok();
        // Without it, the kernel gets by with what is loaded by name.
        let _ = fs::write(HELPER, format!("{}/init", job::PLACE));
        Helping { before }
    }
}

impl Drop for Helping {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(HELPER, before);
        }
    }
}

/// The kernel's helper: loads the module `name`.
pub(crate) fn modprobe(name: &str) -> ExitCode {
    if !Path::new(job::PLACE).is_dir() {
        return ExitCode::FAILURE;
    }
    Loader::at("/").load(name);
    ExitCode::SUCCESS
}
