//! One file from a server that misbehaves.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use boxbuild_boxes::catalog::Location;
use boxbuild_boxes::fetch::{
    Algorithm, Checksum, Client, Download, FetchError, FetchedFile, Meter, RetryPolicy, download,
};
use boxbuild_host::interrupt::Interrupt;

use crate::sandbox::names;
use crate::server::{Fault, Server};
use crate::sets::{noise, sha256, sha512};

const LEN: usize = 300_000;

/// A file on a server, and the folder that it is fetched to.
struct Fixture {
    server: Server,
    dir: tempfile::TempDir,
    content: Vec<u8>,
    expected: Checksum,
}

impl Fixture {
    fn new() -> Fixture {
        let content = noise(1, LEN);
        let server = Server::start();
        server.put("/f", content.clone());
        Fixture {
            server,
            dir: tempfile::tempdir().unwrap(),
            expected: Checksum {
                algorithm: Algorithm::Sha256,
                hex: sha256(&content),
            },
            content,
        }
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("f.part")
    }

    fn download(&self) -> Download {
        Download {
            location: Location::Web(format!("{}/f", self.server.url()).parse().unwrap()),
            fresh: false,
            expected: self.expected.clone(),
            part: self.part(),
        }
    }

    fn run(&self) -> Result<FetchedFile, FetchError> {
        self.run_download(&self.download())
    }

    fn run_download(&self, file: &Download) -> Result<FetchedFile, FetchError> {
        let retry = RetryPolicy {
            stall: Duration::from_millis(1000),
            backoff: Duration::from_millis(1),
            attempts: 3,
        };
        let client = Client::new(retry, Interrupt::default()).unwrap();
        download(&client, file, &Meter::default())
    }

    #[track_caller]
    fn good(&self) {
        let fetched = self.run().unwrap();
        assert_eq!(fetched.size, LEN as u64);
        assert_eq!(fs::read(self.part()).unwrap(), self.content);
    }

    /// Bytes sent since the last call.
    fn served(&self) -> u64 {
        self.server.take_served("/f")
    }
}

#[test]
fn a_file_is_fetched_once() {
    let fixture = Fixture::new();
    fixture.good();
    assert_eq!(fixture.served(), LEN as u64);
    // It is complete: nothing is asked for again.
    fixture.server.take_requests();
    fixture.good();
    assert!(fixture.server.take_requests().is_empty());
}

#[test]
fn a_page_that_says_404_is_not_a_file() {
    let fixture = Fixture::new();
    for status in [404, 403, 410] {
        fixture.server.fault("/f", Some(1), Fault::Status(status));
        let error = fixture.run().unwrap_err();
        assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        let length = fs::metadata(fixture.part()).map_or(0, |metadata| metadata.len());
        assert_eq!(length, 0);
    }
    fixture.server.fault("/f", Some(1), Fault::Status(400));
    assert!(matches!(fixture.run(), Err(FetchError::Refused { .. })));
}

#[test]
fn a_failing_server_is_asked_again_but_not_for_ever() {
    let fixture = Fixture::new();
    fixture.server.fault("/f", Some(1), Fault::Status(500));
    fixture.server.fault("/f", Some(1), Fault::Status(429));
    fixture.good();
    fs::remove_file(fixture.part()).unwrap();
    fixture.server.take_requests();
    fixture.server.fault("/f", None, Fault::Status(503));
    let error = fixture.run().unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(fixture.server.take_requests().len(), 3);
    // A port without a listener.
    let mut file = fixture.download();
    file.location = Location::Web("http://127.0.0.1:1/f".parse().unwrap());
    let error = fixture.run_download(&file).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let fixture = Fixture::new();
    fixture.server.put("/mirror/f", fixture.content.clone());
    let to = format!("{}/mirror/f", fixture.server.url());
    fixture.server.fault("/f", Some(1), Fault::Redirect(to));
    fixture.good();
    fs::remove_file(fixture.part()).unwrap();
    let circle = Fault::Redirect(String::from("/f"));
    fixture.server.fault("/f", None, circle);
    let error = fixture.run().unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
}

