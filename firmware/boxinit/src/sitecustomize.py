"""Lets kiwi wait for its children's output instead of looking for it all the time.

kiwi (up to 11.1 at least, kiwi/command.py and kiwi/command_process.py) reads the output of package
managers byte by byte, and asks for each byte whether there is one, on both pipes, with a wait
of 0.1 ms each. A package manager that says more than a pipe holds is slowed down to some 7 kB/s on
any machine, and where the processor is emulated, kiwi takes one for itself.

This file gives kiwi's iterator pipes that read what is there at once and wait until there is
something. The iterator itself stays as it is: same lines, same order within a pipe, same end. A kiwi
that is built in another way is left alone.

Python imports the file before it runs kiwi, because boxbuild's init puts its folder first in
PYTHONPATH; it takes that back for everybody else, and lets the box's own sitecustomize come. Or a
program runs it that then runs kiwi.
"""

import os
import sys

MODULE = "kiwi.command_process"


def take_back():
    """Nobody but this process sees this folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    others = [
        path
        for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if os.path.abspath(path) != here
    ]
    if any(others):
        os.environ["PYTHONPATH"] = os.pathsep.join(others)
    else:
        os.environ.pop("PYTHONPATH", None)


def own_sitecustomize():
    """What this file has hidden."""
    this = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        # Whoever imports this file looks for it afterwards.
        sys.modules["sitecustomize"] = this
        if error.name != "sitecustomize":
            raise


class Pipe:
    """One of the two pipes of a child, as kiwi's iterator sees it."""

    def __init__(self, file):
        self.file = file
        self.data = b""
        self.at = 0
        self.ended = False

    def __getattr__(self, name):
        return getattr(self.file, name)

    def data_left(self):
        return self.at < len(self.data)

    def ready(self):
        """A read does not wait: there is something, or the end."""
        return self.ended or self.data_left()

    def fill(self):
        self.data = os.read(self.file.fileno(), 65536)
        self.at = 0
        self.ended = not self.data

    def read(self, size=-1):
        if size is None or size < 0:
            rest = self.data[self.at :] + self.file.read()
            self.at = len(self.data)
            self.ended = True
            return rest
        if not self.ready():
            self.fill()
        got = self.data[self.at : self.at + size]
        self.at += len(got)
        return got


class Pipes:
    """Both pipes of a child."""

    def __init__(self, output, error):
        import select

        self.output = Pipe(output)
        self.error = Pipe(error)
        self.select = select.select

    def look(self, wait):
        """Takes what there is, or what comes first within `wait` seconds."""
        open_ones = [pipe for pipe in (self.output, self.error) if not pipe.ended]
        # With both at their end, kiwi asks whether the child has ended, again and again.
        readable, _, _ = self.select(open_ones, [], [], wait if open_ones else 0.001)
        for pipe in readable:
            # What was read before is handed out first.
            if not pipe.ready():
                pipe.fill()

    def output_available(self):
        # Nothing for kiwi to do but to wait for the child's next word, or its end. A second is for
        # whoever wants to interrupt.
        if not self.output.data_left() and not self.error.data_left():
            self.look(1)
        return self.output.ready()

    def error_available(self):
        if not self.error.ready() and not self.output.data_left():
            self.look(0)
        return self.error.ready()


def improve(module):
    """Has the iterator of `module` read from [`Pipes`], if it is the one that is known."""
    iterator = getattr(module, "CommandIterator", None)
    original = getattr(iterator, "__init__", None)
    fields = ("output", "output_available", "error", "error_available", "process")
    steps = getattr(getattr(iterator, "__next__", None), "__code__", None)
    if original is None or steps is None or not set(fields) <= set(steps.co_names):
        return

    def init(self, command, *args, **kwargs):
        if sorted(getattr(command, "_fields", ())) == sorted(fields):
            pipes = Pipes(command.output, command.error)
            command = command._replace(
                output=pipes.output,
                output_available=pipes.output_available,
                error=pipes.error,
                error_available=pipes.error_available,
            )
        original(self, command, *args, **kwargs)

    iterator.__init__ = init


class Finder:
    """Is asked for each module, waits for kiwi's."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(Finder)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            improve(module)

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "sitecustomize":
    take_back()
    own_sitecustomize()
sys.meta_path.insert(0, Finder)
