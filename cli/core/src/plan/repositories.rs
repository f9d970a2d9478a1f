//! The repositories of a build, as far as they are on this host.
//!
//! What the user names in an option is opened for the box, or shared with it. What only a description names
//! is not: it may come from anywhere, services on the host's loopback trust all who reach them, and a
//! folder may be the user's keys. The user is told before the box starts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Component, Path};

use boxbuild_description::{Description, Target};
use boxbuild_engine::{Allowed, Network};
use boxbuild_host::secret;

use super::authority::{Authority, Local};
use super::proxy::GATEWAY;
use crate::boot::RunsAs;
use crate::build_args::IGNORE_REPOS;
use crate::places::{in_box, normal};

/// Other repositories that a note names, at most.
const MOST_NAMED: usize = 4;

/// A repository of the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    address: String,
    /// FILE:LINE.
    place: String,
}

/// How the box is connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection<'a> {
    pub(super) runs_as: RunsAs,
    /// A container is in podman's own network.
    pub(super) is_natted: bool,
    /// A container has a network of its own, as a machine has.
    pub(super) is_private: bool,
    /// Nothing leaves this host.
    pub(super) offline: bool,
    pub(super) network: Network,
    pub(super) allow: &'a [Allowed],
}

#[cfg(test)]
impl Connection<'static> {
    /// That of a machine without anything special.
    pub(super) const fn of_machine() -> Connection<'static> {
        Connection {
            runs_as: RunsAs::Machine(crate::boot::Boot::Fast),
            is_natted: false,
            is_private: false,
            offline: false,
            network: Network::User,
            allow: &[],
        }
    }
}

/// What the repositories of a build need.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    /// Services on the host's loopback that the box must reach.
    pub(super) services: Vec<SocketAddr>,
    pub(super) notes: Vec<String>,
}

/// Returns the repositories that a build with `target` and the options `words` uses of `description`.
pub(super) fn described(
    description: Option<&Description>,
    target: &Target,
    words: &[OsString],
) -> Vec<Described> {
    let ignored = [IGNORE_REPOS, "--ignore-repos-used-for-build"];
    if words
        .iter()
        .any(|word| ignored.iter().any(|known| word == known))
    {
        return Vec::new();
    }
    let all = description.map(|description| description.repositories(target));
    all.into_iter()
        .flatten()
        .map(|(address, place)| Described {
            address: address.to_owned(),
            place: format!("{}:{}", place.file, place.line),
        })
        .collect()
}

/// Returns the addresses of the repositories that a build with the words `kiwi_args` uses, of which
/// `repositories` are the description's, without their secrets. kiwi replaces the first one of the
/// description.
pub(super) fn used(repositories: &[Described], kiwi_args: &[OsString]) -> Vec<String> {
    let named = |option: &'static str| {
        kiwi_args
            .windows(2)
            .filter(move |words| words[0] == option)
            .filter_map(|words| words[1].to_str()?.split(',').next().map(str::to_owned))
    };
    let set: Vec<String> = named("--set-repo").collect();
    let replaced = usize::from(!set.is_empty());
    let described = repositories.iter().skip(replaced);
    let mut all: Vec<String> = set
        .into_iter()
        .chain(described.map(|described| described.address.clone()))
        .chain(named("--add-repo"))
        .map(|address| secret::redact(&address).into_owned())
        .collect();
    let mut known = std::collections::HashSet::new();
    all.retain(|address| known.insert(address.clone()));
    all
}

/// Returns notes on the folders among `repositories` that the box does not have; `shared` says which
/// ones of this host it does. The first repository is left out if an option replaces it.
pub(super) fn folders(
    repositories: &[Described],
    words: &[OsString],
    shared: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let replaced = usize::from(words.iter().any(|word| word == "--set-repo"));
    let note = |repository: &Described| {
        let why = out_of_reach(&repository.address, &shared)?;
        let address = secret::redact(&repository.address);
        Some(format!("{}: {address}: {why}", repository.place))
    };
    repositories
        .iter()
        .skip(replaced)
        .filter_map(note)
        .collect()
}

