"""What oslo.log itself writes for the events of events.rs: the answer to which ours are compared.

    python expected.py < cases.json > expected.json

Time, process, thread and place are fixed, as in kit.rs.
"""
import importlib.metadata
import io
import json
import logging
import os
import socket
import sys
import time

os.environ["TZ"] = "XYZ-5:30"
time.tzset()

from oslo_config import cfg  # noqa: E402
from oslo_context import context  # noqa: E402
from oslo_log import log  # noqa: E402

CREATED, STARTED = 1795369081.212345, 1795369081.0
socket.gethostname = lambda: "data1"


class Timeout(Exception):
    pass


IDENTITY = dict(
    request_id="req-8590babe", user_id="u1", project_id="p1", domain_id="d1", user_domain_id="ud1",
    project_domain_id="pd1", user_name="alice", project_name="demo",
)
GLOBAL = dict(request_id="req-1", global_request_id="req-0", user_id="u1", project_id="p1", is_admin=True)

# Level, message, context, name of the function, keywords; an error stands for an exception that is being handled.
EVENTS = {
    "plain": (20, "Copy of share s1 has ended", None, "events", {}),
    "letters": (30, 'Größe "x" 100% \\n \U0001f600', None, "events", {}),
    "request": (20, "Data copy completed.", IDENTITY, "migration_start", {}),
    "request_global": (40, "Cannot mount", GLOBAL, "nested", {}),
    "resource": (20, "Access rule added", {"request_id": "req-1", "resource_uuid": "r1"}, "resource", {}),
    "instance": (20, "Access rule added", None, "events", {"instance_uuid": "i1"}),
    "failed": (40, "Cannot reach the broker", None, "events", {"error": Timeout("the line is dead")}),
    "critical": (50, "Unhandled error", None, "events", {}),
    "trace": (5, "A byte", None, "events", {}),
    "debug": (10, "Received request", IDENTITY, "migration_start", {}),
    "fields": (20, "With fields", None, "events", {"number": 7, "text": "two words", "flag": True, "ratio": 0.5}),
}


def record_factory(function):
    make = logging.LogRecord

    def factory(*args, **kwargs):
        record = make(*args, **kwargs)
        record.created, record.msecs = CREATED, 212.0
        record.relativeCreated = (CREATED - STARTED) * 1e3
        record.process, record.processName = 4242, "MainProcess"
        record.thread, record.threadName = 77, "worker"
        record.pathname, record.filename, record.module = "crates/oslo/tests/log/events.rs", "events.rs", "events"
        record.lineno, record.funcName = 1, function
        return record

    return factory


def line(case):
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([], project="manila", default_config_files=[], default_config_dirs=[])
    for name, value in case["options"].items():
        conf.set_override(name, value)
    log.setup(conf, "manila", "23.0.1")
    level, message, who, function, keywords = EVENTS[case["event"]]
    stream = io.StringIO()
    for handler in logging.getLogger().handlers:
        handler.setStream(stream)
    logging.getLogger().setLevel(0)
    logging.setLogRecordFactory(record_factory(function))
    resource = (who or {}).get("resource_uuid")
    if who:
        context.RequestContext(overwrite=True, **who).resource_uuid = resource
    elif hasattr(context._request_store, "context"):
        del context._request_store.context
    logger = log.getLogger("manila.data.manager")
    keywords = dict(keywords)
    error = keywords.pop("error", None)
    try:
        if error:
            raise error
        logger.log(level, message, **keywords)
    except Timeout:
        logger.log(level, message, **keywords)
    return stream.getvalue()


def main():
    packages = ["oslo.log", "oslo.context", "oslo.config"]
    versions = {name: importlib.metadata.version(name) for name in packages}
    lines = {case["name"]: line(case) for case in json.load(sys.stdin)}
    json.dump({"versions": versions, "lines": lines}, sys.stdout, indent=1)
    print()


main()
