"""Who asks: the role a request has, and which roles a route answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from agent.accounts.book import Role

__all__ = ["WHO", "Role", "Who", "allowed", "roles_of"]

H = TypeVar("H", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asks: `account` is empty for the kiosk's screen and for who has not signed in.

    `session` is what a form's token belongs to; empty for tokens of programs, which no browser sends by itself.
    """

    role: Role
    account: str = ""
    session: str = ""


WHO: Final = web.RequestKey("who", Who)
"""Key of a request: its `Who`, put there by the middleware before any handler runs."""

_ROLES: Final = "roles_allowed"
_PAGE: Final = "is_page"


def allowed(*roles: Role, page: bool = False) -> Callable[[H], H]:
    """Mark a handler with the roles it answers; a route whose handler has no mark is not served.

    `page`: for persons, who are led to the form if they have not signed in.
    """

    def marked(handler: H) -> H:
        setattr(handler, _ROLES, frozenset(roles))
        setattr(handler, _PAGE, page)
        return handler

    return marked


def is_page_of(handler: Handler | type[web.View]) -> bool:
    """Whether persons look at it."""
    found: bool = getattr(handler, _PAGE, False)
    return found


def roles_of(handler: Handler | type[web.View]) -> frozenset[Role]:
    """The roles a handler answers; none for one without a mark."""
    found: frozenset[Role] = getattr(handler, _ROLES, frozenset())
    return found
