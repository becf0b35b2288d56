"""Promise: an identity provider is believed where it has signed for us, for this sign-in and for now; and in time."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.accounts.book import Account, AccountsError, Role, _check
from agent.config.oidc import Oidc
from agent.doctor.finding import Case, Finding, Grade
from agent.doctor.service import look_at_provider
from agent.errors import ConfigError
from agent.screens.provider import Asked, NotProven, Person, Provider, ProviderError
from simulator.stores.certificates import Certificates
from tests.identity import KEY, NEW_KEY, OTHERS_KEY, ROLES, Forger, b64, forging, unsigned
from tests.status_station import configured


@pytest.fixture
async def forger() -> AsyncIterator[Forger]:
    async with forging() as running:
        yield running


ASKED = Asked("s" * 43, "n" * 43, "v" * 64)


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def provider_of(forger: Forger, seconds: Seconds | None = None, **other: object) -> Provider:
    forger.nonce = ASKED.nonce
    chosen = replace(Oidc(forger.issuer, "dock", address="http://127.0.0.1", roles=ROLES), **other)
    return Provider(chosen, seconds or Seconds())


async def came(provider: Provider, asked: Asked = ASKED, **answer: str) -> Person:
    return await provider.person(asked, {"code": "c"} | answer, datetime.now(UTC))


async def test_what_is_signed_for_us_and_for_now_is_believed(forger: Forger) -> None:
    person = await came(provider_of(forger))
    assert (person.name, person.role, person.issuer, person.subject) == (
        "li.si", Role.SUPERVISOR, forger.issuer, "id-li.si",
    )  # fmt: skip
    (form,) = forger.forms
    assert form["code_verifier"] == [ASKED.verifier]
    assert "client_secret" not in form
    forger.claims = {"aud": ["dock", "another"], "azp": "dock", "groups": "it-operations"}
    assert (await came(provider_of(forger))).role is Role.IT


# In seconds; the tests may run long after this is read.
PAST, FUTURE = (int(datetime.now(UTC).timestamp()) + n for n in (-600, 86_400))


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"nonce": None}, {"aud": "another"}, {"aud": ["another"]}, {"aud": None}, {"aud": []},
        {"aud": ["dock", "another"]}, {"aud": ["dock", "another"], "azp": "another"}, {"azp": "another"},
        {"iss": "https://another.example"}, {"iss": None}, {"exp": PAST}, {"exp": None}, {"exp": "never"},
        {"exp": True}, {"iat": FUTURE}, {"iat": None}, {"nbf": FUTURE}, {"sub": None}, {"sub": ""},
        {"sub": "x" * 256}, {"sub": 7},
        {"preferred_username": None}, {"preferred_username": "@#"}, {"preferred_username": 7},
    ],
)  # fmt: skip
async def test_claims_that_are_not_for_us_or_not_for_now_prove_nothing(forger: Forger, claims: dict[str, Any]) -> None:
    forger.claims = claims
    with pytest.raises(NotProven) as refused:
        await came(provider_of(forger))
    assert refused.value.words == "unproven"


@pytest.mark.parametrize("groups", [None, [], "everybody", ["officer"], {"evidence-supervisors": 1}, 7, [["it"]]])
async def test_nobody_has_a_role_by_default(forger: Forger, groups: object) -> None:
    forger.claims = {"groups": groups}
    with pytest.raises(NotProven) as refused:
        await came(provider_of(forger))
    assert refused.value.words == "no-role"


async def test_only_its_own_signature_by_a_public_key_counts(forger: Forger) -> None:
    signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{b64(b'{}')}"
    by_secret = f"{signed}.{b64(hmac.digest(KEY.as_pem(private=False), signed.encode(), 'sha256'))}"
    forger.key = OTHERS_KEY
    with pytest.raises(NotProven):
        await came(provider_of(forger))
    critical = f"{b64(json.dumps({'alg': 'RS256', 'kid': 'k1', 'crit': ['exp']}).encode())}.e30.AAAA"
    for token in (by_secret, critical, unsigned, "", "a.b.c", "....", "e30.e30.", "x" * 100_000):
        forger.given = token
        with pytest.raises(NotProven):
            await came(provider_of(forger))


async def test_new_keys_are_fetched_when_they_are_needed_and_not_at_every_unknown_one(forger: Forger) -> None:
    seconds = Seconds()
    provider = provider_of(forger, seconds)
    await came(provider)
    forger.key, forger.header = NEW_KEY, {"alg": "ES256", "kid": "k2"}
    for _ in range(5):
        with pytest.raises(NotProven):
            await came(provider)
    assert forger.asked["/keys"] == 1
    seconds.now += 61
    for _ in range(5):
        with pytest.raises(NotProven):
            await came(provider)
    assert forger.asked["/keys"] == 2
    forger.keys = [KEY, NEW_KEY]
    seconds.now += 61
    assert (await came(provider)).name == "li.si"
    assert forger.asked == {"/.well-known/openid-configuration": 1, "/keys": 3, "/token": 12}


async def test_at_the_dock_somebody_who_signed_in_before_is_no_proof(forger: Forger) -> None:
    now = datetime.now(UTC)
    asked = replace(ASKED, since=now - timedelta(seconds=30))
    assert (await came(provider_of(forger), asked)).name == "li.si"
    for moment in (now.timestamp() // 1 - 40, None, "now", float(now.timestamp())):
        forger.claims = {"auth_time": moment}
        with pytest.raises(NotProven):
            await came(provider_of(forger), asked)


@pytest.mark.parametrize(
    "answer", [{"iss": "https://another.example"}, {"error": "access_denied"}, {"code": "\n"}, {"code": ""}]
)
async def test_an_answer_of_another_issuer_or_without_a_code_asks_nobody(
    forger: Forger, answer: dict[str, str]
) -> None:
    with pytest.raises(NotProven):
        await came(provider_of(forger), **answer)
    with pytest.raises(NotProven) as refused:
        await came(provider_of(forger), error="\n<2>forged\x1b[2J" + "x" * 9000)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1200, "what strangers write goes to the log neither as it is nor without end"
    forger.told = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(NotProven):
        await came(provider_of(forger))
    assert "/token" not in forger.asked


NONSENSE = {
    "huge": web.Response(body=b"[" * 300_000), "deep": web.Response(body=b"[" * 100_000), "list": web.json_response([]),
    "html": web.Response(text="<html>"), "empty": web.json_response({}), "500": web.Response(status=500),
    "elsewhere": web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "number": web.Response(text='{"issuer": ' + "9" * 5000 + "}"),
    "keys": web.json_response({"keys": [{"kty": "RSA", "n": "", "e": ""}, 7]}),
    "bomb": web.Response(body=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": "gzip"}),
}  # fmt: skip


async def test_over_tls_the_certificate_counts(certificates: Certificates) -> None:
    async with forging(certificates.server_context()) as forger:
        assert forger.issuer.startswith("https://")
        with pytest.raises(ProviderError, match="certificate"):
            await came(provider_of(forger))
        assert (await came(provider_of(forger, ca_file=certificates.ca_file))).name == "li.si"
        forger.told = {"jwks_uri": "http://127.0.0.1:9/keys"}
        with pytest.raises(ProviderError, match="jwks_uri is no safe address"):
            await came(provider_of(forger, ca_file=certificates.ca_file))
        with pytest.raises(ProviderError):
            await came(provider_of(forger, ca_file=Path("/nothing")))


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
async def test_nonsense_is_a_trouble_in_words(forger: Forger, path: str) -> None:
    for answer in NONSENSE.values():
        forger.answers = {path: web.Response(body=answer.body, status=answer.status, headers=answer.headers)}
        provider = provider_of(forger)
        with pytest.raises(ProviderError, match="can't be used"):
            await came(provider)
        assert provider.trouble.startswith(forger.issuer)
        assert len(provider.trouble) <= 300
    forger.answers = {}
    assert (await came(provider)).name == "li.si"
    assert provider.trouble == ""


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://another.example"},
        {"token_endpoint": "http://10.0.0.1/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "https://user:pw@sso.example/"},
        {"authorization_endpoint": 7},
        {"jwks_uri": "https://sso.example/#x"},
    ],
)
async def test_a_provider_that_leads_elsewhere_is_not_followed(forger: Forger, told: dict[str, Any]) -> None:
    forger.told = told
    with pytest.raises(ProviderError):
        await provider_of(forger).begin(ASKED)


@settings(max_examples=60, deadline=None)
@given(
    name=st.none() | st.integers() | st.text(max_size=80) | st.lists(st.text(), max_size=2),
    subject=st.text(st.characters(codec="utf-8"), max_size=300),
    groups=st.lists(st.sampled_from([*ROLES, "", "officer", 7, None]) | st.text(max_size=9), max_size=4),
)
def test_whatever_names_and_groups_are_they_make_a_person_or_a_refusal(
    name: object, subject: str, groups: list[object]
) -> None:
    provider = Provider(Oidc("https://sso.example", "dock", roles=ROLES))
    try:
        person = provider._person({"sub": subject, "preferred_username": name, "groups": groups})
    except NotProven:
        assert (
            not set(groups) & set(ROLES)
            or not re.search(r"\w", str(name))
            or not 0 < len(subject) < 256
            or (not isinstance(name, str))
        )
        return
    assert person.role == next(role for group, role in ROLES.items() if group in groups)
    assert re.fullmatch(r"[\w.@-]{1,64}#[0-9a-f]{12}", person.account)


def test_another_person_of_the_same_name_is_another() -> None:
    people = [
        ("li.si", "https://a.example", "1"),
        ("li.si", "https://b.example", "1"),
        ("li.si", "https://a.example", "2"),
    ]
    names = {Person(name, Role.IT, issuer, subject).account for name, issuer, subject in people}
    assert len(names) == 3
    for name in names:
        with pytest.raises(AccountsError):
            _check(Account(name, Role.IT))


async def test_nobody_can_have_it_ask_without_end(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.screens.provider._LIMIT_S", 0.5)
    forger.hangs = {"/token"}
    provider = provider_of(forger)
    await provider.begin(ASKED)
    answers = await asyncio.gather(*(came(provider) for _ in range(40)), return_exceptions=True)
    assert all(isinstance(answer, ProviderError) for answer in answers)
    assert forger.asked["/token"] == 8


async def test_the_doctor_asks_it_too(forger: Forger, tmp_path: Path) -> None:
    config = configured(tmp_path, VALID.replace("https://sso.example/realms/bureau", forger.issuer))
    case = Case(config.path, config, lambda: datetime.now(UTC), None, is_root=False)

    async def found(case: Case) -> Finding:
        (finding,) = await asyncio.to_thread(lambda: list(look_at_provider(case)))
        return finding

    assert (await found(case)).grade is Grade.GOOD
    forger.told = {"issuer": "https://another.example"}
    finding = await found(case)
    assert (finding.grade, "another.example" in finding.zh) == (Grade.WARNING, True)
    off = replace(config, oidc=Oidc())
    assert "none is configured" in (await found(replace(case, config=off))).en


# The configuration.


VALID = """[oidc]
issuer = "https://sso.example/realms/bureau"
client_id = "dock-3"
address = "https://dock-3.example:8470"
roles = { "evidence-supervisors" = "supervisor" }
"""


def test_what_is_configured_is_taken_as_it_is(tmp_path: Path) -> None:
    chosen = configured(tmp_path, VALID).oidc
    assert chosen.roles == {"evidence-supervisors": "supervisor"}
    assert configured(tmp_path, VALID.replace("https://sso.example", "http://127.0.0.1:9000")).oidc.issuer
    assert configured(tmp_path, "").oidc.issuer == "", "off by default"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            '"https://sso.example/realms/bureau"',
            '"http://sso.example"',
            "oidc.issuer = 'http://sso.example': must begin",
        ),
        ('"https://sso.example/realms/bureau"', '"http://localhost:9000"', "must begin with https://"),
        ('"https://sso.example/realms/bureau"', '"https://u:p@sso.example"', "must begin with https://"),
        ('"https://sso.example/realms/bureau"', '"https://sso.example/?a"', "must begin with https://"),
        ('"https://sso.example/realms/bureau"', '"https://[::1"', "must begin with https://"),
        ('"https://dock-3.example:8470"', '""', "oidc.address = '': must begin"),
        ('"https://dock-3.example:8470"', '"https://dock-3.example/"', "must end behind the name"),
        ('"dock-3"', '""', "oidc.client_id = '': must be the name"),
        ('"supervisor" }', '"officer" }', "'officer' is no role"),
        ('{ "evidence-supervisors" = "supervisor" }', "{}", "nobody has one by default"),
        ('{ "evidence-supervisors" = "supervisor" }', '{ "" = "it" }', "must be a table"),
        ("client_id", "client", "oidc.client: there is no such option; did you mean oidc.client_id"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_reason(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        configured(tmp_path, VALID.replace(old, new, 1))
