"""outage.py RIG: broker and database are killed in the middle of a copy, and the migration completes.

Runs inside the Python environment of the rig, with its library on the path.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.realpath(sys.argv[1]), 'lib'))
sys.dont_write_bytecode = True
import common  # noqa: E402

PYTHON = common.venv('bin', 'python')
if os.path.realpath(sys.prefix) != os.path.realpath(common.settings()['venv']):
    os.execv(PYTHON, [PYTHON] + sys.argv)

import api  # noqa: E402
import scenario  # noqa: E402
import up  # noqa: E402

AWAY_SECONDS = 6


def files_in(directory):
    return sum(len(names) for _, _, names in os.walk(directory))


def outage(run, name, start):
    sid, src, dest, before = scenario.slow_migration(run, files=500)
    where = scenario.backing(dest, sid)
    api.wait('some files', lambda: files_in(where) >= 15, (True,), interval=0.1)
    copied = files_in(where)
    print('%s is killed after %d files' % (name, copied), flush=True)
    common.kill_hard(name)
    time.sleep(AWAY_SECONDS)
    meanwhile = files_in(where)
    start()
    print('%s is back; %d files were copied meanwhile' % (name, meanwhile - copied), flush=True)
    scenario.check(meanwhile > copied, 'the copy stood still')

    def state():
        # The other services of Manila also have to find their way back.
        try:
            return api.task_state(sid)
        except api.ApiError as error:
            return str(error)
    api.wait('task_state', state, ('data_copying_completed',), ('data_copying_error', 'migration_error'), 240)
    up.wait_services()
    scenario.check_completed(run, sid, src, dest, before)


def main():
    for name, start in (('rabbitmq', up.broker), ('mariadb', up.database)):
        run = scenario.Run()
        scenario.set_faults()
        scenario.OLD.clear()
        scenario.OLD.update(scenario.tmp_dirs())
        begun = time.time()
        try:
            outage(run, name, start)
        finally:
            scenario.clean(run)
        print('PASS outage of %s (%.1f s)' % (name, time.time() - begun), flush=True)


main()
