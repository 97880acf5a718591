"""Berth's Python runtime: loads the handler, then answers events that arrive as frames on descriptor 3 and answers on descriptor 4.

The frames are described in Berth's package runtimeapi (frames.go). What a function sees (context, texts of errors, log
lines, sys.path) is what AWS's own runtime shows it.

A cold start waits for every import below, so there are next to none: json's and logging's machinery would triple the time
to the first event. What is needed for errors and for logging is imported when it is first used. A process that is started
before there is a function for it imports some modules ahead (_berth_parking).
"""

import builtins
import os
import sys
import time

_IN = 3
_OUT = 4
_CHUNK = 65536
_NEXT = b"\x01\x00\x00\x00N"
_WRAPPED = "_BERTH_WRAPPED"
_ENVIRON = os.environ
# What os.environ shows. The trace id goes there and not to the C library's setenv, which remembers every value for ever: an
# environment would grow with each call. Programs that a function starts with the environment as it is do not see it.
_VARIABLES = _ENVIRON._data
_TRACE = b"_X_AMZN_TRACE_ID"
_PARK = "_BERTH_PARK"
_NO_BREAK_SPACE = "\u00a0"
# What is imported before a function's files are looked at in AWS's runtime (/var/runtime/bootstrap.py, awslambdaric 2.0.8 to 4.0.4 with simplejson,
# and what those import in turn), so that files of these names never take its place there: importing it gives the standard library's. Here it is
# imported when it is needed. What only some versions of awslambdaric import is left out, and what the interpreter finds first anyway.
_NEEDED = frozenset(
    (
        "collections copyreg datetime decimal enum functools importlib json keyword linecache logging math numbers operator re reprlib "
        "string struct threading token tokenize traceback types warnings weakref _datetime _decimal _json _struct _weakrefset "
        + ("contextlib textwrap " if sys.version_info >= (3, 11) else "site sre_compile sre_constants sre_parse ")
        + ("concurrent queue _queue " if sys.version_info >= (3, 12) else "")
        + ("" if (3, 10) <= sys.version_info < (3, 12) else "heapq _heapq ")
        + ("_colorize" if sys.version_info >= (3, 13) else "")
    ).split()
).difference(sys.builtin_module_names)


class Current:
    """What logging shows of the event under way."""

    request_id = ""
    tenant_id = None
    json_logs = False


class Fault(Exception):
    """An error that the runtime itself found, with its type on the wire and the lines to show as its trace."""

    def __init__(self, error_type, message, trace=None):
        Exception.__init__(self, message)
        self.error_type = error_type
        self.message = message
        self.trace = trace or []


# ---- JSON, without importing json -----------------------------------------------------------------------------------


class _Scanning:
    """The settings that json.JSONDecoder() hands to the C scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {
        "-Infinity": float("-inf"),
        "Infinity": float("inf"),
        "NaN": float("nan"),
    }.__getitem__
    memo = {}


def _plain_loads(text):
    import json

    return json.loads(text)


def _make_loads():
    try:
        from _json import make_scanner

        scan = make_scanner(_Scanning)
        if scan('[1, {"a": null}]', 0) != ([1, {"a": None}], 16):
            return _plain_loads
    except Exception:
        return _plain_loads

    def loads(text):
        stripped = text.strip(" \t\n\r")
        try:
            value, end = scan(stripped, 0)
            if end == len(stripped):
                return value
        except StopIteration:
            pass
        return _plain_loads(text)  # raises the error with its position

    return loads


_loads = _make_loads()
_ASCII_ONLY = sys.version_info < (3, 12)
_DECIMAL = "".join("%02x" % b for b in os.urandom(16))  # brackets the text of a Decimal; no function can guess it


def _default(value):
    """JSON for what json does not know: bytes as text, and Decimal as the number it shows."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        if value.is_nan():
            return float("nan")
        return _DECIMAL + str(value) + _DECIMAL
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def _make_dumps():
    markers = {}
    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder

        escape = encode_basestring_ascii if _ASCII_ONLY else encode_basestring
        encode = make_encoder(markers, _default, escape, None, ": ", ", ", False, False, False)
        if "".join(encode([1, {"a": None}], 0)) != '[1, {"a": null}]':
            raise TypeError("unexpected encoding")
    except Exception:
        import json

        plain = json.JSONEncoder(ensure_ascii=_ASCII_ONLY, allow_nan=False, default=_default)

        def encode(value, _level):
            return plain.encode(value)

    def dumps(value):
        try:
            text = "".join(encode(value, 0))
        finally:
            markers.clear()
        if _DECIMAL in text:
            text = text.replace('"' + _DECIMAL, "").replace(_DECIMAL + '"', "")
        return text

    return dumps


