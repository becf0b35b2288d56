"""The rules of the house that no linter knows, read off the syntax trees of the product."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
AGENT = sorted((ROOT / "agent").rglob("*.py"))
PRODUCT = [*AGENT, *sorted((ROOT / "simulator").rglob("*.py"))]
MAX_FUNCTION_LINES = 49
MAX_FILE_LINES = 400
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

RUNNER = "agent/pipeline/runner.py"
EFFECTS = {
    "os": {
        "chmod", "fchmod", "fdatasync", "fsync", "ftruncate", "link", "remove", "removedirs", "rename", "renames",
        "replace", "rmdir", "symlink", "sync", "truncate", "unlink",
    },
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
}  # fmt: skip
PATH_EFFECTS = {"chmod", "hardlink_to", "rename", "rmdir", "symlink_to", "unlink"}
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|BEGIN|COMMIT|ATTACH|VACUUM)\b[ \n]")
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"}
READ_ONLY_TYPES = re.compile(r"\b(Mapping|Sequence|Set|AbstractSet)\[")

Finder = Callable[[ast.AST], Iterator[ast.AST]]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """The name of a called or caught thing as written: `os.unlink`, `Held`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
    return ""


def places(find: Finder, paths: list[Path] = AGENT, *, allowed: str = r"(?!)") -> list[str]:
    """file:line of everything that `find` finds in files whose path doesn't match `allowed`."""
    return [
        f"{relative(path)}:{getattr(node, 'lineno', 0)}"
        for path in paths
        if not re.fullmatch(allowed, relative(path))
        for node in find(tree(path))
    ]


def broad_handlers(module: ast.AST) -> Iterator[ast.AST]:
    caught: list[ast.expr]
    for node in ast.walk(module):
        match node:
            case ast.ExceptHandler(type=None):
                caught = [ast.Name(id="BaseException")]
            case ast.ExceptHandler(type=ast.Tuple(elts=caught)) | ast.Call(func=ast.Name(id="suppress"), args=caught):
                pass
            case ast.ExceptHandler(type=ast.expr() as one):
                caught = [one]
            case _:
                continue
        if any(dotted(name).split(".")[-1] in {"Exception", "BaseException"} for name in caught):
            yield node


def calls(*names: str) -> Finder:
    def find(module: ast.AST) -> Iterator[ast.AST]:
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in names:
                yield node

    return find


