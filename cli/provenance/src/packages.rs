//! The list of packages that kiwi leaves beside an image, `NAME.packages` (kiwi 11.1.6,
//! `kiwi/system/setup.py`, `export_package_list`): a line a package, seven fields with `|` between them.
//!
//! | | name | epoch | version | release | architecture | where it was built | licence |
//! |---|---|---|---|---|---|---|---|
//! | rpm | name | number or `(none)` | version | release | architecture | `DISTURL` or `(none)` | licence |
//! | dpkg | name | `None` | epoch, version and revision | `None` | architecture | `None` | `None` |
//! | pacman | name | `None` | version | release | `None` | `None` | `None` |

/// End of the name of such a list.
pub const SUFFIX: &str = ".packages";

/// Longest list that is read, in bytes.
pub const LONGEST: u64 = 32 << 20;

/// Packages of a list that are read, at most.
const MOST: usize = 200_000;

/// Fields of a line.
const FIELDS: usize = 7;

/// What manages packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// rpm.
    Rpm,
    /// dpkg.
    Dpkg,
    /// pacman.
    Pacman,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What manages it.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// Its epoch, where that is a field.
    pub epoch: Option<String>,
    /// Its version, with the release or revision.
    pub version: String,
    /// Its architecture.
    pub arch: Option<String>,
    /// Its licence, in the words of its packager.
    pub licence: Option<String>,
}

/// Reads a list. A line that is no package is left out and counted: the list was in the guest's hands.
pub fn read(text: &str) -> (Vec<Package>, usize) {
    let mut packages = Vec::new();
    let mut others = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match package(line) {
            Some(package) if packages.len() < MOST => packages.push(package),
            _ => others += 1,
        }
    }
    (packages, others)
}

fn package(line: &str) -> Option<Package> {
    // A licence may have anything in it.
    let fields: Vec<&str> = line.splitn(FIELDS, '|').map(str::trim).collect();
    let [name, epoch, version, release, arch, _, licence] = fields[..] else {
        return None;
    };
    let known = |field: &str| {
        let unknown = ["", "None", "(none)"].contains(&field);
        (!unknown).then(|| field.to_owned())
    };
    let (name, version) = (known(name)?, known(version)?);
    let manager = match (epoch, known(release), known(arch)) {
        ("None", None, _) => Manager::Dpkg,
        ("None", Some(_), None) => Manager::Pacman,
        _ => Manager::Rpm,
    };
    Some(Package {
        manager,
        name,
        epoch: known(epoch).filter(|epoch| epoch != "0"),
        version: match known(release) {
            Some(release) => format!("{version}-{release}"),
            None => version,
        },
        arch: known(arch),
        licence: known(licence),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_all_managers() {
        let text = "bsdutils|None|1:2.41.5-0+deb13u1|None|amd64|None|None\n\
            bind-utils|32|9.18.33|1.fc41|x86_64|(none)|MPL-2.0 AND ISC\n\
            filesystem|(none)|84.87|13.1|x86_64|obs://build.example/x|MIT|X\n\
            gpg-pubkey|(none)|e8a2|5fd|(none)|(none)|pubkey\n\
            zlib|None|1:1.3.1|2|None|None|None\n\
            garbage\n\n";
        let (packages, others) = read(text);
        assert_eq!(others, 1);
        let found: Vec<_> = packages
            .iter()
            .map(|package| {
                (
                    package.manager,
                    package.version.as_str(),
                    package.epoch.as_deref(),
                    package.licence.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (Manager::Dpkg, "1:2.41.5-0+deb13u1", None, None),
                (
                    Manager::Rpm,
                    "9.18.33-1.fc41",
                    Some("32"),
                    Some("MPL-2.0 AND ISC")
                ),
                (Manager::Rpm, "84.87-13.1", None, Some("MIT|X")),
                (Manager::Rpm, "e8a2-5fd", None, Some("pubkey")),
                (Manager::Pacman, "1:1.3.1-2", None, None),
            ]
        );
        assert_eq!(packages[3].arch, None);
    }
}
