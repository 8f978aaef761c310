"""snapshots.py RIG BINARY SCENARIO...: backups of the rig with the restic driver, judged by Debian's restic.

The rig's scenarios look into the directory of a backup. Here that directory is what restic restores from the snapshot
which has the backup's tag. Runs inside the Python environment of the rig, with its library on the path.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.realpath(sys.argv[1]), 'lib'))
sys.dont_write_bytecode = True
import common  # noqa: E402

PYTHON = common.venv('bin', 'python')
if os.path.realpath(sys.prefix) != os.path.realpath(common.settings()['venv']):
    os.execv(PYTHON, [PYTHON] + sys.argv)

import scenario  # noqa: E402

# A backup of 600 KB that takes several polling intervals.
BYTES_PER_SECOND = 15000
PASSWORD = 'not a secret of anybody'
HERE = tempfile.mkdtemp(prefix='manila-rig-restic.')
PASSWORD_FILE = os.path.join(HERE, 'password')


def restic(repository, *args):
    done = subprocess.run(['restic', '--no-cache', '--no-lock', '-r', repository, '--password-file', PASSWORD_FILE, *args],
                          check=True, stdout=subprocess.PIPE)
    return done.stdout


def repositories():
    """Each project has its own."""
    top = common.p('backup')
    return [os.path.join(top, name) for name in sorted(os.listdir(top))
            if os.path.exists(os.path.join(top, name, 'config'))]


def restored(backup_id):
    """The directory that restic restores the backup to; one that is not there, if there is no such snapshot."""
    for repository in repositories():
        found = json.loads(restic(repository, 'snapshots', '--json', '--tag', 'manila-backup=' + backup_id) or b'[]')
        for snapshot in found or []:
            place = tempfile.mkdtemp(dir=HERE)
            restic(repository, 'restore', snapshot['id'], '--target', place)
            return place + snapshot['paths'][0]
    return os.path.join(HERE, 'no-such-backup')


def check_repositories():
    for repository in repositories():
        restic(repository, 'check', '--read-data')
    print('restic check --read-data: %d repositories are sound' % len(repositories()), flush=True)


def service(binary):
    """The command of a data service whose driver is restic: later files override the rig's."""
    config, command = os.path.join(HERE, 'restic.conf'), os.path.join(HERE, 'manila-data')
    with open(PASSWORD_FILE, 'w') as f:
        f.write(PASSWORD + '\n')
    os.chmod(PASSWORD_FILE, 0o600)
    with open(config, 'w') as f:
        f.write('[DEFAULT]\nbackup_driver = restic\nbackup_repository_password_file = %s\n' % PASSWORD_FILE)
    with open(command, 'w') as f:
        f.write('#!/bin/sh\nexec "%s" "$@" --config-file "%s"\n' % (binary, config))
    os.chmod(command, 0o755)
    return command


def restart(rig, command):
    """Here and in the scenarios, which restart the service themselves."""
    common.settings()['data_cmd'] = command
    subprocess.run([os.path.join(rig, 'up'), '--restart-data'], check=True, env={**os.environ, 'DATA_SERVICE_CMD': command})


def slow_share(set_faults):
    """What slows down each file of a directory backup hardly touches a repository: the share is read slowly instead."""
    def slower(rule):
        if 'slow_ms' not in rule:
            return rule
        return {'match': rule['match'], 'backup': False, 'rate': BYTES_PER_SECOND}

    def changed(*rules):
        set_faults(*map(slower, rules))
    return changed


def main():
    rig, binary, names = sys.argv[1], os.path.realpath(sys.argv[2]), sys.argv[3:]
    scenario.backup_dir = restored
    scenario.set_faults = slow_share(scenario.set_faults)
    restart(rig, service(binary))
    try:
        results = {name: scenario.one(name, None, False) for name in names}
        check_repositories()
    finally:
        restart(rig, binary)
        shutil.rmtree(HERE, ignore_errors=True)
    for name, passed in results.items():
        print('%s %s (restic)' % ('PASS' if passed else 'FAIL', name), flush=True)
    return 0 if all(results.values()) else 1


sys.exit(main())
