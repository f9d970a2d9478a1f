//! KIWI for a box, as Python wheels.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;

use crate::source::command::Workshop;
use crate::source::error::{CommandError, SourceError};

/// Folder of the workshop with KIWI's source distribution.
pub(super) const SOURCE: &str = "kiwi-source";

/// Platform tags of wheels that run on all suites here, without the architecture: PEP 600, and the
/// older name (PEP 599) for glibc 2.17.
const WHEEL_PLATFORMS: &[&str] = &[
    "manylinux_2_34",
    "manylinux_2_28",
    "manylinux_2_17",
    "manylinux2014",
    "linux",
];

/// Fetches KIWI and its dependencies from the Python package index, with the host's own pip, for the
/// version `python` of Python: wheels into the folder `wheels` of the workshop, and the source
/// distribution, unpacked, into the folder [`SOURCE`].
pub(super) fn fetch(
    workshop: &Workshop<'_>,
    version: &str,
    python: &str,
    arch: Arch,
) -> Result<(), SourceError> {
    let wheels = workshop.dir.join("wheels");
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let folder = workshop.dir.join("kiwi-sdist");
    let mut args = words("-m pip download --quiet --no-deps --no-binary=:all: --dest");
    args.extend([folder.clone().into(), format!("kiwi=={version}").into()]);
    workshop
        .run("python3", args, &[])
        .map_err(|error| pip_hint(error, version))?;
    let archive = only_file(&folder, version)?;
    let source = workshop.dir.join(SOURCE);
    fs::create_dir(&source).map_err(IoError::on("write", &source))?;
    let mut args = words("--extract --no-same-owner --strip-components=1 --file");
    args.extend([archive.clone().into(), "--directory".into(), source.into()]);
    workshop.run("tar", args, &[])?;

    let mut args = words("-m pip wheel --quiet --no-deps --wheel-dir");
    args.extend([wheels.clone().into(), archive.into()]);
    workshop
        .run("python3", args, &[])
        .map_err(|error| pip_hint(error, version))?;
    let kiwi = only_file(&wheels, version)?;
    let mut args = words("-m pip download --quiet --only-binary=:all: --python-version");
    args.extend([python.into(), "--dest".into(), wheels.into(), kiwi.into()]);
    if arch != Arch::host() {
        args.extend(WHEEL_PLATFORMS.iter().flat_map(|platform| {
            let platform = format!("{platform}_{arch}");
            [OsString::from("--platform"), platform.into()]
        }));
    }
    Ok(workshop.run("python3", args, &[])?)
}

/// Returns the file that pip has put into a folder.
fn only_file(folder: &Path, version: &str) -> Result<PathBuf, SourceError> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.is_file())
        .ok_or_else(|| SourceError::Host(format!("pip fetched no file of kiwi {version}")))
}

/// Explains an error of pip.
fn pip_hint(error: CommandError, version: &str) -> SourceError {
    match &error {
        CommandError::Failed { output, .. }
            if output
                .iter()
                .any(|line| line.contains("No matching distribution")) =>
        {
            SourceError::Usage(format!(
                "--kiwi-version {version}: the Python package index has no such version of kiwi"
            ))
        }
        CommandError::Failed { output, .. }
            if output
                .iter()
                .any(|line| line.contains("No module named pip")) =>
        {
            SourceError::Host(String::from(
                "python3 has no pip; on Debian and Ubuntu: sudo apt-get install python3-pip",
            ))
        }
        _ => error.into(),
    }
}
