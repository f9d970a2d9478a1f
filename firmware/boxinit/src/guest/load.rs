//! Loads kernel modules: for devices, for file systems, and on request of the kernel.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use boxbuild_protocol::paths::{INITRD, INITRD_INIT};
use boxinit::index_files::DEPENDENCIES;
use boxinit::modules::{Index, is_compressed, module_name};
use boxinit::signature::without_signature;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

/// `MODULE_INIT_COMPRESSED_FILE` (linux/module.h): the kernel decompresses the file, if it can.
const COMPRESSED: u32 = 4;

/// Where the folders of modules are, below a root.
const FOLDERS: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Holds the path of the program that the kernel runs to load a module.
const HELPER: &str = "/proc/sys/kernel/modprobe";

/// Loads the modules of one tree: the ramdisk's, or the root's.
#[derive(Debug)]
pub(super) struct Loader {
    folder: Option<PathBuf>,
    index: Option<Index>,
    loaded: HashSet<String>,
}

impl Loader {
    /// A loader of the running kernel's modules below `root`.
    pub(super) fn at(root: &str) -> Loader {
        let release = kernel_release();
        let is_searched =
            |folder: &PathBuf| DEPENDENCIES.iter().any(|name| folder.join(name).is_file());
        let folder = FOLDERS
            .iter()
            .map(|base| Path::new(root).join(base).join(&release))
            .find(is_searched);
        Loader {
            folder,
            index: None,
            loaded: HashSet::new(),
        }
    }

    /// Loads all modules that `name` (a module's name or an alias) stands for. A module that is
    /// built in, loaded already, or missing is not an error here: what needs it will fail.
    pub(super) fn load(&mut self, name: &str) {
        let Some(folder) = &self.folder else {
            return;
        };
        let index = self.index.get_or_insert_with(|| read_index(folder));
        let mut files: Vec<String> = Vec::new();
        for module in index.modules(name) {
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
    Index::from_files(|name| fs::read(folder.join(name)).ok())
}

/// The version of the running kernel, by which its modules are found.
pub(super) fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

/// The text of the file `name` beside the running kernel's modules.
pub(super) fn modules_file(name: &str) -> Option<String> {
    let release = kernel_release();
    FOLDERS.iter().find_map(|base| {
        fs::read_to_string(Path::new("/").join(base).join(&release).join(name)).ok()
    })
}

/// Says which driver the running kernel lacks, and whether there are modules of it here at all.
pub(super) fn without_driver(driver: &str) -> String {
    let release = kernel_release();
    let of_others = || -> Vec<String> {
        FOLDERS
            .iter()
            .flat_map(|base| fs::read_dir(Path::new("/").join(base)))
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    };
    let place = match &Loader::at("/").folder {
        Some(folder) => format!("nor in {}", folder.display()),
        None => match of_others() {
            others if others.is_empty() => String::from("and there are no modules"),
            mut others => {
                others.sort();
                others.dedup();
                format!("and there are only modules of {}", others.join(", "))
            }
        },
    };
    format!("its kernel {release} has no driver {driver}: not built in, {place}")
}

/// Whether this kernel accepts modules without a signature. In FIPS mode one makes it panic.
fn accepts_unsigned() -> bool {
    let holds = |file, value: &[u8]| fs::read(file).is_ok_and(|text| text.trim_ascii() == value);
    holds("/sys/module/module/parameters/sig_enforce", b"N")
        && !holds("/proc/sys/crypto/fips_enabled", b"1")
}

/// Loads the module at `path` without its signature. Returns false if it has none or the kernel
/// refuses it.
fn insert_unsigned(path: &Path) -> bool {
    let Ok(image) = fs::read(path) else {
        return false;
    };
    without_signature(&image)
        .is_some_and(|module| matches!(init_module(module, c""), Ok(()) | Err(Errno::EEXIST)))
}

/// Loads the module at `path`. A compressed one that the kernel cannot decompress is left to the
/// box's own modprobe.
fn insert(path: &Path) -> Result<(), String> {
    if !is_compressed(&path.to_string_lossy()) && accepts_unsigned() && insert_unsigned(path) {
        return Ok(());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let name = path.to_string_lossy();
    let flags = if is_compressed(&name) { COMPRESSED } else { 0 };
    match finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(_) if is_compressed(&name) => {
            let module = module_name(&name);
            let status = Command::new("modprobe").arg("-q").arg(module).status();
            match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("modprobe: {status}")),
                Err(error) => Err(format!(
                    "the kernel cannot decompress it; modprobe: {error}"
                )),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Registers this program as the kernel's helper for modules in the initial ramdisk, which has no
/// modprobe. Dropping it restores the previous helper.
#[derive(Debug)]
pub(super) struct ModprobeHelper {
    previous: Option<Vec<u8>>,
}

impl ModprobeHelper {
    /// Registers it.
    pub(super) fn register() -> ModprobeHelper {
        let previous = fs::read(HELPER).ok();
        // If this fails, modules that are loaded by name still work.
        let _ = fs::write(HELPER, INITRD_INIT);
        ModprobeHelper { previous }
    }
}

impl Drop for ModprobeHelper {
    fn drop(&mut self) {
        if let Some(previous) = &self.previous {
            let _ = fs::write(HELPER, previous);
        }
    }
}

/// Loads the module `name` as the kernel's helper.
pub(crate) fn modprobe(name: &str) -> ExitCode {
    if !Path::new(INITRD).is_dir() {
        return ExitCode::FAILURE;
    }
    Loader::at("/").load(name);
    ExitCode::SUCCESS
}
