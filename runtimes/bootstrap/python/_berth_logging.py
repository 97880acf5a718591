"""Sets up the standard library's logging as AWS's Python runtime does; imported when a function first imports logging."""

import sys
import time

# Attributes that every record has, and that therefore are not the function's own "extra" ones.
_STANDARD = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created msecs "
    "relativeCreated thread threadName processName process taskName aws_request_id tenant_id".split()
)


def set_up(logging, current, as_json, level):
    """Gives the root logger the one handler that writes Lambda's line format, or JSON objects, to stdout."""

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = current.request_id
            record.tenant_id = current.tenant_id
            return True

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            line = self.format(record)  # ends in a newline, but not after a traceback
            sys.stdout.write(line if line.endswith("\n") else line + "\n")

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            return _json_line(logging, record)

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    handler.setFormatter(
        JsonFormatter()
        if as_json
        else logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"
        )
    )
    handler.addFilter(LambdaLoggerFilter())
    root = logging.getLogger()
    if level:
        level = {"TRACE": "DEBUG"}.get(level.upper(), level.upper())
        if level in logging._nameToLevel:
            root.setLevel(level)
    root.addHandler(handler)


def _json_line(logging, record):
    import json

    level = min(50, max(0, record.levelno)) // 10 * 10
    line = {
        "timestamp": "%s.%03dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)), record.msecs),
        "level": logging.getLevelName(level),
        "message": record.getMessage(),
        "logger": record.name,
    }
    if record.exc_info:
        import traceback

        kind, value, tb = record.exc_info
        if kind is not None:
            line["stackTrace"] = traceback.format_tb(tb)
            line["errorType"] = kind.__name__
            line["errorMessage"] = str(value)
    line["requestId"] = record.aws_request_id
    if record.exc_info:
        line["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
    if record.tenant_id is not None:
        line["tenantId"] = record.tenant_id
    for key, value in record.__dict__.items():
        if key not in _STANDARD and key not in line and value is not None:
            line[key] = value
    return json.dumps(line, ensure_ascii=False, default=str) + "\n"
