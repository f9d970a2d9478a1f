"""Reads the output of commands through an iterator like kiwi's, and prints the results as JSON.

The two classes have the interfaces of kiwi 11.1 (kiwi/command.py, kiwi/command_process.py).
Plain pipes and those of sitecustomize.py must give the same results, the latter without polling.
"""

import collections
import json
import os
import select
import subprocess
import sys
import types

Call = collections.namedtuple(
    "Call", ["output", "output_available", "error", "error_available", "process"]
)
polls = 0


def call(script):
    process = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def available(pipe):
        def look():
            global polls
            polls += 1
            return bool(select.select([pipe], [], [], 1e-4)[0])

        return look

    return Call(
        process.stdout,
        available(process.stdout),
        process.stderr,
        available(process.stderr),
        process,
    )


ITERATOR = '''
class CommandIterator:
    def __init__(self, command):
        self.command = command
        self.lines, self.line, self.errors = [], b"", b""
        self.output_ended = self.errors_ended = False

    def __iter__(self):
        return self

    def __next__(self):
        if self.command.process.poll() is not None:
            if self.output_ended and self.errors_ended:
                raise StopIteration()
        if self.command.output_available():
            byte = self.command.output.read(1)
            if not byte:
                self.output_ended = True
            elif byte == b"\\n":
                self.lines.append(self.line.decode())
                self.line = b""
            else:
                self.line += byte
        if self.command.error_available():
            byte = self.command.error.read(1)
            if not byte:
                self.errors_ended = True
            self.errors += byte
'''

SCRIPTS = [
    "seq 9999; echo last >&2",
    "seq 2000 >&2; seq 300; exit 3",
    "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.1; done",
    "exec >&-; sleep 0.2; seq 20 >&2",
    "exec 2>&-; sleep 0.2; seq 20",
    "exec >&- 2>&-; sleep 0.2; exit 4",
    'printf "no end"; (sleep 0.2; echo of line) & exit 5',
    "kill -9 $$",
    "true",
]


def main():
    folder = sys.argv[1]
    os.makedirs(os.path.join(folder, "kiwi"), exist_ok=True)
    source = ITERATOR
    if len(sys.argv) > 2:
        source = source.replace("error_available", sys.argv[2])
    with open(os.path.join(folder, "kiwi", "command_process.py"), "w") as file:
        file.write(source)
    open(os.path.join(folder, "kiwi", "__init__.py"), "w").close()
    sys.path.insert(0, folder)
    from kiwi.command_process import CommandIterator

    results = []
    if len(sys.argv) == 2:
        for script in SCRIPTS:
            iterator = CommandIterator(call(script))
            for _ in iterator:
                pass
            code = iterator.command.process.returncode
            results.append([iterator.lines, iterator.errors.decode(), code])
    patched = not isinstance(CommandIterator.__init__.__closure__, types.NoneType)
    child = subprocess.run(
        [sys.executable, "-c", "import sys; print(any('boxbuild-test' in p for p in sys.path))"],
        stdout=subprocess.PIPE,
    )
    print(
        json.dumps(
            {
                "results": results,
                "polls": polls,
                "patched": patched,
                "path": os.environ.get("PYTHONPATH"),
                "child": child.stdout.decode().strip(),
            }
        )
    )


main()
