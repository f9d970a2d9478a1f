//! One file from a server that misbehaves.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boxbuild_boxes::catalog::Location;
use boxbuild_boxes::fetch::{
    self, Algorithm, Checksum, Client, Destination, FetchError, Fetched, Job, Meter, Patience,
};
use boxbuild_host::interrupt::Interrupt;

use crate::bench::names;
use crate::server::{Fault, Server};
use crate::sets::{archive, noise, sha256, sha512};

const LEN: usize = 300_000;

struct Download {
    server: Server,
    dir: tempfile::TempDir,
    content: Vec<u8>,
    expected: Checksum,
}

impl Download {
    fn new() -> Download {
        let content = noise(1, LEN);
        let server = Server::start();
        server.put("/f", content.clone());
        Download {
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

    fn job(&self) -> Job {
        Job {
            location: Location::Web(format!("{}/f", self.server.url()).parse().unwrap()),
            fresh: false,
            expected: self.expected.clone(),
            part: self.part(),
            unpack: None,
        }
    }

    fn run(&self) -> Result<Fetched, FetchError> {
        self.run_job(&self.job())
    }

    fn run_job(&self, job: &Job) -> Result<Fetched, FetchError> {
        let patience = Patience {
            stall: Duration::from_millis(1000),
            backoff: Duration::from_millis(1),
            attempts: 3,
        };
        let client = Client::new(patience, Interrupt::default()).unwrap();
        fetch::fetch(&client, job, &Arc::new(Meter::default()))
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
    let download = Download::new();
    download.good();
    assert_eq!(download.served(), LEN as u64);
    // It is complete: nothing is asked for again.
    download.server.take_requests();
    download.good();
    assert!(download.server.take_requests().is_empty());
}

#[test]
fn a_page_that_says_404_is_not_a_file() {
    let download = Download::new();
    for status in [404, 403, 410] {
        download.server.fault("/f", Some(1), Fault::Status(status));
        let error = download.run().unwrap_err();
        assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        let length = fs::metadata(download.part()).map_or(0, |metadata| metadata.len());
        assert_eq!(length, 0);
    }
    download.server.fault("/f", Some(1), Fault::Status(400));
    assert!(matches!(download.run(), Err(FetchError::Refused { .. })));
}

#[test]
fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let download = Download::new();
    download.server.fault("/f", Some(1), Fault::Status(500));
    download.server.fault("/f", Some(1), Fault::Status(429));
    download.good();
    fs::remove_file(download.part()).unwrap();
    download.server.take_requests();
    download.server.fault("/f", None, Fault::Status(503));
    let error = download.run().unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(download.server.take_requests().len(), 3);
    // Nobody listens there.
    let mut job = download.job();
    job.location = Location::Web("http://127.0.0.1:1/f".parse().unwrap());
    let error = download.run_job(&job).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let download = Download::new();
    download.server.put("/mirror/f", download.content.clone());
    let to = format!("{}/mirror/f", download.server.url());
    download.server.fault("/f", Some(1), Fault::Redirect(to));
    download.good();
    fs::remove_file(download.part()).unwrap();
    let circle = Fault::Redirect(String::from("/f"));
    download.server.fault("/f", None, circle);
    let error = download.run().unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
}

#[test]
fn what_broke_off_goes_on_where_it_ended() {
    for fault in [
        Fault::Truncate(100_000),
        Fault::Reset(100_000),
        Fault::Stall(100_000),
    ] {
        let download = Download::new();
        download.server.fault("/f", Some(2), fault.clone());
        download.good();
        // A reset may overtake bytes that were sent before.
        let more = download.served() - LEN as u64;
        assert!(more <= 200_000, "{fault:?}: {more}");
        if matches!(fault, Fault::Truncate(_)) {
            assert_eq!(more, 0, "{fault:?}");
        }
        let requests = download.server.take_requests();
        assert!(requests.iter().any(|request| request.range.is_some()));
    }
}

#[test]
fn bytes_survive_the_process() {
    let download = Download::new();
    download.server.fault("/f", None, Fault::Truncate(0));
    download.server.fault("/f", None, Fault::Truncate(0));
    assert!(download.run().is_err());
    download.server.no_faults();
    download
        .server
        .fault("/f", Some(1), Fault::Truncate(200_000));
    download.server.fault("/f", None, Fault::Status(500));
    assert!(download.run().is_err());
    download.server.no_faults();
    download.served();
    download.good();
    assert_eq!(download.served(), 100_000);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all() {
    let download = Download::new();
    download
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    download.server.fault("/f", Some(1), Fault::IgnoreRange);
    download.good();
    assert_eq!(download.served(), LEN as u64 + 100_000);
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_from_its_beginning() {
    let download = Download::new();
    let old = noise(9, LEN);
    download.server.put("/f", old);
    download
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    download.server.fault("/f", None, Fault::Status(500));
    assert!(download.run().is_err());
    download.server.no_faults();
    download.server.put("/f", download.content.clone());
    download.server.take_requests();
    // If-Range: the server sees that it is another one.
    download.good();
    assert_eq!(download.server.take_requests().len(), 1);
}

#[test]
fn bytes_that_a_crash_of_the_host_spoilt_are_fetched_again() {
    let download = Download::new();
    download
        .server
        .fault("/f", Some(1), Fault::Truncate(100_000));
    download.server.fault("/f", None, Fault::Status(500));
    assert!(download.run().is_err());
    download.server.no_faults();
    let length = fs::metadata(download.part()).unwrap().len();
    fs::write(download.part(), vec![0; length as usize]).unwrap();
    download.good();
}

#[test]
fn a_wrong_checksum_leaves_nothing_behind() {
    let mut download = Download::new();
    download.expected.hex = sha256(b"something else");
    let error = download.run().unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    assert!(names(download.dir.path()).is_empty());
}

#[test]
fn lengths_that_are_lies() {
    let download = Download::new();
    download.server.fault("/f", None, Fault::TooShort(1000));
    let error = download.run().unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    download.server.no_faults();
    download.server.fault("/f", None, Fault::TooLong(1000));
    assert!(download.run().is_err());
    download.server.no_faults();
    download.server.fault("/f", Some(1), Fault::NoLength);
    download.good();
}

#[test]
fn a_slow_server_is_waited_for() {
    let download = Download::new();
    download
        .server
        .fault("/f", Some(1), Fault::Slow(30_000, 100));
    download.good();
    assert_eq!(download.server.take_requests().len(), 1);
}

#[test]
fn sha512_counts_as_well() {
    let mut download = Download::new();
    download.expected = Checksum {
        algorithm: Algorithm::Sha512,
        hex: sha512(&download.content),
    };
    let fetched = download.run().unwrap();
    assert_eq!(fetched.sha512, Some(sha512(&download.content)));
    assert_eq!(fetched.sha256, sha256(&download.content));
}

#[test]
fn the_kernel_is_unpacked_while_it_arrives_in_pieces() {
    let kernel = noise(3, 200_000);
    let mut download = Download::new();
    download.content = archive(&kernel);
    download.expected.hex = sha256(&download.content);
    download.server.put("/f", download.content.clone());
    download
        .server
        .fault("/f", Some(1), Fault::Truncate(50_000));
    download.server.fault("/f", Some(1), Fault::Reset(50_000));
    let mut job = download.job();
    job.unpack = Some(Destination {
        kernel: download.dir.path().join("kernel"),
        initrd: Some(download.dir.path().join("initrd")),
    });
    let unpacked = download.run_job(&job).unwrap().unpacked.unwrap();
    assert_eq!(unpacked.kernel.sha256, sha256(&kernel));
    assert_eq!(
        fs::read(download.dir.path().join("kernel")).unwrap(),
        kernel
    );
    assert_eq!(
        fs::read(download.dir.path().join("initrd")).unwrap(),
        b"the initrd"
    );
}
