"""What a helper process said, taken only if it is what it should be; it may have been taken over by what it read."""

from __future__ import annotations

from typing import Final

from agent.child import ChildError

NUMBER_LIMIT: Final = 1 << 53
TEXT_LIMIT: Final = 300


def plain(words: str, limit: int = TEXT_LIMIT) -> str:
    """As much as fits, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in words[:limit])


def text(value: object, limit: int = TEXT_LIMIT) -> str:
    """A text, made plain; raises ChildError, as all below."""
    if not isinstance(value, str):
        raise ChildError("reported a text that is none")
    return plain(value, limit)


def number(value: object, limit: int = NUMBER_LIMIT) -> int:
    """A whole number, of either sign."""
    if type(value) is not int or abs(value) > limit:
        raise ChildError("reported a number that is none")
    return value


def count(value: object) -> int:
    """A number of things."""
    if number(value) < 0:
        raise ChildError("reported a count that is none")
    return number(value)


def places(value: object, limit: int) -> tuple[tuple[int, int], ...]:
    """At most so many pairs of numbers."""
    if (
        not isinstance(value, list)
        or len(value) > limit
        or any(type(one) is not list or len(one) != 2 for one in value)
    ):
        raise ChildError("reported places that are none")
    if any(not isinstance(one, list) or len(one) != 2 for one in value):
        raise ChildError("reported a place that is none")
    return tuple((number(first), number(second)) for first, second in value)
