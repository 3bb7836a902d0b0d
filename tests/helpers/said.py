"""Every sentence that the sources say by some class, with holes where values stand.

Sources are read, not run: what a keyword of a call is given is followed through names, branches,
helpers of the same file and parameters to where its words are written.
"""

import ast
import itertools
from functools import cache
from pathlib import Path

import ssmith

HOLE = "\0"
_ROOT = Path(ssmith.__file__).parent
_DEEP, _MOST, _ALIKE = 12, 400, 2


class _File:
    """One source, with the way from each node to what holds it."""

    def __init__(self, path):
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.above = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.above[child] = node

    def around(self, node):
        """Functions that a node stands in, the innermost first."""
        while node in self.above:
            node = self.above[node]
            if isinstance(node, ast.FunctionDef):
                yield node

    def called(self, name):
        """Functions of a name."""
        return [item for item in ast.walk(self.tree)
                if isinstance(item, ast.FunctionDef) and item.name == name]  # fmt: skip


def _name(node):
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@cache
def files():
    """Every source; they are read when the first test asks, and not by whoever lists the tests."""
    return [_File(path) for path in sorted(_ROOT.rglob("*.py"))]


@cache
def _calls():
    found = {}
    for file in files():
        for node in file.above:
            if isinstance(node, ast.Call):
                found.setdefault(_name(node.func), []).append((file, node))
    return found


@cache
def _methods():
    found = {}
    for file in files():
        for node, holder in file.above.items():
            if isinstance(node, ast.FunctionDef) and isinstance(holder, ast.ClassDef):
                found.setdefault(node.name, []).append((file, node))
    return found


def calls_of(name):
    """All calls of a class or a function: the file, and the call."""
    return _calls().get(name, [])


def said_by(name, keyword):
    """Pairs of a place and a sentence that calls of a class give to a keyword."""
    for file, call in calls_of(name):
        for item in call.keywords:
            if item.arg == keyword:
                place = f"{file.path.relative_to(_ROOT)}:{call.lineno}"
                for text in sorted(sentences(file, item.value)):
                    yield place, text


def sentences(file, node, depth=0):
    """All that an expression can say."""
    if depth > _DEEP:
        return {HOLE}
    deeper = depth + 1
    if isinstance(node, ast.Constant):
        return {str(node.value)} if isinstance(node.value, str) else {HOLE}
    if isinstance(node, ast.JoinedStr):
        return _joined([sentences(file, item, deeper) for item in node.values])
    if isinstance(node, ast.FormattedValue):
        plain = node.format_spec is None and node.conversion == -1
        return sentences(file, node.value, deeper) if plain else {HOLE}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([sentences(file, item, deeper) for item in (node.left, node.right)])
    if isinstance(node, ast.IfExp):
        return sentences(file, node.body, deeper) | sentences(file, node.orelse, deeper)
    if isinstance(node, ast.BoolOp):
        return set().union(*(sentences(file, item, deeper) for item in node.values))
    if isinstance(node, ast.Name):
        return _named(file, node, deeper)
    if isinstance(node, ast.Call) and _name(node.func) == "number_of":
        return _joined([{f"{HOLE} "}, sentences(file, node.args[1], deeper), {"s"}])
    if isinstance(node, ast.Call):
        return _returned(file, node.func, deeper)
    if isinstance(node, ast.Attribute):
        return _returned(file, node, deeper)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call):
        return _returned(file, node.value.func, deeper, node.slice)
    return {HOLE}


def _joined(parts):
    found = itertools.islice(itertools.product(*map(sorted, parts)), _MOST)
    return {"".join(item) for item in found}


def _named(file, node, depth):
    """What was assigned to a name, with all that is added behind it; or what callers give."""
    for function in file.around(node):
        begun, added = set(), []
        for item in ast.walk(function):
            for target, value in _assigned(item):
                if _name(target) == node.id and isinstance(item, ast.AugAssign):
                    added.append(value)
                elif _name(target) == node.id:
                    begun |= sentences(file, value, depth)
        if begun:
            begun = begun - {""} or begun
            more = set().union(*(sentences(file, value, depth) for value in added))
            # A sentence of its own, or an end: then one of them at a time.
            own = {text.lstrip("; ") for text in more if text.startswith("; ")}
            return begun | own | _joined([begun, {text for text in more if text[:2] != "; "}])
        begun = _of_list(file, function, node.id, depth)
        if begun:
            return begun
        names = [item.arg for item in (*function.args.args, *function.args.kwonlyargs)]
        if node.id in names:
            return _given(function, names.index(node.id), node.id, depth)
    return {HOLE}


def _assigned(node):
    """Pairs of a name and what it is set to."""
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    value = getattr(node, "value", None)
    if value is None or targets == [None]:
        return []
    if isinstance(targets[0], ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(targets[0].elts, value.elts, strict=False))
    if isinstance(targets[0], ast.Tuple) and isinstance(value, ast.Call):
        parts = (ast.Subscript(value, ast.Constant(place)) for place in itertools.count())
        return list(zip(targets[0].elts, parts, strict=False))
    return [(targets[0], value)]


def _of_list(file, function, name, depth):
    """What a list holds that a comprehension or a loop walks over by a name."""
    found = set()
    for item in ast.walk(function):
        if not isinstance(item, ast.comprehension | ast.For) or not isinstance(item.iter, ast.Name):
            continue
        names = item.target.elts if isinstance(item.target, ast.Tuple) else [item.target]
        places = [place for place, one in enumerate(names) if _name(one) == name]
        for where, call in calls_of("append") if places else ():
            own = where is file and function in file.around(call)
            if own and _name(call.func.value) == item.iter.id:
                value = call.args[0]
                inside = value.elts[places[0]] if isinstance(value, ast.Tuple) else value
                found |= sentences(file, inside, depth)
    return found


def _given(function, place, name, depth):
    found = set()
    for file, call in calls_of(function.name):
        given = {item.arg: item.value for item in call.keywords}
        value = given.get(name) or (call.args[place] if place < len(call.args) else None)
        if value is not None:
            found |= sentences(file, value, depth)
    return found or {HOLE}


def _returned(file, called, depth, place=None):
    """What helpers of the same file return, and methods and properties of one or two classes."""
    if isinstance(called, ast.Attribute):
        found = _methods().get(called.attr, [])
        functions = found if len(found) <= _ALIKE else []
    else:
        functions = [(file, item) for item in file.called(_name(called))]
    said = set()
    for where, function in functions:
        for item in ast.walk(function):
            value = item.value if isinstance(item, ast.Return) else None
            if isinstance(value, ast.Tuple) and isinstance(place, ast.Constant):
                value = value.elts[place.value]
            if value is not None:
                said |= sentences(where, value, depth)
    return said - {""} or {HOLE}
