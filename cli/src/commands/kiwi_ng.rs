//! boxbuild under the name `kiwi-ng`: what is not `system boxbuild` is for the next `kiwi-ng` in `PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::args;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::print::{print_failure, print_line, print_text};

/// Programs that have handed the command line over, as `DEVICE:INODE`, separated by commas: files of
/// boxbuild, so that copies of it never hand over to each other.
const HANDED_OVER: &str = "BOXBUILD_HANDED_OVER";

/// A command line is not handed over more often: a script in between hands it back.
const MOST: usize = 8;

/// The release of KIWI whose command line this is.
const KIWI: &str = "11.1.6";

/// Answers a command line that is not for boxbuild, if this process has the name of kiwi-ng. `None` if it
/// is boxbuild's.
pub(super) fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let program = std::env::args_os().next()?;
    let name = Path::new(&program).file_name()?.to_owned();
    if !is_kiwi(&name) {
        return None;
    }
    let command = args::other_command(argv.to_vec())?;
    let answered = hand_over(&name, argv).and_then(|()| alone(&name, &command, argv));
    answered.unwrap_or_else(|failure| {
        print_failure(&failure);
        Some(failure.code())
    })
}

/// Returns whether `name` is one that kiwi-ng is installed under: `kiwi-ng-3` and the like are those of
/// distributions.
fn is_kiwi(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "kiwi" || name == "kiwi-ng" || name.starts_with("kiwi-ng-")
}

/// Becomes the next kiwi-ng in `PATH`; returns if there is none.
fn hand_over(name: &OsStr, argv: &[OsString]) -> Result<()> {
    let own = id(Path::new("/proc/self/exe"));
    let mut passed: Vec<String> = std::env::var(HANDED_OVER)
        .unwrap_or_default()
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    passed.extend(own);
    if passed.len() > MOST {
        return Ok(());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(next) = next(name, &path, &passed) else {
        return Ok(());
    };
    let error = Command::new(&next)
        .args(argv)
        .env(HANDED_OVER, passed.join(","))
        .exec();
    Err(error).host_context(|| format!("cannot run {}", next.display()))
}

/// Returns the first program in `path` that has a name of kiwi-ng and is not in `passed`.
fn next(name: &OsStr, path: &OsStr, passed: &[String]) -> Option<PathBuf> {
    let names = [name, OsStr::new("kiwi-ng"), OsStr::new("kiwi-ng-3")];
    // A relative folder is any folder.
    let folders: Vec<PathBuf> = std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| {
            program.is_file()
                && access(program, AccessFlags::X_OK).is_ok()
                && id(program).is_some_and(|id| !passed.contains(&id))
        })
}

/// Identifies the file that `path` leads to.
fn id(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// Answers where there is no other kiwi-ng. `None` leaves the answer to boxbuild.
fn alone(name: &OsStr, command: &str, argv: &[OsString]) -> Result<Option<ExitCode>> {
    let name = name.display();
    if !command.is_empty() {
        print_line(&format!(
            "boxbuild: '{name} {command}': this {name} is boxbuild, which has only '{name} system \
             boxbuild', and there is no other one in PATH: install KIWI for the rest"
        ));
        return Ok(Some(ExitCode::USAGE));
    }
    if argv.iter().any(|word| word == "--version" || word == "-v") {
        print_text(&format!("KIWI (next generation) version {KIWI}\n"))?;
        print_line(&format!(
            "boxbuild {} under the name {name}: it has the options of this KIWI; a build runs the \
             KIWI of its box",
            env!("CARGO_PKG_VERSION")
        ));
        return Ok(Some(ExitCode::SUCCESS));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder with a program of this name.
    fn program(top: &Path, folder: &str, name: &str, mode: u32) -> PathBuf {
        let path = top.join(folder).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, folder).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_next_kiwi_ng_is_no_link_to_this_program() {
        let top = tempfile::tempdir().unwrap();
        let own = program(top.path(), "own", "boxbuild", 0o755);
        let link = top.path().join("links/kiwi-ng");
        fs::create_dir(top.path().join("links")).unwrap();
        symlink(&own, &link).unwrap();
        symlink("/nowhere", top.path().join("own/kiwi-ng")).unwrap();
        program(top.path(), "data", "kiwi-ng", 0o644);
        fs::create_dir_all(top.path().join("folder/kiwi-ng")).unwrap();
        let real = program(top.path(), "real", "kiwi-ng", 0o755);
        let versioned = program(top.path(), "real", "kiwi-ng-3.11", 0o755);
        let path = ["links", "own", "data", "folder", "real"].map(|name| top.path().join(name));
        let path = std::env::join_paths(path).unwrap();
        let passed = [id(&own).unwrap()];
        let find = |name: &str, passed: &[String]| next(name.as_ref(), &path, passed);
        assert_eq!(find("kiwi-ng", &passed), Some(real.clone()));
        assert_eq!(find("kiwi", &passed), Some(real.clone()));
        assert_eq!(find("kiwi-ng-3.11", &passed), Some(versioned));
        let passed = [id(&own).unwrap(), id(&real).unwrap()];
        assert_eq!(find("kiwi-ng", &passed), None);
        assert_eq!(next("kiwi-ng".as_ref(), ".:".as_ref(), &[]), None);
    }

    #[test]
    fn names_of_kiwi_ng() {
        for name in ["kiwi", "kiwi-ng", "kiwi-ng-3", "kiwi-ng-3.11"] {
            assert!(is_kiwi(name.as_ref()), "{name}");
        }
        for name in ["boxbuild", "kiwibox", "my-kiwi-ng"] {
            assert!(!is_kiwi(name.as_ref()), "{name}");
        }
    }
}
