"""Calls images.sh as kiwi does, with the patch applied, and prints what happened in which order.

    python3 checkpoint.py SITECUSTOMIZE FOLDER ANSWER
"""
import json
import os
import runpy
import socket
import sys
import threading
import types

patch, folder, answer = sys.argv[1:]
happened = []

# Freezing is for a guest's disk, not for the disk of the host that runs this.
fake = types.ModuleType('fcntl')
names = {0xC0045877: 'freeze', 0xC0045878: 'thaw'}
fake.ioctl = lambda *words: happened.append(names[words[1]])
sys.modules['fcntl'] = fake

ours, theirs = socket.socketpair()
theirs.set_inheritable(True)
if answer != 'none':
    os.environ['BOXBUILD_CHECKPOINT'] = str(theirs.fileno())
runpy.run_path(patch)
happened.append('BOXBUILD_CHECKPOINT' in os.environ)

os.makedirs(os.path.join(folder, 'kiwi', 'system'))
for name in ('__init__.py', 'system/__init__.py'):
    open(os.path.join(folder, 'kiwi', name), 'w').close()
with open(os.path.join(folder, 'kiwi', 'system', 'setup.py'), 'w') as file:
    file.write('class SystemSetup:\n'
               '    def __init__(self, root_dir):\n'
               '        self.root_dir = root_dir\n'
               '    def call_image_script(self):\n'
               '        return "images.sh"\n')
sys.path.insert(0, folder)


def host():
    line = ours.recv(100)
    happened.append(line.decode())
    # Other messages may come in between.
    ours.sendall(b'boxbuild 1 time 5 0\nboxbuild 1 check')
    ours.sendall(b'point %s\n' % answer.encode())


thread = threading.Thread(target=host, daemon=True)
thread.start()
from kiwi.system.setup import SystemSetup  # noqa: E402

for _ in range(2):
    happened.append(SystemSetup(folder).call_image_script())
print(json.dumps(happened))
