#!/usr/bin/python3 -IS
"""xz for a box whose processor is emulated: the host compresses.

Precedes the box's xz in kiwi's search path. It sends data to the host through the virtio-console
port org.boxbuild.xz and gets them back compressed: with the same format, preset, and division into
blocks, at the speed of a real processor. It handles the requests that kiwi makes (compress a stream
or one file; preset, extreme, threads). For anything else, and if the port is missing, in use, or
does not answer, it runs the box's own xz instead.

The protocol is described in firmware/protocol/src/xz.rs. Python 3.6 or newer.
"""

import errno
import os
import select
import signal
import stat
import struct
import sys
import time

PORT = "org.boxbuild.xz"
HEAD = struct.Struct("<IIQ")  # kind, length, session
FRAME = 32 << 10
BEGIN, DATA, END, READY, ERROR = 1, 2, 3, 4, 5
TIMEOUT = 20  # seconds for the host's first answer

LONG = {
    "--force": "f",
    "--keep": "k",
    "--stdout": "c",
    "--to-stdout": "c",
    "--compress": "z",
    "--extreme": "e",
    "--fast": "0",
    "--best": "9",
}


class Refused(Exception):
    """The host cannot compress."""


def parse(words):
    """Returns the request in the arguments; None if this program cannot handle it."""
    request = {"preset": 6, "extreme": 0, "threads": 0, "flags": set(), "files": []}

    def threads(text):
        # Leaves "+1" and the like to the box's own xz.
        if not text or text.strip("0123456789"):
            raise ValueError
        request["threads"] = int(text)

    def short(letters):
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "T":
                threads(letters or next(rest))
                return
            if letter == "e":
                request["extreme"] = 1
            elif letter in "0123456789":
                request["preset"] = int(letter)
            elif letter in "fkcz":
                request["flags"].add(letter)
            else:
                raise ValueError

    rest = iter(words)
    try:
        for word in rest:
            if word.startswith("--threads="):
                threads(word[len("--threads=") :])
            elif word == "--threads":
                threads(next(rest))
            elif word in LONG:
                short(LONG[word])
            elif word.startswith("-") and word != "-":
                if word.startswith("--"):
                    return None
                short(word[1:])
            else:
                request["files"].append(word)
    except (ValueError, StopIteration):
        return None
    if request["files"] == ["-"]:
        request["files"] = []
    # The environment may hold more options.
    if len(request["files"]) > 1 or os.environ.get("XZ_OPT") or os.environ.get("XZ_DEFAULTS"):
        return None
    return request


