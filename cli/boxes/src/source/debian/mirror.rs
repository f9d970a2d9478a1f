//! A mirror of a distribution: whether it is one, before anything is made of it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use boxbuild_host::secret;
use reqwest::Url;

use crate::source::command::Workshop;
use crate::source::error::{CommandError, SourceError};

/// apt's own client (package apt): it has the host's proxies, certificates and passwords.
const HELPER: &str = "/usr/lib/apt/apt-helper";
/// Seconds until a server has answered.
const PATIENCE: u32 = 10;
/// What apt reads (apt-transport-*(1), sources.list(5)), by what is before the `://` or `:/`.
const SCHEMES: [&str; 4] = ["http", "https", "file", "copy"];

/// Checks the text of an address, before anything is started.
///
/// # Errors
/// If apt would not understand it.
pub(super) fn check_address(mirror: &str) -> Result<(), SourceError> {
    let refuse = |problem: &str| {
        Err(SourceError::Usage(format!(
            "--mirror {}: {problem}; the address of a mirror is like http://mirror.example/debian",
            secret::redact(mirror)
        )))
    };
    // A line of sources.list(5) has the address between spaces and may have options in brackets.
    if mirror.is_empty()
        || mirror.contains(|c: char| c.is_whitespace() || c.is_control() || c == '[')
    {
        return refuse("no address has spaces or brackets");
    }
    // Transports of other packages, and lists of mirrors: apt knows best.
    let scheme = mirror.split(':').next().unwrap_or_default();
    if scheme.contains('+') && mirror.contains(":/") {
        return Ok(());
    }
    let Ok(url) = Url::parse(mirror) else {
        return refuse("it is no address");
    };
    // A parser takes the first part of a path for the host if there is none.
    let nameless = mirror.contains(":///") || !mirror.contains("://");
    match url.scheme() {
        "http" | "https" if nameless => refuse("it names no host"),
        scheme if SCHEMES.contains(&scheme) => Ok(()),
        scheme => refuse(&format!("apt knows no {scheme}:// here")),
    }
}

/// Looks whether `mirror` has `suite` of the distribution `title`, with its updates.
///
/// # Errors
/// If it does not answer, or does not have them.
pub(super) fn check(
    mirror: &str,
    title: &str,
    suite: &str,
    workshop: &Workshop<'_>,
) -> Result<(), SourceError> {
    let reachable = ["http://", "https://", "file:/", "copy:/"];
    if !reachable.iter().any(|scheme| mirror.starts_with(scheme)) || !Path::new(HELPER).exists() {
        // apt finds out.
        return Ok(());
    }
    let mirror = mirror.trim_end_matches('/');
    for suite in [suite.to_owned(), format!("{suite}-updates")] {
        let fetched = fetch(mirror, &suite, "InRelease", workshop);
        // Smaller repositories have the older pair of files.
        let fetched = fetched.or_else(|error| match missing(&error) {
            true => fetch(mirror, &suite, "Release", workshop).map_err(|_| error),
            false => Err(error),
        });
        fetched.map_err(|error| in_words(mirror, title, &suite, error))?;
    }
    Ok(())
}

fn fetch(
    mirror: &str,
    suite: &str,
    file: &str,
    workshop: &Workshop<'_>,
) -> Result<(), CommandError> {
    let mut command = Command::new(HELPER);
    let options =
        ["http", "https"].map(|scheme| format!("-oAcquire::{scheme}::Timeout={PATIENCE}"));
    let to = workshop.dir.join("release");
    // One that is there is not fetched again.
    let _ = std::fs::remove_file(&to);
    command
        .args(["-oAcquire::Retries=0", "-oAPT::Sandbox::User=root"])
        .args(options)
        .arg("download-file")
        .arg(format!("{mirror}/dists/{suite}/{file}"))
        .arg(OsString::from(&to));
    workshop.run_command("apt-helper", command)
}

