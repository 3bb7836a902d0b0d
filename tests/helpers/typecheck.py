"""The checker of every type and shape during tests, in place of `jaxtyping.jaxtyped`.

The hook of jaxtyping's plugin puts that decorator on all functions and dataclasses. It binds every
call to a signature and checks arguments twice, which took two fifths of the suite; here beartype
checks once, the first calls of every function in every test, and is made when one is first called;
names of sizes have a scope only where an annotation has a shape.
"""

import dataclasses
import functools
import inspect
import os
import typing

import jaxtyping
from beartype import BeartypeConf, beartype

shaped = jaxtyping.jaxtyped

MOST_CHECKED = 4
"""Calls of each function that are checked in each test; a loop shows nothing new after them."""
calls = {}
"""How often each function was called since the test began, until it was often enough."""
enough = set()
"""Functions whose further calls are not checked; asked at every call, so no more is asked."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
"""beartype, for which an int may stand for a float, as in mypy."""


def checked(item=None, *, typechecker=check):
    """Return a function or dataclass that checks what it is given, and what it returns.

    Functions made inside others are left to mypy: they are made anew at every call, and making the
    check takes longer than most of them run.
    """
    if item is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(item):
        if dataclasses.is_dataclass(item) and "__init__" in vars(item):
            item.__init__ = checked(item.__init__)
        return item
    if "<locals>" in item.__qualname__:
        return item
    # Resolved now: by the time of the first call a test may have put something else in a name.
    item.__annotations__ = _hints_of(item)

    @functools.wraps(item)
    def counted(*args, **kwargs):
        __tracebackhide__ = True
        if item in enough:
            return item(*args, **kwargs)
        calls[item] = count = calls.get(item, 0) + 1
        if count >= MOST_CHECKED:
            enough.add(item)
        once, has_shape = _checking(item)
        if not has_shape:
            return once(*args, **kwargs)
        with shaped("context"):
            return once(*args, **kwargs)

    return counted


@functools.cache
def _checking(item):
    """Return a function that checks, and whether a shape is among its annotations."""
    return check(item), any(map(_has_shape, item.__annotations__.values()))


def _hints_of(function):
    """Return annotations as types; what only a type checker can import is anything."""
    found = {}
    for name, hint in function.__annotations__.items():
        one = type("one", (), {"__annotations__": {name: hint}})
        try:
            found |= typing.get_type_hints(one, function.__globals__, include_extras=True)
        except Exception:
            found[name] = typing.Any
    return found


def _has_shape(hint):
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    inner = [*typing.get_args(hint)]
    return any(map(_has_shape, inner)) or (isinstance(hint, list) and any(map(_has_shape, hint)))


def begin():
    """Check the first calls of every function again."""
    calls.clear()
    enough.clear()


class _Everything:
    def __contains__(self, _):
        return True


def _leave_to_others():
    """Check nothing in a fork: it would make each check anew, of calls that others check."""
    global enough  # noqa: PLW0603
    enough = _Everything()


jaxtyping.jaxtyped = checked
os.register_at_fork(after_in_child=_leave_to_others)