def open_port():
    """Returns a descriptor of the port; None if there is none or it is in use."""
    try:
        for name in os.listdir("/sys/class/virtio-ports"):
            with open("/sys/class/virtio-ports/%s/name" % name) as file:
                if file.read().strip() == PORT:
                    # The driver allows one user at a time.
                    return os.open("/dev/" + name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass
    return None


class Host:
    """A session with the host."""

    def __init__(self, port):
        self.port = port
        self.session = int.from_bytes(os.urandom(8), "little")
        self.outgoing = b""
        self.incoming = bytearray()

    def frame(self, kind, payload=b""):
        """Queues a frame. The previous one must have been sent."""
        self.outgoing = HEAD.pack(kind, len(payload), self.session) + payload

    def transfer(self, timeout, sources=()):
        """Waits at most `timeout` ms, sends and receives what is possible without blocking. Returns
        which of `sources` are readable."""
        poller = select.poll()
        interest = select.POLLIN | (select.POLLOUT if self.outgoing else 0)
        poller.register(self.port, interest)
        for source in sources:
            poller.register(source, select.POLLIN)
        ready = dict(poller.poll(timeout))
        events = ready.pop(self.port, 0)
        try:
            if events & select.POLLOUT:
                self.outgoing = self.outgoing[os.write(self.port, self.outgoing) :]
            if events & select.POLLIN:
                data = os.read(self.port, 65536)
                self.incoming += data
                if not data:
                    raise Refused("the host has closed the connection")
        except BlockingIOError:
            pass
        except OSError as error:
            raise Refused("the host does not answer: %s" % error)
        if events & (select.POLLHUP | select.POLLERR) and not events & select.POLLIN:
            raise Refused("the host has closed the connection")
        return ready

    def begin(self, request):
        """Begins the session. Skips what the host still sends to a previous one."""
        text = "%d %d %d" % (request["preset"], request["extreme"], request["threads"])
        self.frame(BEGIN, text.encode())
        ready = HEAD.pack(READY, 0, self.session)
        deadline = time.monotonic() + TIMEOUT
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Refused("the host does not answer")
            self.transfer(left * 1000)
            at = self.incoming.find(ready)
            if at >= 0:
                del self.incoming[: at + len(ready)]
                return
            del self.incoming[: -len(ready)]

    def frames(self):
        """Yields the complete frames that have been received."""
        while len(self.incoming) >= HEAD.size:
            kind, length, session = HEAD.unpack_from(self.incoming)
            if session != self.session or length > FRAME:
                raise Refused("the host has sent a frame of another session")
            if len(self.incoming) < HEAD.size + length:
                return
            payload = bytes(self.incoming[HEAD.size : HEAD.size + length])
            del self.incoming[: HEAD.size + length]
            yield kind, payload

    def compress(self, source, sink):
        """Compresses everything from the descriptor `source` to the descriptor `sink`."""
        ended = False
        while True:
            can_queue = not ended and not self.outgoing
            if source in self.transfer(None, [source] if can_queue else []):
                data = os.read(source, FRAME - HEAD.size)
                ended = not data
                self.frame(DATA if data else END, data)
            for kind, payload in self.frames():
                if kind == DATA:
                    write(sink, payload)
                elif kind == END:
                    return
                else:
                    raise Refused(payload.decode(errors="replace") or "the host has failed")


def write(descriptor, data):
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        # Python ignores SIGPIPE; end as every other program does.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
        raise


def is_ordinary(path, flags):
    """Whether xz would compress the file without a warning or an error."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    special = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and not found.st_mode & special
        and not path.endswith((".xz", ".txz", ".lzma", ".tlz"))
        and ("f" in flags or not os.path.lexists(path + ".xz"))
    )


def compress_file(host, path, flags):
    """Replaces FILE by FILE.xz, with its owner, mode and times; writes to standard output if `flags`
    has "c"."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if "c" in flags:
            host.compress(source, 1)
            return
        target = path + ".xz"
        if os.path.lexists(target):
            os.unlink(target)
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            host.compress(source, sink)
            found = os.fstat(source)
            os.fchown(sink, found.st_uid, found.st_gid)
            os.fchmod(sink, stat.S_IMODE(found.st_mode))
            os.utime(sink, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.close(sink)
        except BaseException:
            os.unlink(target)
            raise
        if "k" not in flags:
            os.unlink(path)
    finally:
        os.close(source)


def run_own_xz(words):
    """Replaces this process by the box's own xz."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    here = os.path.dirname(os.path.abspath(__file__))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if os.path.abspath(folder) != here)
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, "xz")
        if os.access(program, os.X_OK) and not os.path.isdir(program):
            os.execv(program, ["xz"] + words)
    sys.stderr.write("xz: command not found\n")
    sys.exit(127)


def main(words):
    request = parse(words)
    if request is None:
        run_own_xz(words)
    files, flags = request["files"], request["flags"]
    to_stdout = not files or "c" in flags
    if (
        (files and not is_ordinary(files[0], flags))
        or (not files and os.isatty(0))
        or (to_stdout and os.isatty(1))
    ):
        run_own_xz(words)
    port = open_port()
    if port is None:
        run_own_xz(words)
    host = Host(port)
    try:
        host.begin(request)
    except Refused:
        # Nothing has been read yet.
        run_own_xz(words)
    try:
        if files:
            compress_file(host, files[0], flags)
        else:
            host.compress(0, 1)
    except Refused as error:
        sys.stderr.write("xz: %s\n" % error)
        sys.exit(1)
    except OSError as error:
        name = "%s: " % files[0] if files else ""
        sys.stderr.write("xz: %s%s\n" % (name, error.strerror or errno.errorcode.get(error.errno)))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
