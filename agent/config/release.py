"""The section [release] of the configuration: when local copies of what is stored may be freed."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.config.options import Unfit, choice, flag, integer, option
from agent.model import FreeWhen, Role, Terms

_DEMANDED: Final = (Role.STATEMENT, Role.MANIFEST)


def _roles(default: tuple[Role, ...]) -> tuple[Role, ...]:
    takes = "list of roles of documents"

    def read(value: object) -> tuple[Role, ...]:
        known = [role.value for role in Role if role is not Role.ORIGINAL]
        if not isinstance(value, list) or not all(role in known for role in value):
            raise Unfit(f"must be a {takes}: {', '.join(known)}")
        return tuple(Role(role) for role in dict.fromkeys(value))

    return option(default, takes, read)


@dataclass(frozen=True, slots=True)
class Release:
    """[release]: as `model.Terms`."""

    when: FreeWhen = choice(FreeWhen.OFF)
    retention_days: int = integer(180, 1, 36500, "days")
    roles: tuple[Role, ...] = _roles(_DEMANDED)
    read_back: bool = flag(default=True)
    lock_days: int = integer(30, 0, 36500, "days")
    keep_marked: bool = flag(default=True)
    files_max: int = integer(100, 0, 1_000_000)
    percent_max: int = integer(1, 0, 100, "percent")

    @property
    def terms(self) -> Terms:
        """The same, as the journal knows it; the order of roles says nothing."""
        return Terms(
            self.when, self.retention_days, tuple(sorted(self.roles)), self.read_back, self.lock_days,
            self.keep_marked, self.files_max, self.percent_max,
        )  # fmt: skip
