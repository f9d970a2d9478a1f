//! What is in a batch file (docs/batch.md).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub(super) use toml::Spanned;

use boxbuild_host::arch::Arch;

/// Options with their values, by their names without the dashes.
pub(super) type Options = BTreeMap<String, Spanned<Value>>;

/// A batch file.
#[derive(Debug, Default)]
pub(super) struct BatchFile {
    /// How many builds run at once.
    pub(super) jobs: Option<NonZeroUsize>,
    /// Folder for the logs.
    pub(super) log_dir: Option<PathBuf>,
    /// Template for the names of the matrix's builds.
    pub(super) name: Option<Spanned<String>>,
    /// Values for everything that a build leaves out.
    pub(super) defaults: Entry,
    /// Axes; every combination is a build.
    pub(super) matrix: Option<Spanned<Matrix>>,
    /// Combinations that are left out.
    pub(super) exclude: Vec<Spanned<Selector>>,
    /// Changes to some builds.
    pub(super) overrides: Vec<Spanned<Override>>,
    /// Single builds.
    pub(super) builds: Vec<Spanned<Entry>>,
}

/// A build, or the defaults for builds.
#[derive(Debug, Default, Clone)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: Option<Spanned<String>>,
    /// Folder with the image description.
    pub(super) description: Option<Spanned<String>>,
    /// Profiles of the description.
    pub(super) profile: Option<Profiles>,
    /// Image type.
    pub(super) image_type: Option<String>,
    /// The box to build in.
    pub(super) box_name: Option<Spanned<String>>,
    /// Its architecture.
    pub(super) arch: Option<ArchName>,
    /// Its target folder; a template.
    pub(super) target_dir: Option<Spanned<String>>,
    /// Options of boxbuild.
    pub(super) options: Options,
    /// Options of `kiwi-ng system build`.
    pub(super) build_args: Options,
    /// Whether the image is tested.
    pub(super) test: Option<Spanned<Test>>,
    /// Some of it could not be read: what is missing may be there.
    pub(super) damaged: bool,
}

/// The axes of the matrix.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    pub(super) description: Axis<Spanned<String>>,
    pub(super) profile: Axis<Profiles>,
    pub(super) image_type: Axis<String>,
    pub(super) box_name: Axis<Spanned<String>>,
    pub(super) arch: Axis<ArchName>,
    /// Some of it could not be read.
    pub(super) damaged: bool,
}

/// Selects the builds that agree in everything that it names.
#[derive(Debug, Default)]
pub(super) struct Selector {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) profile: Option<Profiles>,
    pub(super) image_type: Option<String>,
    pub(super) box_name: Option<String>,
    pub(super) arch: Option<ArchName>,
    /// Some of it could not be read: what it selects is not known.
    pub(super) damaged: bool,
}

/// Changes to the builds that `match` selects.
#[derive(Debug)]
pub(super) struct Override {
    /// The builds.
    pub(super) selector: Selector,
    pub(super) target_dir: Option<Spanned<String>>,
    pub(super) options: Options,
    pub(super) build_args: Options,
    pub(super) test: Option<Spanned<Test>>,
}

/// Whether an image is tested when it is built.
#[derive(Debug, Clone)]
pub(super) enum Test {
    /// It is not.
    No,
    /// With these options of `boxbuild test`.
    With(Options),
}

/// The values of an axis: a list, or one value.
#[derive(Debug)]
pub(super) struct Axis<T>(pub(super) Vec<T>);

impl<T> Default for Axis<T> {
    fn default() -> Axis<T> {
        Axis(Vec::new())
    }
}

/// An architecture by any of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ArchName(pub(super) Arch);

/// Profiles that are selected together: one name, a list, or none (an empty name or list).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Profiles(pub(super) Vec<String>);

/// The value of an option in a batch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A flag, given or not.
    Flag(bool),
    /// One value, or several of an option that repeats.
    Words(Vec<String>),
}
