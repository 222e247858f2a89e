"""Reading a pickle as data: dictionaries, lists, tuples, integers and strings, and nothing that runs.

A pickle is a program for a small stack machine. Its instructions are first listed without running any of them; only
those that build plain containers are admitted, so that imports, calls, attribute changes, persistent objects and
extension codes are refused before the first instruction runs. What is left runs in an unpickler whose every import
raises as well.
"""

import io
import pickle
import pickletools

_CONTAINERS = "MARK STOP POP POP_MARK DUP PROTO FRAME"
_MEMO = "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
_LISTS = "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS"
_INTEGERS = "INT BININT BININT1 BININT2 LONG LONG1"
_STRINGS = "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE"
_ADMITTED = frozenset(f"{_CONTAINERS} {_MEMO} {_LISTS} {_INTEGERS} {_STRINGS}".split())


def loads(data: bytes):
    """The plain content of a pickle of any protocol, Python 2's included.

    Raises ValueError where it holds an instruction that is not admitted, or is damaged. Containers may share or
    even hold each other: whoever walks the result limits how far.
    """
    try:
        _inspect(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle makes the stack machine raise nearly anything
        raise ValueError(f"not a readable pickle ({type(error).__name__}: {error})") from error


def _inspect(data: bytes) -> None:
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name not in _ADMITTED:
            raise ValueError(f"instruction {opcode.name} at byte {position} is more than data, and is refused unrun")
        if "PUT" in opcode.name and argument > len(data):  # the memo table grows to the index: a memory bomb
            raise ValueError(f"memo index {argument} at byte {position} is larger than the file")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise ValueError(f"it asks for {module}.{name}, and is refused")
