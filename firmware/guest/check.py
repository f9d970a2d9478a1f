"""Checks a description with the kiwi of the box, up to the point where a build would begin.

    python3 check.py KIWI-ARGUMENTS... --description DIR --target-dir DIR

The arguments are those of the build. kiwi reads the description, applies the arguments and runs its
own checks as always; in the place of the first installation, this program looks whether the
repositories answer and have the packages. What it finds is a list in /bundle/check.json. It ends
with 0 if it has come to its end, whatever it found; what kiwi refuses is in kiwi's log, as always.
"""
import concurrent.futures
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
import bz2
from urllib.parse import urlsplit

REPORT = os.environ.get('BOXBUILD_CHECK_REPORT', '/bundle/check.json')
TIMEOUT = 20
# Seconds for one file, however slowly it comes.
LONGEST_FETCH = 600
# Of one index, unpacked; that of a distribution's main part has 60 MiB.
LARGEST = 512 << 20
MOST_NAMED = 50

# What the host knows that kiwi calls for the type (cli/description/src/needs.rs): lists of programs, of which one is
# enough, what needs them, and Debian's package. Nothing if the box says itself what it has.
PROGRAMS = os.environ.get('BOXBUILD_CHECK_PROGRAMS', '[]')

found = []


def report(severity, text, line=None):
    # Bytes that are no text are surrogates in Python, and no JSON.
    text = text.encode('utf-8', 'replace').decode()
    found.append({'severity': severity, 'text': text, 'line': line})


def error(text):
    report('error', text)


def note(text):
    report('note', text)


def finish(code):
    with open(REPORT + '.new', 'w') as file:
        json.dump(found, file)
    os.rename(REPORT + '.new', REPORT)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def shown(url):
    """An address without user and password, which may have a slash or an @ itself."""
    return re.sub(r'//.*@', '//', url)


def fetch(url, largest=64 << 20):
    request = urllib.request.Request(url, headers={'User-Agent': 'boxbuild-check'})
    parts = urlsplit(url)
    if parts.username:
        import base64
        pair = '%s:%s' % (parts.username, parts.password or '')
        plain = url.replace(parts.netloc, parts.netloc.rsplit('@', 1)[1], 1)
        request = urllib.request.Request(plain, headers={
            'Authorization': 'Basic ' + base64.b64encode(pair.encode()).decode()})
    data, end = bytearray(), time.monotonic() + LONGEST_FETCH
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        # What has arrived, without waiting for all of it.
        read = getattr(answer, 'read1', answer.read)
        while True:
            piece = read(1 << 20)
            if not piece:
                break
            data += piece
            if len(data) > largest:
                raise ValueError('it is too long')
            if time.monotonic() > end:
                raise TimeoutError('it takes too long')
    # read1 does not tell a connection that broke from the end.
    length = getattr(answer, 'length', None)
    if length:
        raise ConnectionError('the server ended the connection before all had come')
    return bytes(data)


def why(problem):
    if isinstance(problem, urllib.error.HTTPError):
        return 'the server answers %d (%s)' % (problem.code, problem.reason)
    if isinstance(problem, urllib.error.URLError):
        return str(problem.reason)
    return str(problem) or type(problem).__name__


def is_missing(problem):
    if isinstance(problem, urllib.error.HTTPError):
        return problem.code in (403, 404)
    reason = getattr(problem, 'reason', problem)
    return isinstance(reason, FileNotFoundError)


def unpack(name, data):
    if name.endswith('.xz'):
        tool = lzma.LZMADecompressor()
    elif name.endswith('.gz'):
        tool = zlib.decompressobj(31)
    elif name.endswith('.bz2'):
        tool = bz2.BZ2Decompressor()
    elif name.endswith('.zst'):
        with tempfile.TemporaryFile() as packed:
            packed.write(data)
            packed.seek(0)
            with subprocess.Popen(['zstd', '-dcq'], stdin=packed, stdout=subprocess.PIPE) as tool:
                text = tool.stdout.read(LARGEST)
                if len(text) >= LARGEST:
                    tool.kill()
                    raise ValueError('it is too long')
        if tool.returncode != 0:
            raise ValueError('it is damaged')
        return text
    else:
        return data
    text = tool.decompress(data, LARGEST)
    if len(text) >= LARGEST:
        raise ValueError('it is too long')
    return text


