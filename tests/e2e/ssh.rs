//! The way into a box while it runs: `--ssh-port` and `--ssh-key`.
//!
//! The small box has no sshd. The description brings the distribution's (tests/support/sshd.rs), or a
//! stand-in: it keeps the words that it was called with, and serves port 22 with a greeting and an echo.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use boxbuild_tests::{ProcessOutput, Running, Sandbox, scaled_timeout, skip};

crate::tests! {
    Engine:
        a_port_leads_to_the_boxs_sshd,
        a_real_sshd_lets_in_the_key_alone;
    Program:
        a_box_booted_by_its_own_init_gets_the_key,
        a_box_without_sshd_is_reported,
        a_port_in_use_is_refused_before_anything_changes;
}

/// A public key of OpenSSH; its private half is nowhere.
const KEY: &str = "ssh-ed25519 \
                   AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

/// Serves one connection, and lets the build come to its end.
const SERVE: &str = "#!/bin/sh
echo hello
cat
touch /tmp/served
";

const SSHD: &str = "#!/bin/sh
printf '%s\\n' \"$@\" >/tmp/words
nc -ll -p 22 -e /usr/local/bin/serve </dev/null >/dev/null 2>&1 &
";

const WAIT: &str = "while [ ! -e /tmp/served ]; do sleep 0.1; done
cp /tmp/words /result/words
cp /run/boxbuild/authorized_keys /result/keys
stat -c %u:%a /run/boxbuild/authorized_keys >>/result/keys";

fn key(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("key.pub");
    fs::write(&path, format!("{KEY} me@here\n")).unwrap();
    path
}

