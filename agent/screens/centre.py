"""Signing in through the bureau's own identity provider; off unless configured, and never for officers.

No cookie of ours is sent by another site, not when the provider leads back here either: the page it leads to begins a
request of our own, with the cookie to which the sign-in belongs.
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from agent.accounts.book import Account
from agent.config.oidc import CALLBACK
from agent.errors import JournalError
from agent.model import SignedIn, SignInRefused
from agent.screens.answers import TEXT_LIMIT
from agent.screens.guard import Gate, form_token, gate_of
from agent.screens.login import Refused, come_in, form
from agent.screens.pages import page
from agent.screens.provider import Asked, NotProven, Person, ProviderError
from agent.screens.who import Role, allowed

log: Final = logging.getLogger("capture-agent")

_BEGUN_LIMIT: Final = 1024
_OF_ONE_ADDRESS: Final = 32
_PATIENCE: Final = timedelta(minutes=10)
_ALL: Final = tuple(Role)
_ANSWERED: Final = ("code", "state", "iss", "error")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A sign-in that waits for somebody to come back: `owner` is the token of his browser's forms."""

    asked: Asked
    owner: str
    onward: str
    address: str
    at: datetime


class Centre:
    """The handlers, and the sign-ins that have begun: the latest 1,024, of one address 32, each for ten minutes."""

    def __init__(self) -> None:
        self._begun: OrderedDict[str, _Begun] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post(CALLBACK, self.begin),
            web.get(CALLBACK, self.come_back),
            web.get(f"{CALLBACK}/done", self.sign_in),
        ]

    @allowed(*_ALL)
    async def begin(self, request: web.Request) -> web.Response:
        """Send somebody to the provider, by a page: our policy lets no form lead to another site, nor its redirect."""
        gate, onward = _gate(request), str((await request.post()).get("next", ""))[:TEXT_LIMIT]
        ours = gate.provider.chosen.address
        if request.host.lower() != urlsplit(ours).netloc.lower() and not gate.behind_proxy:
            return form(request, onward, Refused("elsewhere-name", where=ours))
        # At the dock the next person stands in the same browser: who was signed in at the provider before is no proof.
        since = gate.clock() if gate.is_local(request) else None
        asked = Asked(token_urlsafe(32), token_urlsafe(32), token_urlsafe(48), since)
        try:
            address = await gate.provider.begin(asked)
        except ProviderError:
            return form(request, onward, Refused("centre", 503))
        self._keep(_Begun(asked, form_token(request), onward, gate.address(request), gate.clock()))
        return page(request, "onward.html", address=address)

    @allowed(*_ALL)
    async def come_back(self, request: web.Request) -> web.Response:
        """Where the provider leads to; nothing is looked at yet."""
        _gate(request)
        answer = {name: request.query[name] for name in _ANSWERED if name in request.query}
        return page(request, "onward.html", address=f"{CALLBACK}/done?{urlencode(answer)}")

    @allowed(*_ALL)
    async def sign_in(self, request: web.Request) -> web.Response:
        """Begin the session of whom the provider vouches for, or tell in words why not; an answer counts once."""
        gate, address, onward = _gate(request), gate_of(request).address(request), ""
        try:
            begun = self._taken(request, gate)
            onward = begun.onward
            person = await _vouched_for(request, gate, begun)
            account = Account(person.account, person.role)
            told = SignedIn(account.name, account.role.value, "centre", address, person.issuer, person.subject)
            return await come_in(request, account, told, onward)
        except Refused as refusal:
            return form(request, onward, refusal)
        except ProviderError:
            return form(request, onward, Refused("centre", 503))
        except JournalError:
            return form(request, onward, Refused("journal", 503))

    def _keep(self, begun: _Begun) -> None:
        of_address = [state for state, one in self._begun.items() if one.address == begun.address]
        if len(of_address) >= _OF_ONE_ADDRESS:
            del self._begun[of_address[0]]
        self._begun[begun.asked.state] = begun
        while len(self._begun) > _BEGUN_LIMIT:
            self._begun.popitem(last=False)

    def _taken(self, request: web.Request, gate: Gate) -> _Begun:
        """What this browser began and nobody has ended; raises Refused. It is gone then."""
        begun = self._begun.get(request.query.get("state", ""))
        if begun is None or not hmac.compare_digest(begun.owner, form_token(request)):
            raise Refused("stale")
        del self._begun[begun.asked.state]
        if not timedelta(0) <= gate.clock() - begun.at < _PATIENCE:
            raise Refused("stale")
        return begun


async def _vouched_for(request: web.Request, gate: Gate, begun: _Begun) -> Person:
    """Who came back; raises Refused, behind an event, ProviderError and JournalError. Wrong ones are braked."""
    address, brake = gate.address(request), gate.brake
    tried = f"centre {address}"
    if wait_s := brake.wait_s(tried, address):
        raise Refused("wait", 429, wait_s=int(wait_s) + 1)
    brake.tried(tried, address)
    try:
        person = await gate.provider.person(begun.asked, request.query, gate.clock())
    except NotProven as error:
        log.warning("nobody was signed in by the identity provider: %s", error)
        await gate.record(SignInRefused("", f"centre {error.words}", address))
        raise Refused(error.words) from error
    except ProviderError:
        brake.was_right(tried, address)
        raise
    brake.was_right(tried, address)
    return person


def _gate(request: web.Request) -> Gate:
    """The gate; raises HTTPNotFound where no provider is configured."""
    gate = gate_of(request)
    if not gate.provider.chosen.issuer:
        raise web.HTTPNotFound(text="本站未配置统一认证 (no identity provider is configured here)")
    return gate
