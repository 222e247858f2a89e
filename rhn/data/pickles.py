"""Reading a pickle as data: dictionaries, lists, tuples, integers and strings, and nothing that runs.

A pickle is a program for a small stack machine. Its instructions are first listed without running any of them; only
those that build plain containers are admitted, so that imports, calls, attribute changes, persistent objects and
extension codes are refused before the first instruction runs. Keys of dictionaries must be texts: of integers a file
can hold thousands that all collide, and the hash of a tuple that holds itself twice over takes as long as one likes.
What is left runs in an unpickler whose every import raises as well.
"""

import io
import pickle
import pickletools

MOST_INSTRUCTIONS = 2**21  # some seconds; the original chorales take a tenth
_CONTAINERS = "MARK STOP POP POP_MARK DUP PROTO FRAME"
_TO, _FROM = "PUT BINPUT LONG_BINPUT MEMOIZE", "GET BINGET LONG_BINGET"  # the memo
_LISTS = "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS"
_INTEGERS = "INT BININT BININT1 BININT2 LONG LONG1"
_STRINGS = "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE"
_ADMITTED = frozenset(f"{_CONTAINERS} {_TO} {_FROM} {_LISTS} {_INTEGERS} {_STRINGS}".split())
_TO_MEMO, _FROM_MEMO, _TEXTS = (frozenset(names.split()) for names in (_TO, _FROM, _STRINGS))


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
    stack, memo = [], {}
    for number, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if number == MOST_INSTRUCTIONS:
            raise ValueError(f"more than {MOST_INSTRUCTIONS} instructions")
        if opcode.name not in _ADMITTED:
            raise ValueError(f"instruction {opcode.name} at byte {position} is more than data, and is refused unrun")
        if "PUT" in opcode.name and argument > len(data):  # the memo table grows to the index: a memory bomb
            raise ValueError(f"memo index {argument} at byte {position} is larger than the file")
        _step(stack, memo, opcode, argument, position)


def _step(stack: list, memo: dict, opcode: pickletools.OpcodeInfo, argument, position: int) -> None:
    """What an instruction does to a stack that holds only what each object is: a mark, a text (True) or something else."""
    name, before = opcode.name, opcode.stack_before
    if name in _TO_MEMO:
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        return
    taken = []
    if pickletools.markobject in before:
        while (top := stack.pop()) is not pickletools.markobject:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    taken = [stack.pop() for _ in before][::-1] + taken[::-1]
    items = {"DICT": taken, "SETITEM": taken[1:], "SETITEMS": taken[1:]}.get(name, ())
    if not all(key is True for key in items[::2]):
        raise ValueError(f"a dictionary's key, at byte {position}, is no text: expected train, valid and test")
    if name in _FROM_MEMO:
        stack.append(memo[argument])
    elif name == "MARK":
        stack.append(pickletools.markobject)
    else:
        stack.extend([name in _TEXTS or (name == "DUP" and taken[0])] * len(opcode.stack_after))


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise ValueError(f"it asks for {module}.{name}, and is refused")
