"""The rules of the house that a machine can check: who imports whom, sizes, and who prints."""

import ast
from functools import cache
from pathlib import Path

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
    "api": {"core", "ops", "families", "units", *VERBS},
    "spine": {"core", "families", "ops", "units", *VERBS},
    "release": {"artefact", "core", "families"},
    # A job is a whole program made of the spine's steps.
    "jobs": {"api", "core", "families", "report", "spine", "units", *VERBS},
    "dashboard": {"core", "release", "report"},
    # What is tried on a version is written into its line.
    "trials": {"api", "core", "data", "evaluation", "families", "jobs", "release"},
    "cli": {"api", "core", "dashboard", "jobs", "release", "report", "trials"},
}


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
    return [(name, line) for name, line in found if name.split(".")[0] == "ssmith"]


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


def test_the_catalogue_reads_the_spine_and_what_it_returns():
    rooms = {room_of(name) for name, _ in imports(ROOT / "__init__.py")}
    verbs = {"api", "spine", "criteria", "evaluation", "jobs", "report", "tune"}
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
