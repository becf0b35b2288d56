"""What the helpers of a docking load when they start: a crowd of recorders waits for two of them each."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from agent.child import Child, ChildError, command

COSTLY: Final = {
    "agent.model", "asyncio", "ast", "blake2", "dataclasses", "hashlib", "importlib.metadata", "inspect", "logging",
    "pathlib", "platform", "runpy", "selectors", "site", "socket", "sqlite3", "subprocess", "tempfile", "threading",
    "tomllib", "traceback", "urllib.parse", "uuid",
}  # fmt: skip
"""Modules that a helper has no use for, each of which costs as much as all of its own."""

SHARED: Final = {"agent", "agent.card", "agent.drivers", "agent.errors"}
READING: Final = {f"agent.drivers.{name}" for name in ("puller", "pulling", "reading", "sandbox", "source")}
PARSING: Final = {
    f"agent.drivers.{name}"
    for name in (
        "clusters", "exfat", "fat", "fat_directory", "filesystem", "names", "parser", "partition", "sandbox",
        "source", "tsk", "walk",
    )
}  # fmt: skip
HELPERS: Final = {
    "agent.drivers.puller": {*SHARED, *READING, "agent.durable"},
    "agent.drivers.parser": {*SHARED, *PARSING},
}


def loaded(module: str, say: str) -> list[str]:
    """What the helper prints once its imports are done, before it does anything."""
    program, *options, code = command(module)
    told = code.partition("; os._exit")[0] + f"; print(*{say}, sep='\\n')"
    done = subprocess.run([program, *options, told], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.mark.parametrize("module", HELPERS)
def test_a_helper_loads_only_what_it_needs(module: str) -> None:
    modules = set(loaded(module, "sys.modules"))
    assert {name for name in modules if name.partition(".")[0] == "agent"} == HELPERS[module]
    assert modules & COSTLY == set()


@pytest.mark.parametrize("module", HELPERS)
def test_a_helper_compiles_no_annotations(module: str) -> None:
    """Annotations of a named tuple that are text are compiled when it is made: no such module postpones them."""
    tuples = "(kind for kind in tuple.__subclasses__() if hasattr(kind, '_fields'))"
    texts = loaded(
        module,
        f"[kind for kind in {tuples} if any(type(t).__name__ == 'ForwardRef' for t in kind.__annotations__.values())]",
    )
    assert texts == []
    assert len(loaded(module, f"[kind.__name__ for kind in {tuples} if kind.__module__.startswith('agent.')]")) >= 4


@pytest.mark.parametrize("module", HELPERS)
def test_a_helper_collects_garbage_while_it_works(module: str) -> None:
    assert loaded(module, "[gc.isenabled()]") == ["True"]


def test_a_helper_finds_packages_where_the_service_does_and_nowhere_else() -> None:
    paths = loaded("agent.drivers.puller", "sys.path")
    assert paths == [path for path in sys.path if path.startswith("/")]


async def test_an_exception_in_a_helper_is_told_as_before() -> None:
    """What ends without a tear-down is only the way that went well."""
    child = await Child.start("agent.drivers.puller", ["/nowhere", "no number"], stall_limit_s=30)
    try:
        with pytest.raises(ChildError, match="ended with 1: ValueError"):
            await child.line()
    finally:
        await child.stop()
