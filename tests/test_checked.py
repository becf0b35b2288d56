"""What a helper says is taken only if it is what it should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.checked import NUMBER_LIMIT, TEXT_LIMIT, count, number, places, text
from agent.child import ChildError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_whatever_is_said_it_is_in_bounds_or_refused(value: object) -> None:
    with_places: Callable[[object], object] = lambda said: places(said, 3)  # noqa: E731 - one of four alike
    for taken in (text, number, count, with_places):
        try:
            kept = taken(value)
        except ChildError:
            continue
        if isinstance(kept, str):
            assert kept.isprintable()
            assert len(kept) <= TEXT_LIMIT
        elif isinstance(kept, int):
            assert abs(kept) <= NUMBER_LIMIT
            assert not isinstance(kept, bool)
        else:
            assert kept == tuple(map(tuple, value)) and len(value) <= 3  # type: ignore[call-overload, arg-type]  # noqa: PT018


@pytest.mark.parametrize(
    "value", [[[1]], [[1, 2, 3]], [[1, True]], [[1, 2.0]], [[0, NUMBER_LIMIT + 1]], [[1, 2]] * 4, {}]
)
def test_places_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(ChildError):
        places(value, 3)


def test_what_is_right_is_kept() -> None:
    assert places([[1, -2], [3, 4]], 2) == ((1, -2), (3, 4))
    assert (count(0), number(-5), number(1 << 60, 1 << 62)) == (0, -5, 1 << 60)
    assert text("a\x1bb\n", 3) == "a?b"
    with pytest.raises(ChildError):
        count(-1)