_dumps = _make_dumps()


# ---- the context object ---------------------------------------------------------------------------------------------


def _show(obj, names):
    return "%s([%s])" % (type(obj).__name__, ",".join("%s=%s" % (n, getattr(obj, n, None)) for n in names))


class _Record:
    """An object with fixed attributes, filled from a JSON object; what is absent is None."""

    __slots__ = ()

    def __init__(self, values):
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self):
        return _show(self, self.__slots__)


class CognitoIdentity(_Record):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(_Record):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(_Record):
    __slots__ = ("custom", "env", "client")

    def __init__(self, values):
        _Record.__init__(self, values)
        if self.client is not None:
            self.client = Client(self.client)


def _context_json(text, name):
    try:
        return _loads(text)
    except Exception as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))


class LambdaContext:
    tenant_token = None  # a secret: not in __repr__

    @classmethod
    def read_environ(cls):
        cls.log_group_name = _ENVIRON.get("AWS_LAMBDA_LOG_GROUP_NAME")
        cls.log_stream_name = _ENVIRON.get("AWS_LAMBDA_LOG_STREAM_NAME")
        cls.function_name = _ENVIRON.get("AWS_LAMBDA_FUNCTION_NAME")
        cls.memory_limit_in_mb = _ENVIRON.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        cls.function_version = _ENVIRON.get("AWS_LAMBDA_FUNCTION_VERSION")

    def __init__(self, request_id, arn, deadline_ms, client_context, identity, tenant_id):
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id or None
        self._deadline_ms = deadline_ms
        self.client_context = None
        if client_context:
            self.client_context = ClientContext(_context_json(client_context, "Client Context"))
        ids = _context_json(identity, "Cognito Identity") if identity else {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": ids.get("cognitoIdentityId"),
                "cognito_identity_pool_id": ids.get("cognitoIdentityPoolId"),
            }
        )

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, msg):
        sys.stdout.write(str(msg))

    def __repr__(self):
        return _show(
            self,
            ("aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb")
            + ("function_version", "invoked_function_arn", "client_context", "identity", "tenant_id"),
        )


# ---- errors ---------------------------------------------------------------------------------------------------------


def _describe(exc, request_id):
    """The JSON object of an exception, with the frames of this file left out where they lead to the function's."""
    if isinstance(exc, Fault):
        message, error_type, trace = exc.message, exc.error_type, exc.trace
    else:
        import traceback

        here = _describe.__code__.co_filename
        tb = exc.__traceback__
        while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename == here:
            tb = tb.tb_next
        frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(tb)]
        try:
            message = str(exc)
        except Exception:
            message = "<exception str() failed>"  # as traceback has it
        error_type, trace = type(exc).__name__, traceback.format_list(frames)
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": trace}


def _write(text):
    """Writes to the log, whatever the function made of the text (lone surrogates) or of the stream (closed or replaced it)."""
    try:
        try:
            sys.stdout.write(text)
        except UnicodeError:
            sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    except Exception:
        pass


def _log_error(error):
    if Current.json_logs:
        now = time.time()
        stamp = "%s.%03dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)), now * 1000 % 1000)
        _write(_dumps(dict({"timestamp": stamp, "level": "ERROR"}, **error)) + "\n")
        return
    head = "[ERROR] " + error["errorType"]
    if error["errorMessage"]:
        head += ": " + error["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for element in error["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            lines.append(_NO_BREAK_SPACE * (len(line) - len(text)) + text)
    _write("\n".join(lines) + "\n")


# ---- frames ---------------------------------------------------------------------------------------------------------


def _frame(kind, body):
    return (len(body) + 1).to_bytes(4, "little") + kind + body


def _error_frame(kind, error):
    error_type = error["errorType"].encode("utf-8", "replace")[:255]
    return _frame(kind, bytes((len(error_type),)) + error_type + _dumps(error).encode("utf-8", "replace"))


def _send(data):
    sent = os.write(_OUT, data)
    while sent < len(data):
        data = memoryview(data)[sent:]
        sent = os.write(_OUT, data)


def _receive():
    """One frame, as bytes. Frames never follow one another unasked, so nothing can be left over."""
    data = os.read(_IN, _CHUNK)
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        if isinstance(data, bytes):
            data = bytearray(data)
        part = os.read(_IN, 16 * _CHUNK)
        if not part:
            sys.exit(0)  # Berth is gone
        data += part
    return bytes(data)


# ---- the life of the process ----------------------------------------------------------------------------------------


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # the function closed or replaced it


def _handle(handler, data):
    """Runs the handler on one invoke frame and returns the frame to answer with."""
    end = 9 + int.from_bytes(data[5:9], "little")
    deadline, request_id, arn, trace_id, client_context, identity, tenant_id, token = data[9:end].decode("utf-8").split("\0")
    Current.request_id = request_id
    Current.tenant_id = tenant_id or None
    if trace_id:
        _VARIABLES[_TRACE] = trace_id.encode()
    else:
        _VARIABLES.pop(_TRACE, None)
    try:
        context = LambdaContext(request_id, arn, int(deadline), client_context, identity, tenant_id)
        if token:
            context.tenant_token = token
        try:
            event = _loads(data[end:].decode("utf-8"))
        except Exception as e:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)
        result = handler(event, context)
        if not isinstance(result, bytes):
            try:
                result = _dumps(result).encode("utf-8")
            except Exception as e:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
        return _frame(b"R", result)
    except Exception as e:
        error = _describe(e, request_id)
        _log_error(error)
        return _error_frame(b"E", error)


