"""Who goes next: the most urgent at every part, and of equally urgent recorders each its share."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.turns import Gate, Shares

NOW = datetime(2026, 11, 23, tzinfo=UTC)

# A gate.


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 3))
def test_the_earliest_due_goes_first(due: list[int], slots: int) -> None:
    """However they came; those that are due together go in the order they came."""

    async def run() -> list[tuple[int, int]]:
        gate, order, free = Gate(slots), [], asyncio.Event()

        async def hold() -> None:
            async with gate.slot(NOW):
                await free.wait()

        async def enter(number: int, hours: int) -> None:
            async with gate.slot(NOW + timedelta(hours=hours)):
                order.append((hours, number))

        holders = [asyncio.create_task(hold()) for _ in range(slots)]
        await asyncio.sleep(0)
        entering = [asyncio.create_task(enter(number, hours)) for number, hours in enumerate(due)]
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*holders, *entering)
        return order

    order = asyncio.run(run())
    assert order == sorted(order)
    assert len(order) == len(due)


@given(st.data())
def test_slots_are_never_lost_nor_doubled(data: st.DataObject) -> None:
    """Whoever is cancelled, at whatever moment: waiting, in its turn, or inside."""
    slots = data.draw(st.integers(1, 3))
    cancelled = data.draw(st.sets(st.integers(0, 9)))
    turns = data.draw(st.lists(st.integers(0, 6), min_size=10, max_size=10))

    async def run() -> None:
        gate, inside, most = Gate(slots), 0, 0

        async def enter(number: int) -> None:
            nonlocal inside, most
            async with gate.slot(NOW + timedelta(hours=number)):
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(enter(number)) for number in range(10)]
        for number in cancelled:
            for _ in range(turns[number]):
                await asyncio.sleep(0)
            tasks[number].cancel()
        await asyncio.wait(tasks)
        assert most <= slots
        async with asyncio.timeout(1), contextlib.AsyncExitStack() as all_of_them:
            for _ in range(slots):
                await all_of_them.enter_async_context(gate.slot(NOW))

    asyncio.run(run())


@given(
    jobs=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.booleans()), min_size=1, max_size=8),
    late=st.integers(1, 6),
)
def test_something_more_urgent_waits_for_one_part_of_each_at_most(jobs: list[tuple[int, int, bool]], late: int) -> None:
    """However many are on their way: once it wants to go, only what had its turn already begins."""

    async def run() -> None:
        gate, begun, is_in = Gate(3), [0] * len(jobs), False

        async def job(number: int, hours: int, parts: int, *, alone: bool) -> None:
            async with gate.slot(NOW + timedelta(hours=hours), alone=alone) as turn:
                for _ in range(parts):
                    await gate.give_way(turn)
                    assert not is_in
                    begun[number] += 1
                    await asyncio.sleep(0)

        async def urgent() -> None:
            nonlocal is_in
            for _ in range(late):
                await asyncio.sleep(0)
            before = list(begun)
            async with gate.slot(NOW - timedelta(hours=1), alone=True):
                is_in = True
                assert all(now - then <= 1 for now, then in zip(begun, before, strict=True))
                await asyncio.sleep(0)
                is_in = False

        async with asyncio.timeout(5):
            work = (job(number, hours, parts, alone=alone) for number, (hours, parts, alone) in enumerate(jobs))
            await asyncio.gather(urgent(), *work)
        assert begun == [parts for _, parts, _ in jobs], "everybody comes to an end"

    asyncio.run(run())


async def test_equals_go_on_one_after_the_other() -> None:
    """Two half copies would both be late where one whole is not."""
    gate, order = Gate(2), []

    async def job(name: str) -> None:
        async with gate.slot(NOW, alone=True) as turn:
            for _ in range(3):
                await gate.give_way(turn)
                order.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(job("a"), job("b"))
    assert "".join(order) == "aaabbb"


async def test_nobody_slips_in_before_one_who_waits_to_be_alone() -> None:
    gate, order = Gate(2), []

    async def job(name: str, hours: int, *, alone: bool = False) -> None:
        async with gate.slot(NOW + timedelta(hours=hours), alone=alone):
            order.append(name)
            await asyncio.sleep(0.001)

    await asyncio.gather(job("small", 0), job("large", 1, alone=True), job("later", 2), job("sooner", 0))
    assert order == ["small", "sooner", "large", "later"]


async def test_who_gives_up_waiting_to_be_alone_holds_up_nobody() -> None:
    gate = Gate(2)
    async with gate.slot(NOW):
        large = asyncio.create_task(gate.slot(NOW, alone=True).__aenter__())
        await asyncio.sleep(0)
        small = asyncio.create_task(gate.slot(NOW + timedelta(hours=1)).__aenter__())
        await asyncio.sleep(0)
        assert not small.done()
        large.cancel()
        async with asyncio.timeout(1):
            await small


async def test_who_is_cancelled_while_giving_way_takes_nothing_along() -> None:
    gate, inside = Gate(1), asyncio.Event()

    async def polite() -> None:
        async with gate.slot(NOW + timedelta(hours=1)) as turn:
            inside.set()
            await asyncio.sleep(0)
            await gate.give_way(turn)

    task = asyncio.create_task(polite())
    await inside.wait()
    async with gate.slot(NOW):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(1), gate.slot(NOW):
        pass


# Shares.


SIZES = st.integers(0, 1 << 32)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(SIZES, min_size=1, max_size=30), min_size=3))
def test_who_always_has_something_gets_as_much_as_every_other_but_for_one_file_of_each(
    files: dict[str, list[int]],
) -> None:
    """The bound that start-time fair queueing promises, at every moment while all of them still wait."""
    shares, got = Shares(), dict.fromkeys(files, 0)
    largest = {name: max(sizes) + (1 << 18) for name, sizes in files.items()}
    while all(files.values()):
        name = shares.first(files)
        size = files[name].pop(0)
        shares.given(name, size)
        got[name] += size + (1 << 18)
        for one in files:
            for other in files:
                assert got[one] - got[other] <= largest[one] + largest[other]


def test_twenty_thousand_photos_do_not_hold_back_two_other_recorders() -> None:
    shares = Shares()
    waiting = {"camera": [5_000_000] * 20_000, "recorder": [50_000_000] * 4, "voice": [500_000] * 10}
    served: list[str] = []
    while waiting["recorder"] or waiting["voice"]:
        name = shares.first([name for name, sizes in waiting.items() if sizes])
        shares.given(name, waiting[name].pop(0))
        served.append(name)
    assert served.count("camera") < 60, "in the order of ids they could have waited for all 20,000"


def test_a_newcomer_neither_waits_for_the_past_nor_catches_it_up() -> None:
    shares = Shares()
    for _ in range(1000):
        shares.given("old", 1_000_000)
    served = []
    for _ in range(20):
        name = shares.first(["old", "new"])
        shares.given(name, 1_000_000)
        served.append(name)
    assert served.count("new") in {10, 11}
