"""both_ways.py RIG BINARY: a backup that upstream's service wrote is restored by this one, and the reverse.

Runs inside the Python environment of the rig, with its library on the path.
"""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.realpath(sys.argv[1]), 'lib'))
sys.dont_write_bytecode = True
import common  # noqa: E402

PYTHON = common.venv('bin', 'python')
if os.path.realpath(sys.prefix) != os.path.realpath(common.settings()['venv']):
    os.execv(PYTHON, [PYTHON] + sys.argv)

import api  # noqa: E402
import scenario  # noqa: E402
import tree  # noqa: E402

UPSTREAM = ''


def restart(command):
    """Here and in the scenarios, which restart the service themselves."""
    common.settings()['data_cmd'] = command
    up = os.path.join(sys.argv[1], 'up')
    subprocess.run([up, '--restart-data'], check=True, env={**os.environ, 'DATA_SERVICE_CMD': command})


def across(run, writer, reader):
    restart(writer)
    share, instance, before, backup_id = scenario.backup(run)
    where = scenario.backing(instance, share['id'])
    for name in os.listdir(where):
        if name != 'lost+found':
            path = os.path.join(where, name)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    restart(reader)
    api.call('POST', '/share-backups/%s/action' % backup_id, {'restore': None})
    scenario.wait_backup(run, backup_id, share['id'], 'restore_progress')
    faults, remarks = tree.compare(before, tree.describe(where))
    scenario.check(not faults, 'restored data differ:\n  ' + '\n  '.join(faults[:20]))
    scenario.check_no_leftovers()


def main():
    ours = os.path.realpath(sys.argv[2])
    # What upstream itself does not keep is no fault of the one who restores it.
    scenario.STRICT = False
    try:
        for name, writer, reader in (('upstream to us', UPSTREAM, ours), ('us to upstream', ours, UPSTREAM)):
            run = scenario.Run()
            scenario.set_faults()
            scenario.OLD.clear()
            scenario.OLD.update(scenario.tmp_dirs())
            try:
                across(run, writer, reader)
            finally:
                scenario.clean(run)
            print('PASS backup from %s' % name, flush=True)
    finally:
        restart(ours)


main()
