//! The main loop of a server process, here in a thread.

use boxbuild_virtiofs::vhost_user::{Filters, ServerInput, connected_listener, serve};
use boxbuild_virtiofs::{Confinement, PassthroughFs};
use boxbuild_virtiofs_client::Client;

use crate::support::{ROOT, directory, share};

#[test]
fn a_server_serves_until_the_connection_ends() {
    let dir = directory();
    let (listener, stream) = connected_listener().unwrap();
    let input = ServerInput {
        fs: PassthroughFs::new(share(&dir)).unwrap(),
        listener,
        processors: 1,
        filters: Some(Filters::new().unwrap()),
    };
    let (sender, started) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || serve(input, |status| sender.send(status).unwrap()));
    let mut guest = Client::mount(stream);
    guest.mkdir(ROOT, "made", 0o755).unwrap();
    assert!(dir.path().join("share/made").is_dir());
    let (entry, fh) = guest.create(ROOT, "file", 0o600).unwrap();
    guest.write(entry.nodeid, fh, 0, b"four").unwrap();
    let status = started.recv().unwrap();
    assert_eq!(status.confinement(), Confinement::supported());
    assert_eq!(status.traffic().from_guest(), 4);
    assert!(!server.is_finished());
    drop(guest);
    server.join().unwrap().unwrap();
    assert_eq!(status.fault(), None);
}

#[test]
fn a_directory_that_cannot_be_shared_is_an_error() {
    let dir = directory();
    let mut share = share(&dir);
    share.root = dir.path().join("victim");
    let error = PassthroughFs::new(share).unwrap_err();
    assert!(error.to_string().contains("check that it is a directory"));
}
