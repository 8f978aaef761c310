"""same_messages.py GOLDENS RECORDED SCENARIO...: what the service sent is what upstream's sent.

Compares recordings that `scenario --record` made. Names of shares and instances are replaced in both; times, order of
answers to calls and progress may differ, and identifiers that are new each time.
"""

import json
import os
import sys

# Answers to calls say how far a copy is, which is no figure to be compared.
VOLATILE = {'_unique_id', '_msg_id', '_reply_q', 'result', 'tb', 't'}


def messages(path):
    with open(os.path.join(path, 'amqp.json')) as f:
        return [m for m in json.load(f) if m['direction'] == 'from data service']


def casts(path, name):
    """Casts in their order: where to, with which properties, and what they say.

    The scheduler chooses which back end is the source, so back ends are numbered as they appear. After a mount that
    failed upstream takes the destination's access back first; nothing depends on that order.
    """
    found, hosts = [], {}
    for m in messages(path):
        inner = m['body']['oslo.message']
        if 'method' in inner:
            kept = {k: v for k, v in inner.items() if k not in VOLATILE and not k.startswith('_context')}
            keys = ['manila-share.<%d>' % hosts.setdefault(key, len(hosts)) for key in m['routing_keys']
                    if key.startswith('manila-share.rig@')]
            found.append({'exchange': m['exchange'], 'keys': keys, 'properties': m['properties'],
                          'envelope': m['body']['oslo.version'], 'message': kept})
    if name.startswith('fail-mount'):
        found[2:4] = sorted(found[2:4], key=json.dumps)
    return found


def replies(path):
    """Shapes of answers: where to, with which properties, which keys, how they failed."""
    found = set()
    for m in messages(path):
        inner = m['body']['oslo.message']
        if 'method' in inner:
            continue
        failure = inner.get('failure')
        if isinstance(failure, str):
            failure = json.loads(failure)
        if isinstance(failure, dict):
            failure = {k: v for k, v in failure.items() if k in ('class', 'module', 'message')}
        found.add(json.dumps([m['exchange'], m['properties'], sorted(inner), failure], sort_keys=True))
    return found


def main():
    goldens, recorded, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    bad = 0
    for name in names:
        want, got = os.path.join(goldens, name), os.path.join(recorded, name)
        faults = []
        if casts(want, name) != casts(got, name):
            faults.append('casts\n  upstream: %s\n  ours:     %s' % (json.dumps(casts(want, name)), json.dumps(casts(got, name))))
        if name != 'rpc-errors' and not replies(got) <= replies(want):
            faults.append('replies\n  %s' % '\n  '.join(sorted(replies(got) - replies(want))))
        bad += bool(faults)
        print('%s messages of %s: %d casts, %d kinds of replies%s' % (
            'FAIL' if faults else 'PASS', name, len(casts(got, name)), len(replies(got)),
            ''.join('\n' + f for f in faults)), flush=True)
    return 1 if bad else 0


sys.exit(main())