def first(base, names, largest=64 << 20):
    """The first of several files that is there, unpacked."""
    problem = None
    for name in names:
        try:
            return unpack(name, fetch(base + name, largest))
        except (urllib.error.URLError, OSError) as issue:
            problem = issue
            if not is_missing(issue):
                break
    raise problem


def debian_names(text, names):
    for name in re.findall(rb'^Package: *(\S+)', text, re.M):
        names.add(name.decode())
    for line in re.findall(rb'^Provides: *(.*)$', text, re.M):
        for item in line.decode(errors='replace').split(','):
            names.add(item.split('(')[0].strip().split(':')[0])


def debian(url, dist, components, arch, names):
    base = url.rstrip('/') + '/'
    if not dist or dist in ('./', '/'):
        debian_names(first(base, ['Packages.xz', 'Packages.gz', 'Packages']), names)
        return
    root = base + 'dists/' + dist.strip('/') + '/'
    release = first(root, ['InRelease', 'Release']).decode(errors='replace')
    known = re.search(r'^Components: *(.*)$', release, re.M)
    known = known.group(1).split() if known else []
    wanted = (components or 'main').split()
    for component in wanted:
        if known and component not in known and component not in [
                name.split('/')[-1] for name in known]:
            error('the repository %s has no component %s in %s (it has %s)'
                  % (shown(url), component, dist, ', '.join(known)))
            continue
        folder = '%s%s/binary-%s/' % (root, component, arch)
        debian_names(first(folder, ['Packages.xz', 'Packages.gz', 'Packages']), names)


def rpm(url, names):
    base = url.rstrip('/') + '/'
    index = fetch(base + 'repodata/repomd.xml').decode(errors='replace')
    primary = re.search(r'<data type="primary">.*?<location[^>]*href="([^"]+)"', index, re.S)
    if not primary:
        raise ValueError('its repomd.xml names no list of packages')
    text = first(base, [primary.group(1)], 256 << 20)
    for name in re.findall(rb'<name>([^<]+)</name>', text):
        names.add(name.decode(errors='replace'))
    for name in re.findall(rb'<rpm:entry name="([^"]+)"', text):
        names.add(name.decode(errors='replace'))
    for name in re.findall(rb'<file>([^<]+)</file>', text):
        names.add(name.decode(errors='replace'))
    # Patterns and products are packages as well; groups of dnf are in a file of their own.
    groups = re.search(r'<data type="group[^"]*">.*?<location[^>]*href="([^"]+)"', index, re.S)
    if groups:
        text = first(base, [groups.group(1)])
        for name in re.findall(rb'<id>([^<]+)</id>', text):
            names.add('@' + name.decode(errors='replace'))


def address(repository):
    """Where kiwi takes the packages from."""
    from kiwi.system.uri import Uri
    source = repository.get_source().get_path()
    kind = (repository.get_sourcetype() or '') if hasattr(repository, 'get_sourcetype') else ''
    uri = Uri(uri=source, source_type=kind) if kind else Uri(source)
    url = uri.translate(False)
    if url.startswith('/'):
        url = 'file://' + url
    if kind in ('metalink', 'mirrorlist'):
        return None
    user, secret = repository.get_username(), repository.get_password()
    if user and secret and '://' in url and '@' not in url:
        url = url.replace('://', '://%s:%s@' % (user, secret), 1)
    return url


def look_at_repository(repository, arch):
    """Its address, the names in it, whether all of them are known, and what is wrong."""
    names = set()
    source = repository.get_source().get_path()
    try:
        url = address(repository)
        if url is None or '$' in url:
            return source, names, False, None
        kind = repository.get_type()
        if kind == 'apt-deb' or (not kind and repository.get_distribution()):
            debian(url, repository.get_distribution(), repository.get_components(), arch, names)
        elif kind in ('rpm-md', None, ''):
            rpm(url, names)
        else:
            return source, names, False, None
        return source, names, True, None
    except Exception as issue:
        return source, names, False, issue


def base_name(package):
    """The name without version, release, architecture and so on, as package managers take it."""
    return re.split(r'[=<>/ ]', package.split(':')[0].strip())[0]