#[test]
fn a_broken_transfer_continues_where_it_ended() {
    for fault in [
        Fault::Truncate(100_000),
        Fault::Reset(100_000),
        Fault::Stall(100_000),
    ] {
        let fixture = Fixture::new();
        fixture.server.fault("/f", Some(2), fault.clone());
        fixture.good();
        // A reset may overtake bytes that were sent before.
        let more = fixture.served() - LEN as u64;
        assert!(more <= 200_000, "{fault:?}: {more}");
        if matches!(fault, Fault::Truncate(_)) {
            assert_eq!(more, 0, "{fault:?}");
        }
        let requests = fixture.server.take_requests();
        assert!(requests.iter().any(|request| request.range.is_some()));
    }
}

#[test]
fn bytes_survive_a_failed_fetch() {
    let fixture = Fixture::new();
    fixture.server.fault("/f", None, Fault::Truncate(0));
    fixture.server.fault("/f", None, Fault::Truncate(0));
    assert!(fixture.run().is_err());
    fixture.server.no_faults();
    fixture
        .server
        .fault("/f", Some(1), Fault::Truncate(200_000));
    fixture.server.fault("/f", None, Fault::Status(500));
    assert!(fixture.run().is_err());
    fixture.server.no_faults();
    fixture.served();
    fixture.good();
    assert_eq!(fixture.served(), 100_000);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all() {
    let fixture = Fixture::new();
    fixture
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    fixture.server.fault("/f", Some(1), Fault::IgnoreRange);
    fixture.good();
    assert_eq!(fixture.served(), LEN as u64 + 100_000);
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_from_its_beginning() {
    let fixture = Fixture::new();
    let old = noise(9, LEN);
    fixture.server.put("/f", old);
    fixture
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    fixture.server.fault("/f", None, Fault::Status(500));
    assert!(fixture.run().is_err());
    fixture.server.no_faults();
    fixture.server.put("/f", fixture.content.clone());
    fixture.server.take_requests();
    // If-Range: the server sees that it is another one.
    fixture.good();
    assert_eq!(fixture.server.take_requests().len(), 1);
}

#[test]
fn bytes_that_a_crash_of_the_host_spoilt_are_fetched_again() {
    let fixture = Fixture::new();
    fixture
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    fixture.server.fault("/f", None, Fault::Status(500));
    assert!(fixture.run().is_err());
    fixture.server.no_faults();
    let length = fs::metadata(fixture.part()).unwrap().len();
    fs::write(fixture.part(), vec![0; length as usize]).unwrap();
    fixture.good();
}

#[test]
fn a_wrong_checksum_leaves_nothing_behind() {
    let mut fixture = Fixture::new();
    fixture.expected.hex = sha256(b"something else");
    let error = fixture.run().unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    assert!(names(fixture.dir.path()).is_empty());
}

#[test]
fn wrong_lengths_are_noticed() {
    let fixture = Fixture::new();
    fixture.server.fault("/f", None, Fault::TooShort(1000));
    let error = fixture.run().unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    fixture.server.no_faults();
    fixture.server.fault("/f", None, Fault::TooLong(1000));
    assert!(fixture.run().is_err());
    fixture.server.no_faults();
    fixture.server.fault("/f", Some(1), Fault::NoLength);
    fixture.good();
}

#[test]
fn a_slow_server_is_waited_for() {
    let fixture = Fixture::new();
    fixture
        .server
        .fault("/f", Some(1), Fault::Slow(30_000, 100));
    fixture.good();
    assert_eq!(fixture.server.take_requests().len(), 1);
}

#[test]
fn sha512_is_checked_as_well() {
    let mut fixture = Fixture::new();
    fixture.expected = Checksum {
        algorithm: Algorithm::Sha512,
        hex: sha512(&fixture.content),
    };
    let fetched = fixture.run().unwrap();
    assert_eq!(fetched.sha512, Some(sha512(&fixture.content)));
    assert_eq!(fetched.sha256, sha256(&fixture.content));
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_is_given_up() {
    let fixture = Fixture::new();
    fixture.server.fault("/f", None, Fault::Slow(1, 200));
    let start = std::time::Instant::now();
    let error = fixture.run().unwrap_err();
    assert!(error.to_string().contains("sent only"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
}
