//! Whether this host has a way into the world, by version of IP.

/// The host's routes over IPv4 (proc_net(5)).
pub(super) const ROUTES_4: &str = "/proc/net/route";
/// The same over IPv6.
pub(super) const ROUTES_6: &str = "/proc/net/ipv6_route";

/// Flags of routes (linux/route.h): `RTF_UP`, `RTF_REJECT`.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// Whether there is a default route over IPv4: a line of [`ROUTES_4`] for 0.0.0.0/0 that is up and leads
/// somewhere.
pub(super) fn host_has_ipv4(routes: &str) -> bool {
    routes.lines().any(|line| {
        // Interface, destination, gateway, flags, references, use, metric, mask.
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let [interface, to, _, flags, _, _, _, mask] = fields[..] else {
            return false;
        };
        let all = |hex: &str| hex == "00000000";
        all(to) && all(mask) && leads(flags) && interface != "lo"
    })
}

/// Whether there is a default route over IPv6: a line of [`ROUTES_6`] for ::/0 that is up and leads
/// somewhere.
pub(super) fn host_has_ipv6(routes: &str) -> bool {
    routes.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_default = fields
            .next()
            .is_some_and(|to| to.bytes().all(|b| b == b'0'))
            && fields.next() == Some("00");
        let flags = fields.nth(6);
        is_default && flags.is_some_and(leads) && fields.next() != Some("lo")
    })
}

fn leads(flags: &str) -> bool {
    let flags = u32::from_str_radix(flags, 16);
    flags.is_ok_and(|flags| flags & (UP | REJECT) == UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_way_into_the_world() {
        let zeros = "0".repeat(32);
        let line = |to: &str, len: &str, flags: &str, interface: &str| {
            format!(
                "{to} {len} {zeros} 00 {zeros} 00000400 00000001 00000000 {flags} {interface}\n"
            )
        };
        assert!(host_has_ipv6(&line(&zeros, "00", "00000003", "eth0")));
        assert!(!host_has_ipv6(&line(&zeros, "00", "00200200", "lo")));
        assert!(!host_has_ipv6(&line(&zeros, "00", "00000003", "lo")));
        assert!(!host_has_ipv6(&line(
            &"f".repeat(32),
            "40",
            "00000001",
            "eth0"
        )));
        assert!(!host_has_ipv6("nonsense\n\n"));
    }

    #[test]
    fn the_hosts_way_into_the_world_of_ipv4() {
        let table = |line: &str| {
            format!("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n{line}\n")
        };
        let has = |line: &str| host_has_ipv4(&table(line));
        assert!(has(
            "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"
        ));
        assert!(!has(
            "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"
        ));
        // Half of the world is no default, and a rejecting route leads nowhere.
        assert!(!has(
            "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0"
        ));
        assert!(!has(
            "eth0\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0"
        ));
        assert!(!has(""));
    }
}
