"""A client and server of oslo.messaging that does as it is told.

Orders are lines of JSON on standard input, `{"id": 1, "do": "call", ...}`; each is answered by a line on standard
output with the same `id` and either `returned` or `raised`. Orders run at the same time. The end of the input is the
end of the process.
"""

import concurrent.futures
import json
import logging
import os
import sys
import threading
import time

from oslo_config import cfg
import oslo_messaging as om

import interop_errors

# Exceptions are what many of the tests are about; they are told as answers.
logging.basicConfig(level=logging.CRITICAL)
# Parts of the library read the global one, whatever they are given.
cfg.CONF([], project='interop')
transport = om.get_rpc_transport(
    cfg.CONF, url=sys.argv[1], allowed_remote_exmods=['interop_errors'])
output = threading.Lock()
servers = []
received = []


class Endpoint(object):
    target = om.Target(version='1.3')

    def echo(self, ctxt, **kwargs):
        return kwargs

    def context(self, ctxt):
        # Older releases add this, which was no part of the context.
        ctxt.pop('client_timeout', None)
        return ctxt

    def note(self, ctxt, **kwargs):
        received.append(kwargs)

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return 'done'

    def fail(self, ctxt, how):
        if how == 'sold out':
            raise interop_errors.SoldOut(reason='no “tea” left.')
        if how == 'key':
            return {}['zz']
        raise ValueError('no way to fail in: %s' % how)


def target(order):
    return om.Target(
        topic=order['topic'], server=order.get('server'), fanout=order.get('fanout'),
        version=order.get('version', '1.0'), namespace=order.get('namespace'))


def client(order):
    return om.get_rpc_client(
        transport, target(order), timeout=order.get('timeout', 300),
        call_monitor_timeout=order.get('monitor'))


def call(order):
    return client(order).call(order.get('context', {}), order['method'], **order.get('args', {}))


def cast(order):
    client(order).cast(order.get('context', {}), order['method'], **order.get('args', {}))


def surrogates(order):
    """Text that JSON of Python can carry, and text cannot."""
    return client(order).call({}, 'echo', v='\ud800 x \udcff \U0001f600')


def many_calls(order):
    """Calls from several threads, each with a number that has to come back."""
    caller = client(order)

    def one(number):
        return caller.call({}, 'echo', v=number)['v'] == number

    with concurrent.futures.ThreadPoolExecutor(order['threads']) as pool:
        return sum(pool.map(one, range(order['count'])))


def many_casts(order):
    caster = client(order)
    for number in range(order['count']):
        caster.cast({}, 'note', number=number)
        time.sleep(order['pause'])


def serve(order):
    server = om.get_rpc_server(
        transport, om.Target(topic=order['topic'], server=order['server']), [Endpoint()],
        executor='threading')
    server.start()
    servers.append(server)


def what_was_received(order):
    return list(received)


def obey(order):
    answer = {'id': order['id']}
    try:
        answer['returned'] = globals()[order['do']](order)
    except Exception as error:
        answer['raised'] = {
            'class': type(error).__name__,
            'classes': [kind.__name__ for kind in type(error).__mro__],
            'text': str(error),
            'args': [str(arg) for arg in error.args],
            'msg': getattr(error, 'msg', None),
            'kwargs': getattr(error, 'kwargs', None),
            'exc_type': getattr(error, 'exc_type', None),
        }
    with output:
        print(json.dumps(answer), flush=True)


print(json.dumps({'id': 0, 'returned': 'ready'}), flush=True)
for line in sys.stdin:
    threading.Thread(target=obey, args=(json.loads(line),), daemon=True).start()
os._exit(0)
