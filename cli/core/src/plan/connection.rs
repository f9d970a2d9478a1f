//! How a build is connected.

use boxbuild_boxes::store::BoxInfo;
use boxbuild_engine::Network;

use super::error::PlanError;
use super::options;
use super::repositories::Connection;
use crate::boot::RunsAs;
use crate::host_facts::HostFacts;
use crate::kiwi_paths::Reach;
use crate::request::BuildRequest;

/// How a build is connected, and what the user should know of it.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) connection: Connection<'a>,
    pub(super) note: Option<String>,
}

/// Settles how the build is connected. A container has a network of its own where that is of use, and possible.
///
/// # Errors
/// Fails if it has to be and cannot.
pub(super) fn settle<'a>(
    request: &'a BuildRequest,
    host: &HostFacts,
    info: &BoxInfo,
    runs_as: RunsAs,
) -> Result<Link<'a>, PlanError> {
    let is_container = runs_as.is_container();
    let is_natted = is_container && options::reach(runs_as, info) == Reach::Files;
    let offline = request.is_offline();
    let mut link = Link {
        connection: Connection {
            runs_as,
            is_natted,
            is_private: false,
            offline,
            network: request.network,
            allow: &request.allow,
        },
        note: None,
    };
    if !is_container || request.network == Network::None {
        return Ok(link);
    }
    if is_natted {
        // Its own init system sets up nothing of ours.
        link.note = offline.then(|| {
            String::from(
                "--offline: a container of this image has no network; the cache of packages serves boxes \
                 that boxbuild makes (boxbuild box create)",
            )
        });
        return Ok(link);
    }
    if !request.package_cache && !offline {
        return Ok(link);
    }
    match (host.no_container_network)() {
        None => link.connection.is_private = true,
        Some(why) if offline => {
            return Err(PlanError::Option(format!(
                "--offline: the container cannot have a network of its own: {why}; without a network at \
                 all: --network none"
            )));
        }
        Some(why) => {
            link.note = Some(format!(
                "packages do not come from the cache: the container cannot have a network of its own: {why}"
            ));
        }
    }
    Ok(link)
}

/// What the user should know of repositories that an offline build cannot have from the cache.
pub(super) fn not_in_the_cache(
    connection: Connection<'_>,
    repositories: &[String],
) -> Option<String> {
    let other =
        |address: &&String| address.starts_with("https://") || address.starts_with("ftp://");
    let first = repositories.iter().find(other)?;
    let wanted = connection.offline && connection.network != Network::None;
    wanted.then(|| {
        format!(
            "--offline: {first}: the cache of packages keeps what is fetched over http; name an http address \
             of that mirror, if it has one, and build once without --offline"
        )
    })
}

#[cfg(test)]
mod tests {
    use boxbuild_engine::podman::Mode;

    use super::super::tests::{host, plan, plan_on};
    use super::*;
    use crate::request::Fetch;

    #[test]
    fn a_container_has_a_network_of_its_own_where_that_is_of_use() {
        let with = |change: &dyn Fn(&mut BuildRequest)| {
            let plan = plan(|request| {
                request.container = Some(Mode::Rootless);
                change(request);
            });
            let plan = plan.unwrap();
            (plan.private_network, plan.package_cache)
        };
        assert_eq!(with(&|_| ()), (true, true));
        assert_eq!(
            with(&|request| request.package_cache = false),
            (false, false)
        );
        assert_eq!(
            with(&|request| request.network = Network::None),
            (false, false)
        );
        let offline = |request: &mut BuildRequest| {
            request.fetch = Fetch::Nothing;
            request.package_cache = false;
        };
        assert_eq!(with(&offline), (true, false));
        assert!(!plan(|_| ()).unwrap().private_network, "a machine");
    }

    #[test]
    fn a_repository_that_no_cache_keeps_is_named_offline() {
        let notes = |offline: bool, address: &str| {
            let plan = plan(|request| {
                request.build.rest = vec!["--add-repo".into(), address.into()];
                if offline {
                    request.fetch = Fetch::Nothing;
                }
            });
            plan.unwrap().notes.concat()
        };
        let https = "https://me:pw@m.example/x,apt-deb";
        let note = notes(true, https);
        assert!(
            note.starts_with("--offline: https://") && !note.contains("pw"),
            "{note}"
        );
        assert_eq!(notes(false, https), "");
        assert_eq!(notes(true, "http://m.example/x"), "");
        let error = plan(|request| {
            request.fetch = Fetch::Nothing;
            request.kiwi_version = Some(String::from("10.2.33"));
        });
        assert!(error.unwrap_err().to_string().contains("--offline"));
    }

    #[test]
    fn a_host_without_taps_builds_as_ever_and_says_so() {
        let mut host = host();
        host.no_container_network = || Some(String::from("/dev/net/tun: gone"));
        let on = |offline: bool| {
            plan_on(&host, |request| {
                request.container = Some(Mode::Rootful);
                if offline {
                    request.fetch = Fetch::Nothing;
                }
            })
        };
        let plan = on(false).unwrap();
        assert!(!plan.private_network && !plan.package_cache);
        assert!(
            plan.notes
                .iter()
                .any(|note| note.contains("/dev/net/tun: gone"))
        );
        let error = on(true).unwrap_err().to_string();
        assert!(
            error.starts_with("--offline: ") && error.contains("gone"),
            "{error}"
        );
    }

    /// As in the host's network: a mirror or proxy of this host has the address that it always had.
    #[test]
    fn services_of_this_host_keep_their_address_in_a_container() {
        let mut host = host();
        host.environment = vec![("http_proxy".into(), "http://localhost:3128".into())];
        let plan = plan_on(&host, |request| {
            request.container = Some(Mode::Rootless);
            request.build.rest = ["--add-repo", "http://127.0.0.1:9/x,apt-deb"]
                .map(Into::into)
                .to_vec();
        });
        let plan = plan.unwrap();
        assert_eq!(
            plan.environment,
            [(String::from("http_proxy"), "http://localhost:3128".into())]
        );
        let ports: Vec<u16> = plan
            .host_proxies
            .iter()
            .map(std::net::SocketAddr::port)
            .collect();
        assert_eq!(ports, [3128, 9]);
        assert!(
            plan.kiwi_args
                .iter()
                .any(|word| word == "http://127.0.0.1:9/x,apt-deb")
        );
    }
}