def effects(module: ast.AST) -> Iterator[ast.AST]:
    """Calls that rename, remove, sync or change permissions, as function of a module or as method of a path."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and EFFECTS.get(node.module or "", set()) & {n.name for n in node.names}:
            yield node
        if not isinstance(node, ast.Attribute):
            continue
        owner = dotted(node.value)
        if node.attr in EFFECTS.get(owner, set()) or (owner not in EFFECTS and node.attr in PATH_EFFECTS):
            yield node


def environment(module: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.environb", "os.getenv", "os.putenv"}:
            yield node


def sql(module: ast.AST) -> Iterator[ast.AST]:
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names) if any(name.name == "sqlite3" for name in names):
                yield node
            case ast.ImportFrom(module="sqlite3"):
                yield node
            case ast.Constant(value=str(text)) if id(node) not in docs and SQL.match(text):
                yield node


def mutable_state(module: ast.AST) -> Iterator[ast.AST]:
    """Module-level names bound to something that can change, and `global`; read-only annotations make a table."""
    assert isinstance(module, ast.Module)
    yield from (node for node in ast.walk(module) if isinstance(node, ast.Global))
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                continue
            case ast.Assign(value=value):
                annotation = ""
            case ast.AnnAssign(value=ast.expr() as value, annotation=kind):
                annotation = ast.unparse(kind)
            case _:
                continue
        literal = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
        called = isinstance(value, ast.Call) and dotted(value.func).split(".")[-1] in MUTABLE_CALLS
        if (literal or called) and not READ_ONLY_TYPES.search(annotation):
            yield node


def long_functions(module: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                yield node


def durable_imports(module: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(module):
        match node:
            case ast.ImportFrom(module="agent.durable") | ast.Import(names=[ast.alias(name="agent.durable")]):
                yield node
            case ast.ImportFrom(module="agent", names=names) if any(name.name == "durable" for name in names):
                yield node


def test_the_product_was_found() -> None:
    assert len(AGENT) > 5


def test_there_is_at_most_one_broad_except_and_it_is_the_runners() -> None:
    assert places(broad_handlers, PRODUCT, allowed=RUNNER) == []
    assert len(places(broad_handlers)) <= 1


def test_functions_are_short() -> None:
    assert places(long_functions, PRODUCT) == []


def test_files_are_short() -> None:
    lengths = {relative(path): path.read_text(encoding="utf-8").count("\n") for path in PRODUCT}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_modules_are_named_after_what_they_do() -> None:
    assert [relative(path) for path in PRODUCT if set(path.stem.split("_")) & BANNED_NAMES] == []


def test_every_module_starts_with_a_sentence_that_says_what_it_is_for() -> None:
    speechless = [p for p in PRODUCT if p.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(p))]
    assert [relative(path) for path in speechless] == []


def test_only_the_vault_makes_a_proof_that_bytes_are_held() -> None:
    assert places(calls("Held"), allowed=r"agent/(vault|journal/codec|uploader/directory_worker)\.py") == []


def test_only_stores_make_a_proof_that_the_centre_has_the_bytes() -> None:
    assert places(calls("Receipt"), allowed=r"agent/(uploader/(s3/)?\w+|journal/codec)\.py") == []


def test_an_original_is_removed_in_one_place_with_a_proof_that_one_place_makes() -> None:
    (maker,) = places(calls("Releasable"))
    assert maker.startswith("agent/pipeline/releasable.py:")
    (caller,) = places(calls("free_original"))
    assert caller.startswith("agent/pipeline/releasing.py:")
    (released,) = places(calls("Released"))
    assert released.startswith("agent/pipeline/releasing.py:")


def test_only_the_journal_speaks_sql() -> None:
    assert places(sql, allowed=r"agent/journal/(projection/)?\w+\.py") == []


def test_only_durable_renames_removes_and_syncs() -> None:
    assert places(effects, allowed=r"agent/durable\.py") == []


def test_beside_the_vault_and_the_key_no_neighbour_touches_what_is_durable() -> None:
    private = {"vault", "read_back", "medium_reader", "signing", "durable"}
    neighbours = [path for path in AGENT if path.parent == ROOT / "agent" and path.stem not in private]
    below = [path for path in neighbours if path.stem not in {"cli", "service", "__main__"}]
    assert places(durable_imports, below) == []


def test_only_the_configuration_reads_the_environment() -> None:
    assert places(environment, allowed=r"agent/(config/\w+|drivers/(parser|puller|sandbox))\.py") == []


def test_no_module_holds_state() -> None:
    assert places(mutable_state, PRODUCT) == []


@pytest.mark.parametrize(
    ("find", "bad", "good"),
    [
        (broad_handlers, "try: f()\nexcept (OSError, Exception): raise", "try: f()\nexcept OSError: raise"),
        (broad_handlers, "try: f()\nexcept: raise", "with suppress(KeyError): f()"),
        (broad_handlers, "with contextlib.suppress(OSError), suppress(BaseException): f()", "raise Exception('x')"),
        (effects, "os.unlink(p)", "text.replace('a', 'b')"),
        (effects, "from os import fsync", "os.open(p, 0)"),
        (effects, "path.unlink(missing_ok=True)", "durable.remove_part(p)"),
        (effects, "shutil.rmtree(p)", "shutil.disk_usage(p)"),
        (environment, "os.environ['A']", "config.environment"),
        (sql, "db.execute('SELECT 1 FROM t')", "def f():\n    'SELECT is a verb'"),
        (sql, "import sqlite3", "print('Select a slot')"),
        (mutable_state, "SEEN = set()", "KINDS: Final[Mapping[str, int]] = {'a': 1}"),
        (mutable_state, "CACHE: Final = {}", "NAMES = ('a', 'b')"),
        (mutable_state, "def f():\n    global x", "def f():\n    x = []"),
        (long_functions, "def f():\n" + "    x = 1\n" * 49, "def f():\n" + "    x = 1\n" * 48),
        (calls("Held"), "model.Held('a')", "def f(held: Held): held('a')"),
        (durable_imports, "from agent import durable", "from agent import model"),
    ],
)
def test_the_rules_can_be_broken(find: Finder, bad: str, good: str) -> None:
    assert list(find(ast.parse(bad)))
    assert not list(find(ast.parse(good)))
