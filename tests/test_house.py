"""The rules of the house that a machine can check: who imports whom, sizes, and who prints."""

import ast
import re
from functools import cache
from pathlib import Path

from ssmith.units.table import UNITS

ROOT = Path(__file__).parents[1] / "src" / "ssmith"
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 500

# Stands in for a method of another library and hands it whatever it was given.
PASSES_FOREIGN_ARGUMENTS_ON = {
    "ssmith.calibrate.observe.forward",
    "ssmith.families.hf.engine._generate",
    "ssmith.families.hf.engine._mix",
    "ssmith.families.hf.engine._place",
}
VERBS = {"allocate", "artefact", "calibrate", "criteria", "data", "evaluation", "surgery", "tune"}
MAY_IMPORT = {
    "core": set(),
    "ops": {"core"},
    "data": {"core"},
    "recordings": {"core", "data"},
    "allocate": {"core", "units"},
    "report": {"core", "units"},
    "units": {"core"},
    "families": {"core", "ops", "units"},
    "criteria": {"core", "ops", "units"},
    "calibrate": {"core", "ops", "families"},
    "surgery": {"core", "families", "units"},
    "evaluation": {"core", "families"},
    "tune": {"core", "ops", "families"},
    "artefact": {"core", "families", "surgery", "tune", "units"},
    "api": {"core", "ops", "families", "recordings", "units", *VERBS},
    "spine": {"core", "families", "ops", "units", *VERBS},
    "release": {"artefact", "core", "families"},
    # A job is a whole program made of the spine's steps.
    "jobs": {"api", "core", "families", "recordings", "report", "spine", "units", *VERBS},
    "cycle": {"core", "jobs", "release", "trials", "watch"},
    "dashboard": {"core", "release", "report"},
    # A model in use.
    "serving": {"api", "core", "families", "jobs", "recordings", "report", *VERBS},
    # What is tried on a version is written into its line.
    "trials": {"api", "core", "data", "evaluation", "families", "jobs", "release"},
    "watch": {"api", "core", "families", "jobs", "ops", "release", *VERBS},
    "cli": {
        "api",
        "core",
        "cycle",
        "dashboard",
        "jobs",
        "release",
        "report",
        "serving",
        "trials",
        "watch",
    },
}

LARGEST_SHARE_OF_FAMILIES = 0.12


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path):
    parts = ("ssmith", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path):
    """Every module of ours that a file names, wherever in the file, with its line."""
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner if inner in MODULES else node.module, node.lineno))
        elif isinstance(node, ast.Constant) and path != ROOT / "__init__.py":
            # A name that is imported when it is needed, or hidden in a string.
            found += [(node.value, node.lineno)] if is_file(node.value) else []
    return [(name, line) for name, line in found if name.split(".")[0] == "ssmith"]


def is_file(name):
    """Whether a value is the dotted name of a file that is more than a catalogue."""
    path = MODULES.get(name) if isinstance(name, str) else None
    return path is not None and path.name != "__init__.py"


def test_the_tree_was_found():
    assert len(FILES) > 100
    rooms = {room_of(module) for module in MODULES} - {"", "__main__"}
    assert rooms <= set(MAY_IMPORT), "a room without a line in the import table"


def test_rooms_import_only_what_they_may():
    # The catalogue and the entry point have their own tests.
    inside = {module: path for module, path in MODULES.items() if room_of(module) in MAY_IMPORT}
    assert not [
        f"{path}:{line}: {room_of(module)} may not import {name}"
        for module, path in inside.items()
        for name, line in imports(path)
        if room_of(name) not in {room_of(module), *MAY_IMPORT[room_of(module)]}
    ]


