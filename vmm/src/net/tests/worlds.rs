//! Hosts with one version of IP, or with one that leads nowhere.

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::super::tcp::{RST, SYN};
use super::*;

const SIX: &str = "2a00:1450::1";

/// Runs `test` on a host of its own: a network namespace in which these `ip` commands were run.
fn on_a_host(name: &str, commands: &[&str], test: impl FnOnce() + Send + 'static) {
    let commands: Vec<String> = commands.iter().map(ToString::to_string).collect();
    let made = thread::spawn(move || {
        // Only of this thread.
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        for command in &commands {
            let mut ip = Command::new("ip");
            let ip = ip.args(command.split(' ')).stderr(Stdio::null()).status();
            if !ip.is_ok_and(|status| status.success()) {
                return Err(format!("ip {command} fails"));
            }
        }
        test();
        Ok(())
    });
    if let Err(reason) = made.join().unwrap() {
        let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
    }
}

fn both() -> NetworkConfig {
    let host = HostNetwork {
        ipv4: true,
        ipv6: true,
        ..HostNetwork::default()
    };
    NetworkConfig {
        host: host.into(),
        ..NetworkConfig::default()
    }
}

/// How long the guest waits for the answer to a SYN, which is a reset.
fn refused(guest: &mut Guest, to: &str, port: u16) -> Duration {
    let mut syn = port.to_be_bytes().to_vec();
    syn.extend(80_u16.to_be_bytes());
    syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let to: IpAddr = to.parse().unwrap();
    let own = match to {
        IpAddr::V4(_) => IpAddr::V4(GUEST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(PREFIX_6.to_bits() | 0x15)),
    };
    let start = Instant::now();
    let frame = from_guest(with_headers((own, to), PROTOCOL_TCP, 64, &syn));
    guest.nat.take(&frame);
    loop {
        guest.nat.poll();
        if let Some(frame) = guest.nat.next_frame() {
            let packet = Packet::parse(&frame.bytes);
            assert_eq!(packet.payload[2..4], port.to_be_bytes());
            assert_eq!(packet.payload[13] & RST, RST);
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "no answer");
        thread::sleep(Duration::from_millis(1));
    }
}

/// C4: a default route that leads nowhere. The kernel waits for two minutes.
#[test]
fn a_world_that_leads_nowhere_is_given_up_in_seconds() {
    let commands = [
        "link add way0 type veth peer name way1",
        // No neighbour is looked for, and none is there.
        "link set way0 arp off up",
        "link set way1 arp off up",
        "address add 2a00:1450:1::2/64 dev way0 nodad",
        "route add default dev way0",
        "-6 route add default dev way0",
    ];
    on_a_host(
        "a_world_that_leads_nowhere_is_given_up_in_seconds",
        &commands,
        || {
            let mut guest = Guest::new(both(), false);
            let times: Vec<Duration> = (0..5)
                .map(|number| refused(&mut guest, SIX, 40000 + number))
                .collect();
            assert!(
                times.iter().all(|time| *time < Duration::from_secs(5)),
                "{times:?}"
            );
            // Slow servers have their time, until nothing has answered a few times.
            assert!(times[0] > Duration::from_secs(2), "{times:?}");
            assert!(times[4] < Duration::from_secs(2), "{times:?}");
            assert_eq!(guest.nat.load(), (0, 0, 0));
        },
    );
}

/// C4: a host with IPv6 only, and one with IPv4 only.
#[test]
fn a_world_without_a_route_is_refused_at_once() {
    let commands = ["link set lo up"];
    on_a_host(
        "a_world_without_a_route_is_refused_at_once",
        &commands,
        || {
            let mut guest = Guest::new(both(), false);
            for to in ["1.2.3.4", SIX] {
                let time = refused(&mut guest, to, 40000);
                assert!(time < Duration::from_secs(1), "{to}: {time:?}");
            }
            assert_eq!(guest.nat.load(), (0, 0, 0));
        },
    );
}