/// Why the box does not have the folder that an address in a description names, if so.
fn out_of_reach(address: &str, shared: impl Fn(&Path) -> bool) -> Option<String> {
    if let Some(path) = address.strip_prefix("this://") {
        let text = "leads out of the description, which is all that the box sees of that folder";
        return leaves(path).then(|| text.to_owned());
    }
    let schemes = ["dir:", "file:"];
    let path = schemes
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme));
    let has_scheme = path.is_some();
    let path = path.unwrap_or(address);
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split(['?', '#']).next().unwrap_or(path);
    if !path.starts_with('/') {
        return has_scheme.then(|| {
            String::from(
                "is relative to the folder that kiwi runs in, which is / in the box: write this://PATH \
                 for what is in the description",
            )
        });
    }
    let path = normal(Path::new(path));
    if in_box(&path) || shared(&path) {
        return None;
    }
    Some(if path.exists() {
        format!(
            "is on this host, which a description alone does not share: name it in an option as well, \
             e.g. --shared-path {}",
            path.display()
        )
    } else {
        String::from("does not exist on this host, and the box has only its own files there")
    })
}

/// Whether a path relative to the description leads out of it.
fn leaves(path: &str) -> bool {
    let mut depth = 0_i32;
    Path::new(path).components().any(|component| {
        match component {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        depth < 0
    })
}

impl Repositories {
    /// Decides on the repositories of the words for kiwi, which may change, and of the description.
    pub(super) fn of(
        words: &mut [OsString],
        repositories: &[Described],
        connection: Connection<'_>,
    ) -> Repositories {
        let mut found = Repositories::default();
        found.replaced(words, repositories);
        let mut is_label = false;
        for word in words.iter_mut() {
            // The address in a label is only quoted in the image.
            let skipped = std::mem::replace(&mut is_label, word == "--add-container-label");
            if !skipped
                && let Some(text) = word.to_str()
                && let Some(value) = found.word(text, connection)
            {
                *word = value.into();
            }
        }
        for repository in repositories {
            found.described(repository, connection);
        }
        found
    }

    /// Says what `--set-repo` does not replace. With `--ignore-repos` there is nothing to replace, and
    /// kiwi would have no repository: it is added then.
    fn replaced(&mut self, words: &mut [OsString], repositories: &[Described]) {
        if !words.iter().any(|word| word == "--set-repo") {
            return;
        }
        let has = |option: &str| words.iter().any(|word| word == option);
        if has(IGNORE_REPOS) {
            // Credentials belong to repositories by their order.
            if has("--add-repo-credentials") && !has("--set-repo-credentials") {
                return;
            }
            self.notes.push(format!(
                "--set-repo: replaces nothing, as {IGNORE_REPOS} leaves no repository: it is added \
                 (--add-repo)"
            ));
            for (set, add) in [
                ("--set-repo", "--add-repo"),
                ("--set-repo-credentials", "--add-repo-credentials"),
            ] {
                to_front(words, set, add);
            }
            return;
        }
        let others: Vec<_> = repositories.iter().skip(1).collect();
        if others.is_empty() {
            return;
        }
        let shown = |other: &&Described| secret::redact(&other.address).into_owned();
        let mut names: Vec<String> = others.iter().take(MOST_NAMED).map(shown).collect();
        if others.len() > MOST_NAMED {
            names.push(format!("{} more", others.len() - MOST_NAMED));
        }
        self.notes.push(format!(
            "--set-repo replaces only the first of the description's {} repositories; still used: {} (to \
             use no other than yours: --only-repo SOURCE)",
            repositories.len(),
            names.join(", ")
        ));
    }

    /// Opens what the addresses in a word lead to on this host. Returns the word for the box, if it is
    /// another one.
    fn word(&mut self, text: &str, connection: Connection<'_>) -> Option<String> {
        let mut value = String::new();
        let mut rest = text;
        while let Some(authority) = Authority::find(rest) {
            let (before, after) = rest.split_at(authority.end);
            let host = self.open(&authority, connection);
            value += &before[..authority.start];
            value += host.as_deref().unwrap_or(&before[authority.start..]);
            rest = after;
        }
        value += rest;
        (value != text).then_some(value)
    }

    /// Opens one address. Returns the host's name in the box, if it is another one.
    fn open(&mut self, authority: &Authority<'_>, connection: Connection<'_>) -> Option<String> {
        let local = authority.local()?;
        let (port, shown) = (authority.port, authority.shown());
        let mut refuse = |why: &str| self.notes.push(format!("{shown}: {why}"));
        let allowed = |rule: &Allowed| {
            ["localhost", "127.0.0.1", "::1", GATEWAY]
                .iter()
                .any(|name| rule.covers(name, port))
        };
        match (connection.runs_as, connection.network) {
            (_, Network::None) => {
                refuse("--network none: the box does not reach it");
                None
            }
            (RunsAs::Container(_), _) if connection.is_natted => {
                refuse("a container of this image does not reach the loopback of this host");
                None
            }
            (RunsAs::Container(_), _) => {
                self.add_service(local, port, connection);
                match local {
                    Local::Gateway => {
                        self.notes.push(format!(
                            "{shown}: in a container, this host is 127.0.0.1: that is used"
                        ));
                        Some(String::from("127.0.0.1"))
                    }
                    Local::Loopback(_) => None,
                }
            }
            (RunsAs::Machine(_), Network::Public) => {
                refuse("is on this host, which --network public keeps out of reach");
                None
            }
            _ if !connection.allow.is_empty() && !connection.allow.iter().any(allowed) => {
                refuse(&format!("is closed: --allow {GATEWAY}:{port} opens it"));
                None
            }
            (RunsAs::Machine(_), Network::User) => {
                let service = local.service(port);
                if service.is_none() {
                    refuse("nothing listens there on this host's loopback now");
                }
                let ip = local.ip();
                let service = service.unwrap_or(SocketAddr::new(ip, port));
                let mut others = self.services.iter();
                if others.any(|other| other.port() == port && *other != service) {
                    self.notes.push(format!(
                        "{shown}: another service of this host has port {port}, and the box reaches both \
                         under the same address"
                    ));
                } else if !self.services.contains(&service) {
                    self.services.push(service);
                }
                if local == Local::Gateway {
                    return None;
                }
                self.notes.push(format!(
                    "{shown}: the box reaches this host as {GATEWAY}: that is used"
                ));
                Some(GATEWAY.to_owned())
            }
        }
    }

    /// Has a container with a network of its own reach a service under its address on this host, as one in
    /// the host's network does.
    fn add_service(&mut self, local: Local, port: u16, connection: Connection<'_>) {
        let taken = |service: &SocketAddr| service.port() == port;
        if connection.is_private && !self.services.iter().any(taken) {
            let ip = local.ip();
            let service = local.service(port).unwrap_or(SocketAddr::new(ip, port));
            self.services.push(service);
        }
    }

    /// Says that an address of the description leads nowhere, if it is one of this host.
    fn described(&mut self, repository: &Described, connection: Connection<'_>) {
        let Some(authority) = Authority::find(&repository.address) else {
            return;
        };
        let Some(local) = authority.local() else {
            return;
        };
        let open = self
            .services
            .iter()
            .any(|service| service.port() == authority.port);
        let why = match (connection.runs_as, local) {
            (RunsAs::Container(_), Local::Loopback(_)) if !connection.is_natted => {
                return self.add_service(local, authority.port, connection);
            }
            (RunsAs::Container(_), _) => String::from(
                "a container does not reach this host by this address: with an image of boxbuild's, \
                 127.0.0.1 is this host",
            ),
            (RunsAs::Machine(_), Local::Gateway) if open => return,
            (RunsAs::Machine(_), Local::Gateway) => format!(
                "is on this host's loopback, which a description alone does not open: name it in an \
                 option as well, e.g. --add-repo {}",
                secret::redact(&repository.address)
            ),
            (RunsAs::Machine(_), Local::Loopback(_)) => format!(
                "is the box itself there: this host is {GATEWAY} in the box, and opened if an option \
                 names it, e.g. --add-repo http://{GATEWAY}:{}/",
                authority.port
            ),
        };
        self.notes.push(format!(
            "{}: {}: {why}",
            repository.place,
            authority.shown()
        ));
    }
}

/// Makes the option `set` the first of the options `add`.
fn to_front(words: &mut [OsString], set: &str, add: &str) {
    let Some(at) = words.iter().position(|word| word == set) else {
        return;
    };
    let first = words.iter().position(|word| word == add).unwrap_or(at);
    if let Some(word) = words.get_mut(at) {
        *word = add.into();
    }
    if first < at
        && let Some(part) = words.get_mut(first..(at + 2).min(words.len()))
    {
        part.rotate_right(2);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use boxbuild_engine::podman::Mode;

    use super::*;

    const MACHINE: Connection<'_> = Connection::of_machine();

    const CONTAINER: Connection<'_> = Connection {
        runs_as: RunsAs::Container(Mode::Rootless),
        ..MACHINE
    };

    fn look(
        line: &str,
        repositories: &[&str],
        connection: Connection<'_>,
    ) -> (String, Repositories) {
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let described: Vec<Described> = repositories
            .iter()
            .map(|address| Described {
                address: (*address).to_owned(),
                place: String::from("image/config.xml:7"),
            })
            .collect();
        let found = Repositories::of(&mut words, &described, connection);
        (words.join(" ".as_ref()).into_string().unwrap(), found)
    }

    /// Case A15: the box reached neither, and said so after minutes.
    #[test]
    fn a_repository_on_this_host_is_opened_for_the_box() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = listener.local_addr().unwrap();
        let (line, found) = look(
            &format!("--add-repo http://10.0.2.2:{port}/x,apt-deb"),
            &[],
            MACHINE,
        );
        assert_eq!(line, format!("--add-repo http://10.0.2.2:{port}/x,apt-deb"));
        assert_eq!(found.services, [service]);
        assert_eq!(found.notes, [] as [&str; 0]);
        for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"] {
            let typed = format!("--set-repo http://me:pw@{host}:{port}/$basearch?x,rpm-md");
            let (line, found) = look(&typed, &[], MACHINE);
            assert_eq!(line, typed.replace(host, "10.0.2.2"));
            assert_eq!(found.services[0].port(), port);
            assert!(!found.notes.join(" ").contains("pw"), "{:?}", found.notes);
            // A container has the host's loopback.
            assert_eq!(look(&typed, &[], CONTAINER).0, typed);
        }
        let (line, _) = look(
            &format!("--add-repo http://10.0.2.2:{port}/x"),
            &[],
            CONTAINER,
        );
        assert_eq!(line, format!("--add-repo http://127.0.0.1:{port}/x"));
        // A label is what the image says of itself.
        let label = format!("--add-container-label url=http://localhost:{port}/");
        let (line, found) = look(&label, &[], MACHINE);
        assert_eq!(line, label);
        assert!(found.services.is_empty() && found.notes.is_empty());
        // Keys and base images, too.
        let words = format!(
            "--add-repo http://m/x,a,,,,,{{http://localhost:{port}/k;file:///k}} \
             --set-type-attr derived_from=docker://localhost:{port}/c"
        );
        assert_eq!(
            look(&words, &[], MACHINE).0,
            words.replace("localhost", "10.0.2.2")
        );
    }

    #[test]
    fn a_repository_that_stays_out_of_reach_is_named() {
        let unused = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let word = format!("--add-repo http://10.0.2.2:{unused}/x");
        let (_, found) = look(&word, &[], MACHINE);
        assert!(
            found.notes[0].contains("nothing listens"),
            "{:?}",
            found.notes
        );
        let allow = ["m.example".parse().unwrap()];
        for (connection, text) in [
            (
                Connection {
                    network: Network::Public,
                    ..MACHINE
                },
                "--network public",
            ),
            (
                Connection {
                    network: Network::None,
                    ..MACHINE
                },
                "--network none",
            ),
            (
                Connection {
                    allow: &allow,
                    ..MACHINE
                },
                "--allow 10.0.2.2:",
            ),
            (
                Connection {
                    is_natted: true,
                    ..CONTAINER
                },
                "does not reach",
            ),
        ] {
            let (_, found) = look(&word, &[], connection);
            assert!(found.services.is_empty());
            assert!(found.notes[0].contains(text), "{:?}", found.notes);
        }
        let (_, found) = look("--add-repo http://mirror.example/x", &[], MACHINE);
        assert!(found.services.is_empty() && found.notes.is_empty());
    }

    /// A description may come from anywhere: it does not open the host's loopback.
    #[test]
    fn a_description_opens_nothing_of_this_host() {
        for address in ["http://10.0.2.2:8000/x", "http://localhost:8000/x"] {
            let (_, found) = look("--debug", &[address], MACHINE);
            assert!(found.services.is_empty());
            assert!(
                found.notes[0].starts_with("image/config.xml:7: http://")
                    && found.notes[0].contains("--add-repo"),
                "{:?}",
                found.notes
            );
        }
        assert!(
            look("--debug", &["http://localhost:8000/x"], CONTAINER)
                .1
                .notes
                .is_empty()
        );
        assert_eq!(
            look("--debug", &["http://10.0.2.2/x"], CONTAINER)
                .1
                .notes
                .len(),
            1
        );
    }

    /// Case A16.
    #[test]
    fn what_set_repo_does_not_replace_is_named() {
        let several = ["http://a/1", "http://me:s3cret@b/2", "http://c/3"];
        let (_, found) = look("--set-repo http://m/x", &several, MACHINE);
        let note = &found.notes[0];
        assert!(
            note.contains("first of the description's 3") && note.contains("http://c/3"),
            "{note}"
        );
        assert!(
            note.contains("--only-repo") && !note.contains("s3cret"),
            "{note}"
        );
        assert!(
            look("--set-repo http://m/x", &several[..1], MACHINE)
                .1
                .notes
                .is_empty()
        );
        assert!(
            look("--add-repo http://m/x", &several, MACHINE)
                .1
                .notes
                .is_empty()
        );
    }

    /// kiwi would build without any repository.
    #[test]
    fn set_repo_without_a_repository_to_replace_adds_one() {
        let line = "--ignore-repos --add-repo b --set-repo a --set-repo-credentials me:x --debug";
        let (line, found) = look(line, &[], MACHINE);
        assert_eq!(
            line,
            "--ignore-repos --add-repo a --add-repo b --add-repo-credentials me:x --debug"
        );
        assert!(
            found.notes[0].contains("replaces nothing"),
            "{:?}",
            found.notes
        );
    }

    /// A description does not have folders of the host shared either.
    #[test]
    fn folders_of_the_host_in_a_description_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().to_str().unwrap();
        let of = |address: &str| {
            let described = Described {
                address: address.to_owned(),
                place: String::from("config.xml:7"),
            };
            folders(&[described], &[], |path| path.starts_with("/shared")).join(" ")
        };
        let shared = "dir:///shared/repo";
        let fine = [
            "this://repo",
            "this://a/../repo",
            "http://m/x",
            "obs://A:B/c",
            "dir:///usr/src/x",
            "dir:///description/repo",
            shared,
        ];
        for fine in fine {
            assert_eq!(of(fine), "", "{fine}");
        }
        for (address, text) in [
            (format!("dir://{there}"), "--shared-path /"),
            (there.to_owned(), "--shared-path /"),
            (format!("dir:///shared/../{there}"), "--shared-path /"),
            ("this://../repo".to_owned(), "leads out"),
            ("dir:./repo".to_owned(), "relative"),
            ("dir:///nowhere/repo".to_owned(), "does not exist"),
        ] {
            let note = of(&address);
            assert!(note.contains(text), "{address}: {note}");
        }
    }
}