/// Whether the server has answered that it has no such file.
fn missing(error: &CommandError) -> bool {
    let CommandError::Failed { output, .. } = error else {
        return false;
    };
    let said = |line: &String| {
        let words = ["404", "File not found", "No such file", "403"];
        words.iter().any(|word| line.contains(word))
    };
    output.iter().any(said)
}

fn in_words(mirror: &str, title: &str, suite: &str, error: CommandError) -> SourceError {
    let absent = missing(&error);
    let CommandError::Failed { output, .. } = error else {
        return SourceError::Command(error);
    };
    // `E: Failed to fetch ADDRESS  REASON`.
    let reason = output.iter().find_map(|line| {
        let line = line.strip_prefix("E: Failed to fetch ")?;
        line.split_once("  ").map(|(_, reason)| reason.trim())
    });
    let last = || output.last().map_or("apt-helper failed", String::as_str);
    let reason = reason.unwrap_or_else(last);
    let mirror = secret::redact(mirror);
    SourceError::Host(if absent {
        format!(
            "the mirror {mirror} has no release '{suite}' of {title} ({reason}); name another one with \
             --mirror URL, with the folder that has dists/ in it"
        )
    } else {
        format!(
            "the mirror {mirror} does not answer: {reason}; check the network, or name another one with \
             --mirror URL"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use boxbuild_host::interrupt::Interrupt;

    use super::*;
    use crate::source::host::Host;

    #[test]
    fn what_is_no_address_is_refused_at_once() {
        for mirror in [
            "",
            "nonsense",
            "mirror.example/debian",
            "http://",
            "http:///debian",
            "http://a.example/debian trixie main\ndeb http://evil.example",
            "[trusted=yes] http://a.example",
            "ftp://a.example/debian",
            "gopher://a.example",
        ] {
            let error = check_address(mirror).unwrap_err().to_string();
            assert!(error.contains("http://mirror.example/debian"), "{error}");
        }
        for mirror in [
            "http://a.example/debian",
            "https://me:pw@a.example:8443",
            "file:///srv/debian",
            "copy:/srv/debian",
            "mirror+file:/etc/apt/mirrors",
            "tor+http://a.onion/debian",
        ] {
            check_address(mirror).unwrap();
        }
        let error = check_address("x://me:s3cret@a").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    /// C8: it took twenty seconds and a page of apt's.
    #[test]
    fn a_mirror_that_does_not_answer_is_noticed_in_a_second() {
        if !Path::new(HELPER).exists() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: a_mirror_that_does_not_answer_is_noticed_in_a_second: no {HELPER}"
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::default();
        let host = Host::check(&[]).unwrap();
        let workshop = Workshop::new(dir.path().to_owned(), &host, &interrupt);
        let check = |mirror: &str| {
            let start = Instant::now();
            let error = check(mirror, "Debian", "trixie", &workshop)
                .unwrap_err()
                .to_string();
            assert!(start.elapsed() < Duration::from_secs(5), "{error}");
            assert!(
                error.contains("--mirror URL") && error.lines().count() == 1,
                "{error}"
            );
            error
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = check(&format!("http://{address}/debian"));
        assert!(
            error.contains("does not answer: Could not connect"),
            "{error}"
        );
        let error = check(&format!("file://{}", dir.path().display()));
        assert!(error.contains("no release 'trixie'"), "{error}");

        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let error = check(&format!("http://{address}/"));
        assert!(
            error.contains("no release 'trixie'") && error.contains("404"),
            "{error}"
        );

        // One that has it.
        for suite in ["trixie", "trixie-updates"] {
            let suite = dir.path().join("dists").join(suite);
            std::fs::create_dir_all(&suite).unwrap();
            std::fs::write(suite.join("Release"), "Suite: x\n").unwrap();
        }
        let mirror = format!("file://{}/", dir.path().display());
        super::check(&mirror, "Debian", "trixie", &workshop).unwrap();
    }
}
