"""The rules of the house, read off the source: who may import whom, how long things get, what is never called."""

import ast
import re
from pathlib import Path

import pytest

import deepfield

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deepfield"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOMAINS = {
    "photoz", "morphology", "lensing", "inference", "emulators", "massmap", "transients", "intensity", "waves",
}  # fmt: skip
GROUND, MIDDLE = {"core", "physics"}, {"data", "trust", "scale"}
BEGUN = {"lensing"}  # rooms whose physics is there and whose command line is still to come
SHARED = {"deepfield.core.errors", "deepfield.core.optional"}  # what a user is told, the same on every floor
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
WRITES_PICKLE = {"photoz/rail.py"}  # RAIL keeps its models so; what goes in is one string of bytes

# Public modules without a test file of their own name, and where they are tested.
TESTED_ELSEWHERE = {
    "core/devices.py": "tests/core/test_fit.py",
    "core/errors.py": "tests/core/test_store.py",  # names alone; every test of an error uses them
    "core/flow.py": "tests/core/test_heads.py",
    "core/nets/mlp.py": "tests/core/test_nets.py",
    "core/optional.py": "tests/core/test_distributed.py",
    "data/presets.py": "tests/data/test_columns.py",
    "photoz/export_qp.py": "tests/photoz/test_qp.py",
    "photoz/gridded.py": "tests/photoz/test_classical.py",
    "photoz/neighbours.py": "tests/photoz/test_classical.py",
    "photoz/prediction.py": "tests/photoz/test_qp.py",
    "photoz/prior.py": "tests/photoz/test_classical.py",
    "photoz/template_fit.py": "tests/photoz/test_classical.py",
    "physics/filters.py": "tests/physics/test_sed.py",
    "physics/learning.py": "tests/physics/test_sed.py",
    "physics/populations.py": "tests/photoz/test_simulate.py",
    "physics/templates.py": "tests/physics/test_sed.py",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """Full names of all that a file of the package imports from it, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = str(node.module)
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "deepfield" else {module}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "deepfield":
            found.add(f"deepfield.{node.attr}")
    return {name for name in found if name.split(".")[0] == "deepfield" and name.count(".")}


def room(name: str) -> str:
    return name.split(".")[1]


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    own = path.relative_to(PACKAGE).parts[0]
    names = {n for n in imports(path) if room(n) in GROUND | MIDDLE | DOMAINS}
    if own in ("__init__.py", "cli.py"):
        return
    if own == "core":
        allowed = {"core"}
    elif own == "physics":
        names -= SHARED
        allowed = {"physics"}
    elif own in MIDDLE:
        allowed = GROUND | MIDDLE
    else:
        allowed = GROUND | MIDDLE | {own}
    wrong = sorted(n for n in names if room(n) not in allowed)
    assert not wrong, f"{name_of(path)} may import from {sorted(allowed)}, not {wrong}"


def test_rooms_are_those_of_the_plan():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert rooms <= GROUND | MIDDLE | DOMAINS, "a room may be absent but is never renamed"
    assert rooms >= GROUND | MIDDLE
    assert set(deepfield.SCIENCES) == (rooms & DOMAINS) - BEGUN
    for science in deepfield.SCIENCES:
        assert (PACKAGE / science / "commands.py").exists(), f"{science} has no command line"


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_fit_on_a_screen(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            text = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            length = node.end_lineno - node.lineno + 1 - text  # of code, the docstring aside
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_read_can_run(path):
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else {str(node.module)}
            found = {n.split(".")[0] for n in names} & modules
            assert found <= ({"pickle"} if name_of(path) in WRITES_PICKLE else set()), (
                f"line {node.lineno}: {found}"
            )
    for function, node in calls(path):
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        where = f"line {node.lineno}: {ast.unparse(node)}"
        assert function not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), where
        assert not (function == "torch.load" and options.get("weights_only") != "True"), where
        assert options.get("allow_pickle", "False") == "False" and options.get("shell", "False") == "False", where
        assert function not in ("pickle.load", "pickle.loads", "pickle.Unpickler"), where
        assert function not in ("yaml.load", "yaml.unsafe_load"), where


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_seeds_are_never_global(path):
    for function, node in calls(path):
        assert not re.fullmatch(r"(np|numpy)\.random\.seed|random\.seed|(pl|fabric)\.seed_everything", function), (
            node.lineno
        )
    lines = [
        range(node.lineno, node.end_lineno + 1)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items)
    ]
    for function, node in calls(path):
        if function == "torch.manual_seed":
            assert any(node.lineno in span for span in lines), f"line {node.lineno} seeds torch for everyone"


@pytest.mark.parametrize("path", [p for p in FILES if not p.name.startswith("_")], ids=name_of)
def test_every_public_module_is_tested(path):
    name = name_of(path)
    mirror = ROOT / "tests" / Path(name).parent / f"test_{path.stem}.py"
    if name not in TESTED_ELSEWHERE:
        assert mirror.exists(), f"write {mirror.relative_to(ROOT)}"
        return
    assert not mirror.exists(), f"{name} has its test: take it off the list"
    other = ROOT / TESTED_ELSEWHERE[name]
    module = "deepfield." + name.removesuffix(".py").replace("/", ".")
    room_of_it = ".".join(module.split(".")[:2])
    assert room_of_it in other.read_text(encoding="utf-8"), f"{other} tests nothing of {room_of_it}"


def test_the_list_of_exceptions_is_of_modules_that_exist():
    assert [name for name in TESTED_ELSEWHERE if not (PACKAGE / name).exists()] == []


def _texts() -> list[Path]:
    kinds = {".py", ".md", ".rst", ".toml", ".json", ".html", ".css", ".yaml", ".yml", ".cff", ".txt", ".cfg", ""}
    folders = ("src", "tests", "benchmarks", "docs", "examples", ".ci")
    inside = [p for f in folders if (ROOT / f).exists() for p in (ROOT / f).rglob("*") if p.is_file()]
    top = [p for p in ROOT.iterdir() if p.is_file() and p.name != ".git"]  # a file in a git worktree
    skip = ("__pycache__", "_build", ".egg-info", "api")
    return [
        p for p in [*inside, *top] if p.suffix in kinds and not any(s in str(p.relative_to(ROOT)) for s in skip)
    ]


def test_no_path_of_one_machine_is_in_the_tree():
    # A slash, a folder where people or jobs live, a slash.
    pattern = re.compile(r"(?<![\w.~<}])/(?:work|home|Users|root|mnt|scratch)/[\w.]|[A-Z]:\\Users")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _texts()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
        if pattern.search(line) and path != Path(__file__)
    ]
    assert wrong == []
