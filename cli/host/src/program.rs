//! Programs of this host, looked up as a shell looks them up.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Folders with programs for administrators, which the `PATH` of users often lacks, and those that
/// every host has.
const SYSTEM_FOLDERS: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Returns the path of the program `name` in the folders of `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    SearchPath::of_user().find(name)
}

/// Folders that programs are looked for in, in the format of `PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath(OsString);

impl SearchPath {
    /// Returns `PATH` as it is.
    pub fn of_user() -> SearchPath {
        SearchPath(env::var_os("PATH").unwrap_or_default())
    }

    /// Returns `PATH` followed by the folders of programs for administrators.
    pub fn with_system_folders() -> SearchPath {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
        SearchPath(env::join_paths(folders).unwrap_or(path))
    }

    /// Returns the path of the first file `name` that the user may execute.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        which::which_in(name, Some(&self.0), Path::new("/")).ok()
    }

    /// Returns the folders as a value for the environment variable `PATH`.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_files_that_can_be_executed_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "c"].map(|name| dir.path().join(name));
        for (folder, mode) in folders.iter().zip([0o644, 0o755, 0o755]) {
            fs::create_dir(folder).unwrap();
            let program = folder.join("program");
            fs::write(&program, "").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folders[0].join("folder")).unwrap();
        let path = SearchPath(env::join_paths(&folders).unwrap());
        assert_eq!(path.find("program"), Some(folders[1].join("program")));
        assert_eq!(path.find("folder"), None);
        assert_eq!(path.find("missing"), None);
    }

    #[test]
    fn the_system_folders_come_last() {
        let path = SearchPath::with_system_folders();
        let text = path.as_os_str().to_string_lossy();
        assert!(text.ends_with("/usr/sbin:/sbin:/usr/bin:/bin"), "{text}");
        assert!(path.find("sh").is_some());
    }
}
