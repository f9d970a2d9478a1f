//! The folders of a build, checked before the box is even looked up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs;
use nix::unistd::{AccessFlags, access};

use super::error::PlanError;
use super::inspected::Inspected;
use crate::output_dir::is_in_staging;
use crate::request::BuildRequest;

/// Least free space below the target directory, in bytes. An image is larger; this only
/// recognises a file system that is full.
const LEAST_FREE: u64 = 16 << 20;

/// The folders of a build, checked before the box is even looked up.
#[derive(Debug, Clone)]
pub struct Folders {
    pub(super) description: PathBuf,
    pub(super) target_dir: PathBuf,
    pub(super) inspected: Inspected,
}

impl Folders {
    /// Checks the folders that `request` names.
    ///
    /// # Errors
    /// Fails if one cannot be used.
    pub fn check(request: &BuildRequest) -> Result<Folders, PlanError> {
        let description = description_folder(&request.build.description)?;
        let target_dir = check_target(&request.build.target_dir)?;
        let inspected = Inspected::of(request, &description)?;
        Ok(Folders {
            description,
            target_dir,
            inspected,
        })
    }
}

/// Returns the absolute path of the description folder, without links.
///
/// # Errors
/// Fails if there is no such folder.
pub fn description_folder(path: &Path) -> Result<PathBuf, PlanError> {
    let problem = |problem: String| PlanError::Description {
        path: path.to_owned(),
        problem,
    };
    let metadata = fs::metadata(path).map_err(|error| problem(describe(&error)))?;
    if !metadata.is_dir() {
        return Err(problem(
            "not a folder: name the folder that contains the description".into(),
        ));
    }
    let resolved = fs::canonicalize(path).map_err(|error| problem(describe(&error)))?;
    if is_in_staging(&resolved) {
        return Err(problem(
            "is in the folder of another build, which goes when that ends".into(),
        ));
    }
    Ok(resolved)
}

