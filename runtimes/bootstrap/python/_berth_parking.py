"""How a process that was started before there is a function for it waits, and then becomes one that was started for that function:
same variables, directory, time zone, search path.

No code of a function has run before, and none ever will in another process that was forked from this one, so memory, seeds
and descriptors are the function's own. The frames are described in Berth's package runtimes (park.go).
"""

import _imp
import gc
import os
import sys
import time

from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import FileFinder, PathFinder, SourceFileLoader

_PARK = b"_BERTH_PARK"
_PARKED = b"\x01\x00\x00\x00P"
_LAYERS = 1  # flag of the take frame: something is mounted at /opt
_LARGEST = 65536  # bytes of a source file that is read with one call
_REHEARSAL = "_berth_rehearsal"


class PlainFinder:
    """Finds the handler's module where it is nothing but NAME.py in the function's directory, as it nearly always is.

    importlib's own way makes ten more system calls and runs twice the code, which at a cold start is not in the processor's
    caches. What comes of it is the same, down to __spec__ and tracebacks: rehearse compares. In any doubt importlib finds it.
    """

    trusted = False  # until the rehearsal has shown that this Python's importlib does the same
    needed = frozenset()  # names that are never the function's (_NEEDED)
    name = path = cached = None

    @classmethod
    def expect(cls, name, root, entries):
        """Has the module found here, if it can be. entries is what root holds."""
        if not cls.trusted or name + ".py" not in entries or "__pycache__" in entries or name in cls.needed or _imp.is_frozen(name):
            return
        if name in entries or any([name + suffix in entries for suffix in _imp.extension_suffixes()]):
            return  # a package or a compiled module comes first
        cls.name, cls.path = name, "%s/%s.py" % (root, name)
        cls.cached = "%s/__pycache__/%s.%s.pyc" % (root, name, sys.implementation.cache_tag)
        sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        sys.meta_path.remove(cls)
        if name != cls.name:
            return None
        try:
            file = os.open(cls.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                source = os.read(file, _LARGEST)
            finally:
                os.close(file)
            if not 0 < len(source) < _LARGEST:
                return None
            loader = SourceFileLoader(name, cls.path)
            code = loader.source_to_code(source, cls.path)
        except BaseException:
            return None  # importlib meets the same, and its traceback is the one to show
        spec = ModuleSpec(name, loader, origin=cls.path)
        spec.has_location = True
        spec.cached = cls.cached

        def get_code(_):
            del loader.get_code
            return code

        loader.get_code = get_code
        return spec


def _change(body):
    """Makes the environment the function's: NAME=VALUE for what is to be set, NAME for what is not to be there."""
    variables = os.environ._data  # to which bytes need not be decoded first
    zone = variables.get(b"TZ")
    for pair in body.split(b"\0"):
        name, sets, value = pair.partition(b"=")
        if sets:
            os.putenv(name, value)
            variables[name] = value
        elif name in variables:
            os.unsetenv(name)
            del variables[name]
    if variables.get(b"TZ") != zone:
        time.tzset()


def _enter(handler, ahead, layers, path):
    """Goes to the function's directory, and lets what is in there and in its layers win over modules that were imported ahead."""
    root = path[0]
    os.chdir(root)  # the directory of before lies under it
    entries = _list(root)
    _forget_shadowed(ahead, entries)
    for directory in path[1:] if layers else ():
        _forget_shadowed(ahead, _list(directory))
    PlainFinder.expect(handler.rpartition(".")[0], root, entries)


def _list(directory):
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()


def _forget_shadowed(ahead, entries):
    for shadowed in ahead.intersection([entry.split(".", 1)[0] for entry in entries]):
        for name in [n for n in sys.modules if n == shadowed or n.startswith(shadowed + ".")]:
            del sys.modules[name]


def _rehearse(main):
    """Goes the way of a first call some times, so that the function's goes over memory that is there and code that is warm."""
    meta = b"0\0\0\0\0\0\0\0"
    frame = b"\0\0\0\0V" + len(meta).to_bytes(4, "little") + meta
    here = os.path.dirname(sys.argv[0])
    seen = []
    for plain in (False, True, True, True):
        _change(b"%s=x\0%s" % (_PARK, _PARK))
        main._set_up_function()
        PlainFinder.trusted = plain
        _enter("", frozenset(), False, [here])
        PlainFinder.expect(_REHEARSAL, here, [_REHEARSAL + ".py"])
        main._handle(main._load(_REHEARSAL + ".handler"), frame + b'{"a": [1, "b"]}')
        module = sys.modules.pop(_REHEARSAL)
        seen.append([sorted(vars(module)), vars(module.__spec__), module.__file__, module.__cached__])
    PlainFinder.trusted = all([s == seen[0] for s in seen])
    main.Current.request_id = ""


def _find_ahead(root):
    """Leaves who looks for modules in the function's directory, as the first import there would: it takes a while to make. It knows
    nothing of what is in there yet."""
    sys.path_importer_cache.clear()
    PathFinder.find_spec(_REHEARSAL, [root])
    finder = sys.path_importer_cache.get(root)
    if isinstance(finder, FileFinder):
        finder.invalidate_caches()
    else:
        sys.path_importer_cache.clear()


def park(main):
    """Imports the modules that _BERTH_PARK names, waits until a function is known, and becomes its process."""
    names = os.environ.pop(_PARK.decode())
    before = set(sys.modules)
    for name in names.split(","):
        __import__(name)
    ahead = {name.split(".")[0] for name in sys.modules if name not in before} - main._NEEDED
    PlainFinder.needed = main._NEEDED
    _rehearse(main)
    _find_ahead(main._function_path()[0])
    gc.collect()
    gc.freeze()  # what is there now is never garbage: leave it out of the function's collections
    main._send(_PARKED)
    take = main._receive()
    end = 4 + int.from_bytes(take[:4], "little")
    _change(take[6:end])
    main._set_up_function()
    main._prepare_logging()
    path, handler = main._function_path(), os.environ.get("_HANDLER", "")
    if end == len(take):
        main._receive()  # the go frame: the function's files are there now. It may have come right behind the other
    _enter(handler, ahead, take[5] & _LAYERS, path)
    del sys.modules[__name__]