def _load(name):
    """The handler that _HANDLER names: MODULE.FUNCTION, where MODULE may have slashes or dots."""
    try:
        module_name, function = name.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, e))
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name
        )
    import importlib

    # Compiled files cannot be kept: the code is read-only, and each attempt costs two system calls.
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        raise Fault(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module_name, e),
            ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)],
        )
    finally:
        sys.dont_write_bytecode = keep
    try:
        return getattr(module, function)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function, module_name))


def _set_up_logging(module):
    import _berth_logging

    _berth_logging.set_up(module, Current, Current.json_logs, _ENVIRON.get("AWS_LAMBDA_LOG_LEVEL"))


class _NeededFirst:
    """Finds what AWS's runtime would have imported by now where the interpreter has it, whatever files a function has."""

    path = list(sys.path)

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is not None or name not in _NEEDED:
            return None
        from _frozen_importlib_external import PathFinder

        return PathFinder.find_spec(name, cls.path)


class _LoggingHook:
    """Sets up the root logger when the function first imports logging."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, _NeededFirst.path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _set_up_logging(module)

        spec.loader.exec_module = exec_module
        return spec


def _wrap():
    """Becomes AWS_LAMBDA_EXEC_WRAPPER, if there is one, which is to start this program again."""
    wrapper = _ENVIRON.get("AWS_LAMBDA_EXEC_WRAPPER")
    if _ENVIRON.pop(_WRAPPED, None) or not wrapper:
        return
    for found, status, problem in (
        (os.path.isfile(wrapper), 127, "does not exist"),
        (os.access(wrapper, os.X_OK), 126, "is not an executable"),
    ):
        if not found:
            sys.stderr.write("%s: %s\n" % (wrapper, problem))
            sys.exit(status)
    _ENVIRON[_WRAPPED] = "1"
    os.execv(wrapper, [wrapper, sys.executable, "-S", sys.argv[0]])


def _set_up():
    """What does not depend on the function."""
    os.set_inheritable(_IN, False)
    os.set_inheritable(_OUT, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)

    sys.meta_path.insert(0, _NeededFirst)
    import _sitebuiltins  # exit() and quit() come with site, whose scan of the disk is skipped

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")


def _set_up_function():
    """Takes over what the environment says of the function."""
    Current.json_logs = _ENVIRON.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    LambdaContext.read_environ()
    sys.path[:] = dict.fromkeys(_function_path() + sys.path)


def _function_path():
    """Where modules of the function and its layers are."""
    root = _ENVIRON.get("LAMBDA_TASK_ROOT", "/var/task")
    return [root, "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"]


def _prepare_logging():
    logging = sys.modules.get("logging")
    if logging is None:
        sys.meta_path.insert(0, _LoggingHook)
    else:  # imported ahead
        logging._startTime = time.time_ns() if sys.version_info >= (3, 13) else time.time()
        _set_up_logging(logging)


def main():
    if _PARK in _ENVIRON:
        _set_up()
        import _berth_parking

        _berth_parking.park(sys.modules[__name__])
    else:
        _wrap()
        _set_up()
        _set_up_function()
        _prepare_logging()
    try:
        handler = _load(_ENVIRON.get("_HANDLER", ""))
    except Exception as e:
        error = _describe(e, "")
        _log_error(error)
        _flush()
        _send(_error_frame(b"I", error))
        sys.exit(1)
    answer = _NEXT
    while True:
        _flush()
        _send(answer)
        answer = None
        answer = _handle(handler, _receive())


main()