fn check_target(path: &Path) -> Result<PathBuf, PlanError> {
    let problem = |problem: String| PlanError::Target {
        path: path.to_owned(),
        problem,
    };
    let absolute = std::path::absolute(path).map_err(|error| problem(describe(&error)))?;
    // The nearest existing ancestor decides whether the folder can be made.
    let mut existing = absolute.as_path();
    let found = loop {
        match fs::metadata(existing) {
            Ok(metadata) if metadata.is_dir() => break existing,
            Ok(_) => return Err(problem(format!("{} is not a folder", existing.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(existing).is_ok() {
                    return Err(problem(format!(
                        "{} is a dangling symbolic link",
                        existing.display()
                    )));
                }
                existing = existing.parent().ok_or_else(|| problem(describe(&error)))?;
            }
            Err(error) => return Err(problem(describe(&error))),
        }
    };
    let missing = absolute.strip_prefix(found).unwrap_or(Path::new(""));
    if missing
        .components()
        .any(|component| component == std::path::Component::ParentDir)
    {
        return Err(problem(
            "has '..' below a folder that does not exist".into(),
        ));
    }
    let mut resolved = fs::canonicalize(found).map_err(|error| problem(describe(&error)))?;
    if access(&resolved, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Err(problem(format!(
            "no permission to write into {}",
            resolved.display()
        )));
    }
    if let Ok(stat) = nix::sys::statvfs::statvfs(&resolved) {
        if !holds_files(&resolved) {
            return Err(problem(format!(
                "{} shows what the kernel knows and holds no files: choose another folder",
                resolved.display()
            )));
        }
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        // Some file systems of the network do not tell their size.
        if stat.blocks() > 0 && free < LEAST_FREE {
            return Err(PlanError::Full {
                path: path.to_owned(),
                problem: format!(
                    "only {} KiB are free on the file system of {}: free some space, or choose \
                     another folder",
                    free >> 10,
                    resolved.display()
                ),
            });
        }
    }
    if missing != Path::new("") {
        resolved.push(missing);
    }
    if is_in_staging(&resolved) {
        return Err(problem(
            "is in the folder of another build, which goes when that ends: choose another one"
                .into(),
        ));
    }
    Ok(resolved)
}

/// Whether files can be made on the file system of `path`, which is not a view of the kernel.
fn holds_files(path: &Path) -> bool {
    let views = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
        statfs::DEBUGFS_MAGIC,
        statfs::TRACEFS_MAGIC,
        statfs::SECURITYFS_MAGIC,
        statfs::DEVPTS_SUPER_MAGIC,
        statfs::BPF_FS_MAGIC,
    ];
    statfs::statfs(path).map_or(true, |of| !views.contains(&of.filesystem_type()))
}

/// An error in words that complete the name of a file.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("does not exist"),
        io::ErrorKind::PermissionDenied => String::from("permission denied"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::request;

    fn with(description: &Path, target: &Path) -> Result<Folders, PlanError> {
        let mut request = request();
        request.build.description = description.to_owned();
        request.build.target_dir = target.to_owned();
        Folders::check(&request)
    }

    fn complaint(result: Result<Folders, PlanError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    /// "only 0 KiB are free on the file system of /proc", and a build that failed later in /sys.
    #[test]
    fn a_target_among_views_of_the_kernel_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.xml"), "<image/>").unwrap();
        for target in ["/proc", "/sys"] {
            let target = Path::new(target);
            if access(target, AccessFlags::W_OK).is_ok() {
                let said = complaint(with(dir.path(), target));
                assert!(said.contains("holds no files"), "{said}");
            }
        }
    }

    #[test]
    fn folders_are_checked_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let description = root.join("with space, 'quote' and $x");
        let target = root.join("a/b/target");
        assert!(complaint(with(&description, &target)).contains("does not exist"));
        fs::create_dir(&description).unwrap();
        assert!(complaint(with(&description, &target)).contains("no KIWI description"));
        fs::write(description.join("config.xml"), "<image/>").unwrap();
        let checked = with(&description, &target).unwrap();
        assert_eq!(checked.description, description);
        assert_eq!(checked.target_dir, target);
        assert!(!root.join("a").exists());

        fs::write(root.join("file"), "").unwrap();
        assert!(complaint(with(&description, &root.join("file"))).contains("not a folder"));
        assert!(complaint(with(&description, &root.join("file/x"))).contains("file"));
        assert!(complaint(with(&root.join("file"), &target)).contains("not a folder"));
        std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
        assert!(
            complaint(with(&description, &root.join("link"))).contains("dangling symbolic link")
        );
        assert!(complaint(with(&description, &root.join("no/../x"))).contains("'..'"));
    }

    /// Case A1: the best known public scripts have the results below the description, or in it.
    #[test]
    fn the_target_may_be_in_the_description_or_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let description = root.join("image");
        fs::create_dir(&description).unwrap();
        fs::write(description.join("config.xml"), "<image/>").unwrap();
        for target in [description.join("out/x"), description.clone(), root.clone()] {
            assert_eq!(with(&description, &target).unwrap().target_dir, target);
        }
        let staging = root.join(".boxbuild.partial");
        fs::create_dir(&staging).unwrap();
        fs::write(staging.join("config.xml"), "<image/>").unwrap();
        assert!(complaint(with(&description, &staging.join("x"))).contains("another build"));
        assert!(complaint(with(&staging, &root.join("x"))).contains("another build"));
    }

    #[test]
    fn a_named_description_file_must_be_there() {
        let (dir, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(dir.path().join("other.kiwi"), "<image/>").unwrap();
        let mut request = request();
        request.build.description = dir.path().to_owned();
        request.build.target_dir = target.path().join("x/y");
        request.kiwi.description_file = Some("other.kiwi".into());
        assert!(Folders::check(&request).is_ok());
        request.kiwi.description_file = Some("some.kiwi".into());
        assert!(complaint(Folders::check(&request)).contains("some.kiwi"));
    }
}