def check_packages(state, lookups):
    names, whole = set(), bool(lookups)
    for source, some, all_known, issue in lookups:
        names |= some
        whole = whole and all_known
        if issue is not None:
            error('the repository %s cannot be used: %s' % (shown(source), why(issue)))
    wanted = []
    for group, packages in (('bootstrap', state.get_bootstrap_packages()),
                            ('image', state.get_system_packages())):
        for package in packages:
            if (group, package) not in wanted:
                wanted.append((group, package))
    wanted += [('--add-package', name) for name in words_after('--add-package')]
    wanted += [('--add-bootstrap-package', name) for name in words_after('--add-bootstrap-package')]
    missing = []
    for group, package in wanted:
        if not package or package.startswith('/') or package.endswith('-') or '*' in package:
            continue
        if package not in names and base_name(package) not in names:
            missing.append((group, package))
    # With a list that is not whole, a name that is not in it means nothing.
    if not whole:
        if not any(issue for _, _, _, issue in lookups):
            note('not all repositories could be searched for packages')
        return
    for group, package in missing[:MOST_NAMED]:
        error('no repository has the package %s (%s)' % (package, group))
    if len(missing) > MOST_NAMED:
        error('nor %d more packages' % (len(missing) - MOST_NAMED))


def check_programs():
    path = os.environ.get('PATH', '') + ':/usr/sbin:/sbin'
    for names, what_for, package in json.loads(PROGRAMS):
        if not any(shutil.which(name, path=path) for name in names):
            note('%s: kiwi calls %s, and the box has none (%s)' % (
                what_for, ' or '.join(names), 'package ' + package if package else 'no package of Debian has it'))


def arch_of(target):
    machine = target or os.uname().machine
    return {'x86_64': 'amd64', 'aarch64': 'arm64', 'ppc64le': 'ppc64el', 'i686': 'i386',
            'armv7l': 'armhf'}.get(machine, machine)


def deep(state):
    repositories = state.get_repository_sections_used_for_build()
    arch = arch_of(getattr(state, 'host_architecture', None))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        lookups = list(pool.map(lambda one: look_at_repository(one, arch), repositories))
    check_packages(state, lookups)
    check_programs()


def words_after(option):
    return [value for name, value in zip(sys.argv, sys.argv[1:]) if name == option] + [
        word.split('=', 1)[1] for word in sys.argv if word.startswith(option + '=')]


def line_of(origin, validated, path):
    """The line of an element in the file as it is written. kiwi validates it in another form, with included files in
    their places: what is another element there has no line."""
    from lxml import etree
    try:
        nodes = [etree.parse(file).xpath(path)[0] for file in (origin, validated)]
    except (etree.Error, OSError, IndexError):
        return None
    tag, attributes = zip(*((node.tag, dict(node.attrib)) for node in nodes))
    return nodes[0].sourceline if tag[0] == tag[1] and attributes[0] == attributes[1] else None


def catch_schema_errors():
    """Has kiwi tell here where the schema is not obeyed, instead of in jing's words in its log."""
    from kiwi.xml_description import XMLDescription
    load = XMLDescription.load

    def remember(description):
        remember.file = description.description_origin
        return load(description)

    def details(_schema, validated, errors):
        for entry in list(errors)[:MOST_NAMED]:
            line = line_of(remember.file, validated, entry.path or '/*')
            report('error', entry.message, line)

    remember.file = None
    XMLDescription.load = remember
    XMLDescription._get_relaxng_validation_details = staticmethod(details)


def main():
    try:
        import kiwi.tasks.system_build as task
        from kiwi.app import App
        from kiwi.exceptions import KiwiDescriptionInvalid, KiwiError
        task.SystemPrepare
        catch_schema_errors()
    except (ImportError, AttributeError) as issue:
        error('the box has no kiwi that this check knows: %s' % issue)
        finish(0)

    class Prepare:
        """In the place of kiwi's SystemPrepare, the first step of a build."""
        def __init__(self, state, *_, **__):
            try:
                deep(state)
            except Exception as issue:
                note('packages and repositories could not be checked: %s: %s'
                     % (type(issue).__name__, issue))
            finish(0)

    task.SystemPrepare = Prepare
    argv = sys.argv
    sys.argv = ['kiwi-ng'] + argv[1:]
    try:
        App()
    except KiwiError as issue:
        if not (found and isinstance(issue, KiwiDescriptionInvalid)):
            error('kiwi: %s' % ' '.join(str(issue).split()))
        finish(0)
    except SystemExit as end:
        finish(end.code if isinstance(end.code, int) and end.code else 1)
    # kiwi says in its log why it ends before the build.
    finish(1)


if __name__ == '__main__':
    main()
