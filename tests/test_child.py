"""A helper process may die, stall, flood or lie: the daemon notices, says what happened, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.child import LINE_LIMIT_BYTES, Child, ChildError


async def started(code: str, stall_limit_s: float = 10.0) -> Child:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", code,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES, start_new_session=True,
    )  # fmt: skip
    return Child(process, stall_limit_s)


async def all_lines(child: Child) -> AsyncIterator[object]:
    while (line := await child.line()) is not None:
        yield line


async def test_lines_come_in_order_and_the_end_is_known() -> None:
    child = await started("print('[1]'); print('{\"a\": 2}')")
    assert [line async for line in all_lines(child)] == [[1], {"a": 2}]
    await child.stop()


async def test_a_helper_that_dies_is_told_with_its_last_words() -> None:
    child = await started("import sys; print('[1]', flush=True); sys.exit('boom')")
    assert await child.line() == [1]
    with pytest.raises(ChildError, match="ended with 1: boom"):
        await child.line()
    await child.stop()


async def test_a_killed_helper_is_not_taken_for_finished() -> None:
    child = await started("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ChildError, match="ended with -9"):
        await child.line()
    await child.stop()


async def test_silence_ends_at_the_stall_limit() -> None:
    child = await started("import time; time.sleep(60)", stall_limit_s=0.2)
    with pytest.raises(ChildError, match=r"no answer for 0\.2 s"):
        await child.line()
    await child.stop()


@pytest.mark.parametrize("flood", ["'x' * (1 << 20)", "'[' * 60000", "'{'"])
async def test_a_line_that_is_too_long_or_no_json_is_refused(flood: str) -> None:
    child = await started(f"print({flood})")
    with pytest.raises(ChildError):
        await child.line()
    await child.stop()


async def test_a_line_that_breaks_off_is_not_taken_for_the_end() -> None:
    child = await started("import sys; sys.stdout.write('[1]\\n[2')")
    assert await child.line() == [1]
    with pytest.raises(ChildError, match="middle of a line"):
        await child.line()
    await child.stop()


async def test_lines_of_any_length_come_whole_however_they_are_cut() -> None:
    code = "import os, time\nfor at in range(0, len(text), 7000): os.write(1, text[at:at+7000].encode())"
    lengths = [1, 10, 16_000, 60_000, 3, 40_000]
    child = await started(f"text = ''.join('\"' + 'x' * n + '\"\\n' for n in {lengths})\n" + code)
    assert [len(str(line)) async for line in all_lines(child)] == lengths
    await child.stop()


async def test_a_helper_that_talks_without_pause_leaves_turns_to_others() -> None:
    child = await started("while True: print('[1]' * 1 + ' ' * 1000)")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(1000):
        await child.line()
    assert turns > 10
    task.cancel()
    await child.stop()


async def test_a_flooded_stderr_does_not_stop_the_helper() -> None:
    child = await started("import sys; sys.stderr.write('e' * 3_000_000); print('[7]')")
    assert await child.line() == [7]
    await child.stop()


async def test_send_to_a_helper_that_closed_its_input_is_an_error() -> None:
    child = await started("import os, time; os.close(0); print('[0]', flush=True); time.sleep(60)")
    assert await child.line() == [0]
    with pytest.raises(ChildError):
        await child.send(*({"data": "x" * 10_000} for _ in range(100)))
    await child.stop()


async def test_send_to_a_helper_that_reads_nothing_ends_at_the_stall_limit() -> None:
    child = await started("import time; time.sleep(60)", stall_limit_s=0.2)
    with pytest.raises(ChildError, match="takes no input"):
        await child.send({"data": "x" * 5_000_000})
    await child.stop()


async def test_stop_kills_grandchildren_too(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(f'[{p.pid}]', flush=True); p.wait()"
    child = await started(code)
    line = await child.line()
    assert isinstance(line, list)
    await child.stop()
    for _ in range(100):
        if has_ended(line[0]):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the grandchild lives")


def has_ended(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().split()[2] == "Z"


async def test_the_helper_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1")
    child = await Child.start("agent.drivers.puller", ["/nowhere", "0", "0", "0", "0", "3"], stall_limit_s=10)
    environment = environment_of(child.pid)
    assert "TZ=UTC" in environment
    assert "SECRET_TOKEN" not in environment
    await child.stop()


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


async def test_a_helper_that_can_not_be_started_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ChildError, match="can't be started: No such file"):
        await Child.start("platform", [], stall_limit_s=10)


async def test_a_helper_can_be_stopped_while_somebody_waits_for_its_next_line() -> None:
    """A recorder is unplugged just when its helper has nothing to say."""
    child = await started("import time; print('[1]', flush=True); time.sleep(60)")
    assert await child.line() == [1]
    waiting = asyncio.create_task(child.line())
    await asyncio.sleep(0)
    await child.stop()
    with pytest.raises(ChildError, match="ended with"):
        await waiting
    assert has_ended(child.pid)