def test_the_list_of_rooms_is_whole_and_its_arrows_point_down():
    readme = (ROOT.parents[1] / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", readme, re.M)
    assert sorted(listed) == sorted(MAY_IMPORT)
    up = [
        f"{room} -> {other}"
        for place, room in enumerate(listed)
        for other in sorted(MAY_IMPORT[room] & set(listed[:place]))
    ]
    assert up == []


def test_the_catalogue_reads_the_spine_and_what_it_returns():
    rooms = {room_of(name) for name, _ in imports(ROOT / "__init__.py")}
    verbs = {"api", "spine", "criteria", "evaluation", "jobs", "report", "serving", "tune"}
    verbs |= {"release", "trials", "watch"}
    assert rooms <= {"core", "families", *verbs}


def test_verb_rooms_do_not_import_each_other():
    # The one exception the table makes: what is saved may be cut or adapted.
    assert MAY_IMPORT["artefact"] & VERBS == {"surgery", "tune"}
    for room in VERBS - {"artefact"}:
        assert not MAY_IMPORT[room] & (VERBS - {room})


def test_no_file_imports_itself_through_others():
    edges = {module: {name for name, _ in imports(path)} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for other in sorted(edges.get(module, ())):
            visit(other, [*trail, module])
        done.add(module)

    for module in edges:
        visit(module, [])


def test_files_stay_short():
    tests = Path(__file__).parent.rglob("*.py")
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in (*FILES, *tests)}
    assert not {path: count for path, count in lines.items() if count > LONGEST}


def prints(node):
    """Whether a piece of code writes to the terminal."""
    printed = isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    stream = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")
    rich = isinstance(node, ast.Import | ast.ImportFrom) and "rich" in ast.dump(node)
    return printed or stream or rich


def test_only_the_command_line_prints():
    assert not [
        f"{path}:{node.lineno}"
        for module, path in MODULES.items()
        if room_of(module) not in ("cli", "__main__")
        for node in ast.walk(parse(path))
        if prints(node)
    ]


def test_every_file_says_what_it_is():
    assert not [path for path in FILES if not ast.get_docstring(parse(path))]


def vices(module, node):
    """What a piece of code does that none of ours may."""
    if isinstance(node, ast.Global):
        yield "a global"
    if isinstance(node, ast.FunctionDef):
        foreign = f"{module}.{node.name}" in PASSES_FOREIGN_ARGUMENTS_ON
        if node.args.kwarg is not None and not foreign:
            yield "own **kwargs"
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        if any(isinstance(item, ast.List | ast.Dict | ast.Set) for item in defaults):
            yield "a mutable default"
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        yield "a star import"


def test_no_own_kwargs_star_imports_or_globals():
    assert not [
        f"{path}:{node.lineno}: {vice}"
        for module, path in MODULES.items()
        for node in ast.walk(parse(path))
        for vice in vices(module, node)
    ]


def classes():
    """Every class of ours with its file, those inside of functions too."""
    for path in FILES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                yield path, node


def test_one_name_is_one_class():
    places = {}
    for path, node in classes():
        if not node.name.startswith("_"):
            places.setdefault(node.name, []).append(f"{path}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def names_in(expressions):
    return [getattr(item, "id", getattr(item, "attr", "")) for item in expressions]


def test_a_public_method_is_documented_where_it_is_promised():
    above = {name for _, node in classes() for name in names_in(node.bases)}
    promised = {
        part.name
        for _, node in classes()
        if node.name in above or {"ABC", "Protocol"} & set(names_in(node.bases))
        for part in node.body
        if isinstance(part, ast.FunctionDef) and ast.get_docstring(part)
    }
    assert not [
        f"{path}:{part.lineno}: {node.name}.{part.name}"
        for path, node in classes()
        for part in node.body
        if isinstance(part, ast.FunctionDef)
        and not node.name.startswith("_")
        and not part.name.startswith("_")
        and not ast.get_docstring(part)
        and part.name not in promised
    ]


def asks_which_unit(node):
    """Whether a piece of code compares a unit with a certain one."""
    if not isinstance(node, ast.Compare) or "unit" not in names_in([node.left]):
        return False
    given = [part for other in node.comparators for part in ast.walk(other)]
    return any(
        (isinstance(part, ast.Constant) and part.value in UNITS)
        or (isinstance(part, ast.Name) and part.id.isupper() and part.id.lower() in UNITS)
        for part in given
    )


def test_what_a_unit_is_stands_in_its_table():
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for module, path in MODULES.items()
        if room_of(module) not in {"units", "families"}
        for node in ast.walk(parse(path))
        if asks_which_unit(node)
    }
    assert found == set()


def test_what_is_skipped_has_a_reason():
    # What packs several short items to a line needs no more than to end in its bracket.
    wrong = []
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            _, mark, rest = line.partition("# noqa")
            code = line.partition("#")[0].strip().rstrip(":")
            packs = code.startswith((")", "}", "]")) or code.endswith((")", "}", "]"))
            if ("# fmt: skip" in line and not packs) or (mark and " - " not in rest):
                wrong.append(f"{path}:{number}: {line.strip()}")
    assert not wrong


def test_families_are_no_larger_than_their_share():
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    own = sum(count for path, count in lines.items() if "families" in path.parts)
    share = own / sum(lines.values())
    assert share <= LARGEST_SHARE_OF_FAMILIES, f"{share:.1%} of the package"