fn bring(sandbox: &Sandbox, place: &str, script: &str) {
    let path = sandbox.description().join("boxroot").join(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The port that the build prints.
fn port(build: &Running) -> u16 {
    let stderr = build.stderr();
    let (before, _) = stderr.split_once(" leads to port 22 of the box").unwrap();
    let (_, port) = before.rsplit_once("127.0.0.1:").unwrap();
    port.parse().unwrap()
}

/// Speaks with the box of `build` behind `port`: as soon as it answers, a megabyte goes there and
/// back.
fn speak(build: &mut Running, port: u16) {
    let start = Instant::now();
    let (mut stream, mut greeting) = loop {
        assert!(start.elapsed() < scaled_timeout(200), "no answer");
        let greeted = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| {
            let mut greeting = [0; 6];
            stream.read_exact(&mut greeting)?;
            Ok((stream, greeting.to_vec()))
        });
        match greeted {
            Ok(greeted) => break greeted,
            Err(error) if build.has_ended() => panic!("{error}: {}", build.stderr()),
            // Nothing listens there yet.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let data: Vec<u8> = (0..1 << 20).map(|at| (at / 7 % 251) as u8).collect();
    let writer = {
        let mut stream = stream.try_clone().unwrap();
        let data = data.clone();
        std::thread::spawn(move || {
            stream.write_all(&data).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    stream.read_to_end(&mut greeting).unwrap();
    writer.join().unwrap();
    assert_eq!(&greeting[..6], b"hello\n");
    assert!(greeting[6..] == data, "{} bytes came back", greeting.len());
}

/// Starts a fast boot that `key` opens on any port, and waits until boxbuild prints `until`.
fn start_open(sandbox: &Sandbox, key: &Path, until: &str) -> Running {
    let key = key.to_str().expect("a path in UTF-8");
    let front = ["--boot=fast", "--timeout=20m", "--ssh-port=0", "--ssh-key"];
    sandbox.start_until(&[&front[..], &[key]].concat(), until)
}

fn a_port_leads_to_the_boxs_sshd() {
    let sandbox = Sandbox::new(WAIT);
    bring(&sandbox, "usr/sbin/sshd", SSHD);
    bring(&sandbox, "usr/local/bin/serve", SERVE);
    // It is not made again where there is one.
    bring(&sandbox, "etc/ssh/ssh_host_ed25519_key", "");
    let key = key(&sandbox);
    let mut build = start_open(&sandbox, &key, "leads to port 22");
    let port = port(&build);
    // On no other address than this one.
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
    speak(&mut build, port);
    let command = format!("the box is open: ssh -p {port} ");
    build.finish().expect(0, &[&command]);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    let words = fs::read_to_string(sandbox.target().join("words")).unwrap();
    for word in [
        "AuthorizedKeysFile=/run/boxbuild/authorized_keys",
        "AuthenticationMethods=publickey",
    ] {
        assert!(words.contains(word), "{words}");
    }
    assert_eq!(
        fs::read_to_string(sandbox.target().join("keys")).unwrap(),
        format!("{KEY}\n0:600\n")
    );
    sandbox.assert_nothing_left();
}

fn a_box_booted_by_its_own_init_gets_the_key() {
    let sandbox = Sandbox::new(
        "cat /proc/cmdline >/result/cmdline
         ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up
         chmod 0755 /tmp
         printf '#!/bin/sh\\necho hello\\ncat\\n' >/tmp/serve
         chmod 0755 /tmp/serve
         nc -l -p 22 -e /tmp/serve",
    );
    let key = key(&sandbox);
    let front = [
        "--boot",
        "compat",
        "--timeout=20m",
        "--ssh-port=0",
        "--ssh-key",
    ];
    let mut build = sandbox.start_until(
        &[&front[..], &[key.to_str().unwrap()]].concat(),
        "leads to port 22",
    );
    let port = port(&build);
    speak(&mut build, port);
    build.finish().expect(0, &["it may accept passwords"]);
    let cmdline = fs::read_to_string(sandbox.target().join("cmdline")).unwrap();
    let (kind, data) = KEY.split_once(' ').unwrap();
    for item in [
        format!("ssh_key=_{data}_"),
        format!("ssh_key_type=_{kind}_"),
    ] {
        assert!(cmdline.contains(&item), "{cmdline}");
    }
    sandbox.assert_nothing_left();
}

/// Whatever the box's own configuration allows: passwords, root, other keys.
fn a_real_sshd_lets_in_the_key_alone() {
    let skipped = |why: &str| skip("a_real_sshd_lets_in_the_key_alone", why);
    // The distribution's sshd is made with the boxes.
    let sandbox = Sandbox::new("while [ ! -e /tmp/served ]; do sleep 0.1; done; touch /result/x");
    let sshd = boxbuild_tests::env::sshd_folder();
    if !sshd.exists() {
        return skipped("there is no sshd for the box here (tests/support/sshd.rs)");
    }
    if Command::new("ssh").arg("-V").output().is_err() {
        return skipped("the program ssh is not installed");
    }
    let boxroot = sandbox.description().join("boxroot");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(sshd)
        .arg(&boxroot)
        .status();
    assert!(copied.unwrap().success());
    let [key, other] = ["key", "other"].map(|name| {
        let path = sandbox.path(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path);
        assert!(keygen.status().unwrap().success());
        path
    });
    let config = "PermitRootLogin no\nPasswordAuthentication yes\nPermitEmptyPasswords yes\n";
    fs::write(boxroot.join("etc/ssh/sshd_config"), config).unwrap();
    fs::create_dir_all(boxroot.join("root/.ssh")).unwrap();
    fs::copy(
        other.with_extension("pub"),
        boxroot.join("root/.ssh/authorized_keys"),
    )
    .unwrap();

    let build = start_open(&sandbox, &key, "the box is open: ");
    let port = port(&build).to_string();
    let ssh = |key: &Path, command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &port, "-o", "BatchMode=yes"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=120"]);
        ssh.args(["-o", "NoHostAuthenticationForLocalhost=yes", "-i"]);
        ssh.arg(key).args(["root@127.0.0.1", command]);
        ProcessOutput::of(&mut ssh)
    };
    let output = ssh(&other, "id -u");
    assert_eq!(output.code, 255, "{output:?}");
    assert!(
        output.stderr.contains("Permission denied (publickey)"),
        "{output:?}"
    );
    let output = ssh(&key, "id -u; cat /proc/1/comm; touch /tmp/served");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "0\ninit\n"),
        "{output:?}"
    );
    build.finish().expect(0, &[]);
    sandbox.assert_nothing_left();
}

fn a_box_without_sshd_is_reported() {
    let sandbox = Sandbox::new("touch /result/x");
    let key = key(&sandbox);
    let front = ["--boot", "fast", "--ssh-port", "0", "--ssh-key"];
    let output = sandbox.build(&[&front[..], &[key.to_str().unwrap()]].concat(), &[]);
    output.expect(0, &["leads to port 22", "the box has no sshd"]);
    assert!(!output.stderr.contains("is open"), "{}", output.stderr);
    sandbox.assert_nothing_left();
}

fn a_port_in_use_is_refused_before_anything_changes() {
    let sandbox = Sandbox::new("touch /result/x");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let number = taken.local_addr().unwrap().port().to_string();
    sandbox
        .build(&["--ssh-port", &number], &[])
        .expect(3, &[&address, "another", "in use"]);
    assert!(!sandbox.target().exists());
    sandbox.assert_nothing_left();
}
