//! What all sources of boxes have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_host::arch::Arch;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

use super::contents::BoxContents;
use super::error::SourceError;
use crate::store::{BoxInfo, IfExists, InstalledBox, Staging, Store, StoreError, check_name};

/// Makes a box.
///
/// # Implementing
///
/// Options are checked when a source is created, so that it is valid. Methods are called in the
/// order in which they are declared, `prepare` and the work that it returns once.
pub trait BoxSource {
    /// Returns what is known of the box before it is made. Neither files nor the network are used.
    fn target(&self) -> Target;

    /// Checks what the work needs: programs and permissions of the host, files of the user. Changes
    /// nothing. Returns the work.
    ///
    /// # Errors
    /// Fails if something is missing, with [`SourceError::Host`] for example. The text says how to
    /// get it.
    fn prepare(&self) -> Result<MakeBox<'_>, SourceError>;
}

/// The work of a source, which makes the files of a box in [`Making::staging`].
///
/// It reports its steps, stops soon after the user interrupts it, and leaves nothing outside of the
/// staging folder, however it ends. The staging folder may contain other files when it is done, but
/// no folders; only those in [`BoxContents`] become part of the box.
pub type MakeBox<'a> = Box<dyn FnOnce(&mut Making<'_>) -> Result<BoxContents, SourceError> + 'a>;

/// What a source makes a box with.
pub struct Making<'a> {
    /// The folder for the box's files.
    pub staging: &'a Staging,
    /// Counts the user's requests to stop.
    pub interrupt: &'a Interrupt,
    /// Takes the names of steps, their progress, and notes for the user.
    pub reporter: &'a mut dyn Reporter,
}

impl std::fmt::Debug for Making<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Making")
            .field("staging", self.staging)
            .finish_non_exhaustive()
    }
}

/// A box that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its full name in the store, see [`name_for`](crate::store::name_for).
    pub name: String,
    /// Its architecture.
    pub arch: Arch,
    /// What it is made from, e.g. `debian:trixie`.
    pub origin: String,
}

impl Target {
    /// Returns the description of the box, made of `contents` now.
    pub(super) fn describe(self, contents: BoxContents) -> BoxInfo {
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        contents.into_info(self.name, self.origin, self.arch, created)
    }
}

/// Makes a box with `source`, and publishes it in `store`.
///
/// # Errors
/// Fails if the name cannot be that of a box, if there is such a box and `if_exists` does not let
/// it be replaced, or if the source fails. The store is then as it was.
pub fn install(
    store: &Store,
    source: &dyn BoxSource,
    if_exists: IfExists,
    interrupt: &Interrupt,
    reporter: &mut dyn Reporter,
) -> Result<InstalledBox, SourceError> {
    let target = source.target();
    check_name(&target.name)?;
    if if_exists == IfExists::Fail && store.names()?.contains(&target.name) {
        return Err(StoreError::Exists(target.name).into());
    }
    let make = source.prepare()?;
    let staging = store.stage()?;
    let contents = make(&mut Making {
        staging: &staging,
        interrupt,
        reporter,
    })?;
    Ok(store.publish(staging, target.describe(contents), if_exists)?)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::store::Guest;

    /// A source whose box consists of three short files, unless it fails.
    struct Fake {
        fails_to_prepare: bool,
        fails_to_make: bool,
    }

    impl BoxSource for Fake {
        fn target(&self) -> Target {
            Target {
                name: String::from("fake"),
                arch: Arch::host(),
                origin: String::from("fake:1"),
            }
        }

        fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
            if self.fails_to_prepare {
                return Err(SourceError::Host(String::from("no program")));
            }
            Ok(Box::new(|making| {
                making.reporter.begin("make it");
                let file = |name: &str| {
                    std::fs::write(making.staging.path().join(name), name).unwrap();
                    making.staging.describe(name)
                };
                let contents = BoxContents {
                    kernel: file("kernel")?,
                    initrd: file("initrd")?,
                    disk: file("disk.qcow2")?,
                    disk_size: 512,
                    cmdline: Vec::new(),
                    console: String::from("hvc0"),
                    guest: Guest::Compat,
                    kiwi: None,
                    memory_mib: 1024,
                    cpus: 1,
                    container: None,
                    inventory: None,
                    published: None,
                };
                if self.fails_to_make {
                    return Err(SourceError::Host(String::from("too late")));
                }
                Ok(contents)
            }))
        }
    }

    #[derive(Default)]
    struct Steps(Vec<String>);

    impl Reporter for Steps {
        fn begin(&mut self, step: &str) {
            self.0.push(step.to_owned());
        }
        fn finish(&mut self, _good: bool) {}
        fn detail(&mut self, _text: &str) {}
        fn report(&mut self, _text: &str) {}
        fn line(&mut self, _text: &str) {}
        fn note(&mut self, _text: &str) {}
        fn listening(&mut self, _address: SocketAddr) {}
        fn mute(&mut self, _muted: bool) {}
    }

    #[test]
    fn a_box_is_checked_made_and_published() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let store = Store::at(root.clone());
        let mut steps = Steps::default();
        let mut run = |fails_to_prepare, fails_to_make, if_exists| {
            let source = Fake {
                fails_to_prepare,
                fails_to_make,
            };
            let interrupt = Interrupt::default();
            install(&store, &source, if_exists, &interrupt, &mut steps)
                .map_err(|error| error.to_string())
        };
        // Nothing is changed before everything is checked.
        assert_eq!(run(true, false, IfExists::Fail).unwrap_err(), "no program");
        assert!(!root.exists());
        // What is made of a box that fails is removed.
        assert_eq!(run(false, true, IfExists::Fail).unwrap_err(), "too late");
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        let installed = run(false, false, IfExists::Fail).unwrap();
        assert_eq!(installed.info.origin, "fake:1");
        let error = run(true, false, IfExists::Fail).unwrap_err();
        assert!(error.contains("there is a box 'fake' already"), "{error}");
        run(false, false, IfExists::Replace).unwrap();
        assert_eq!(steps.0.len(), 3);
    }
}
