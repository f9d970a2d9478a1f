"""Takes a description over into the root tree that kiwi's `prepare` has left, with kiwi's arguments.

    python3 take_over.py ARGUMENTS OF kiwi-ng ... system build ...

A build that goes on after `prepare` runs `kiwi-ng system create`, which reads the description that is in
the root tree. This program has kiwi read the description as it is now, with the same arguments and checks
as for a build; in the place of the first installation, kiwi's own functions write it to the root tree: the
description, its scripts, and the profile of variables. It leaves arguments for `system create` that only
kiwi knows in /run/boxbuild/create-args, one a line.
"""
import glob
import os
import sys

# What the description may have for `create`, by the names that it has in the root tree (kiwi's defaults.py and
# `import_description`).
OF_CREATE = [
    'images.sh', 'disk.sh', 'pre_disk_sync.sh', 'config-overlay.sh', 'config-host-overlay.sh',
    'edit_boot_config.sh', 'edit_boot_install.sh', 'config-cdroot.tar*',
]

CREATE_ARGS = os.environ.get('BOXBUILD_CREATE_ARGS', '/run/boxbuild/create-args')


class Reached(BaseException):
    """kiwi has come to where it would install packages."""

    def __init__(self, state, root):
        super().__init__()
        self.state, self.root = state, root


class Prepare:
    """In the place of kiwi's SystemPrepare, the first step of a build."""

    def __init__(self, state, root, *_, **__):
        raise Reached(state, root)


def without_empty_values(state):
    """Leaves out values of repositories that the command line gives as nothing: `--set-repo URL,TYPE,,,DIST`.
    kiwi goes on with empty texts in them, and refuses the description that it would write with these."""
    for repository in getattr(state, 'get_repository_sections', list)() or []:
        for name, value in list(vars(repository).items()):
            if value == '':
                setattr(repository, name, None)


def without_old_scripts(root):
    """Removes what the description had for `create`: kiwi writes what there is, and runs what it finds."""
    for name in OF_CREATE:
        for path in glob.glob(os.path.join(glob.escape(root), 'image', name)):
            os.remove(path)


def take_over(state, root):
    from kiwi.defaults import Defaults
    from kiwi.system.profile import Profile
    from kiwi.system.setup import SystemSetup

    if not os.path.isdir(root):
        raise FileNotFoundError('there is no root tree at %s' % root)
    without_empty_values(state)
    without_old_scripts(root)
    SystemSetup(state, root).import_description()
    profile = Profile(state)
    Defaults().to_profile(profile)
    profile.create(Defaults.get_profile_file(root))
    # The keys that `system build` has for `create` besides those of the command line.
    keys = getattr(state, 'get_repositories_signing_keys', list)()
    with open(CREATE_ARGS, 'w') as file:
        for key in keys:
            file.write('--signing-key\n%s\n' % key)


def main():
    try:
        import kiwi.tasks.system_build as task
        from kiwi.kiwi import main as kiwi_main

        task.SystemPrepare
    except (ImportError, AttributeError) as issue:
        sys.exit('boxbuild: this kiwi cannot go on with a build: %s' % issue)
    task.SystemPrepare = Prepare
    sys.argv = ['kiwi-ng'] + sys.argv[1:]
    try:
        # It says in its log what it refuses, and exits.
        kiwi_main()
    except Reached as reached:
        try:
            take_over(reached.state, reached.root)
        except Exception as issue:
            import logging

            log = logging.getLogger('kiwi')
            log.error('the description cannot be taken over into the root tree: %s', issue)
            sys.exit(1)
        return
    # kiwi has come to an end without an error, and without a build.
    sys.exit(1)


if __name__ == '__main__':
    main()
