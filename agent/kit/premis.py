"""Objects, events and agents of a kit as PREMIS 3 (loc.gov/standards/premis/v3), for archives that read that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.etree import ElementTree as ET

from agent.kit.bag import Sums
from agent.kit.custody import detail_of, meaning_of
from agent.kit.extract import Told

_NAMESPACE: Final = "http://www.loc.gov/premis/v3"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_EVENT_TYPES: Final = "http://id.loc.gov/vocabulary/preservation/eventType"
_NAMES: Final[Mapping[str, str]] = {"sha256": "SHA-256", "sha512": "SHA-512"}
"""BLAKE3 and SM3 are not in the vocabulary of the Library of Congress; they are in the bag's lists."""

STATION: Final = "capture-agent"
Element = ET.Element


@dataclass(frozen=True, slots=True)
class Object:
    """A file of the bag that is an asset; `source` is the asset id of the original that it was made from."""

    asset_id: str
    name: str
    sums: Sums
    original_name: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """A PREMIS event of the export itself."""

    identifier: str
    kind: str
    at: datetime
    outcome: str
    detail: str
    objects: Sequence[str]


def premis(objects: Sequence[Object], events: Iterable[Told], now: Iterable[Happened], agents: dict[str, str]) -> bytes:
    """Return the document. `agents`: names by identifier; the first is the software that did everything."""
    root = Element(f"{{{_NAMESPACE}}}premis", {"version": "3.0"})
    known = {one.asset_id for one in objects}
    for one in objects:
        _object(root, one)
    happened = [entry for told in events for entry in _happened(told, known)]
    for entry in (*happened, *now):
        _event(root, entry, next(iter(agents)))
    for identifier, name in agents.items():
        agent = _add(root, "agent")
        _identified(agent, "agentIdentifier", identifier)
        _add(agent, "agentName", name)
        _add(agent, "agentType", "software" if identifier.startswith(STATION) else "organization")
    ET.register_namespace("premis", _NAMESPACE)
    ET.register_namespace("xsi", _XSI)
    ET.indent(root)
    written: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return written


def _happened(told: Told, known: set[str]) -> Iterable[Happened]:
    meaning = meaning_of(told)
    outcome = "failure" if meaning.failed else "success"
    asset = getattr(getattr(told.entry, "asset", None), "asset_id", told.subject)
    objects = [asset] if asset in known else []
    for number, kind in enumerate(meaning.types):
        name = f"event {told.seq}" + (f".{number + 1}" if number else "")
        yield Happened(name, kind, told.at, outcome, f"{told.kind}: {detail_of(told)}".strip(": "), objects)


def _object(root: Element, one: Object) -> None:
    made = _add(root, "object")
    made.set(f"{{{_XSI}}}type", "premis:file")
    _identified(made, "objectIdentifier", one.asset_id)
    facts = _add(made, "objectCharacteristics")
    for algorithm, name in _NAMES.items():
        fixity = _add(facts, "fixity")
        _add(fixity, "messageDigestAlgorithm", name)
        _add(fixity, "messageDigest", one.sums.digests[algorithm])
    _add(facts, "size", str(one.sums.size_bytes))
    suffix = one.name.rpartition(".")[2]
    _add(_add(_add(facts, "format"), "formatDesignation"), "formatName", suffix)
    if one.original_name:
        _add(made, "originalName", one.original_name)
    place = _add(_add(made, "storage"), "contentLocation")
    _add(place, "contentLocationType", "path in the bag")
    _add(place, "contentLocationValue", one.name)
    if one.source:
        relation = _add(made, "relationship")
        _add(relation, "relationshipType", "derivation")
        _add(relation, "relationshipSubType", "has source")
        _identified(relation, "relatedObjectIdentifier", one.source)


def _event(root: Element, entry: Happened, software: str) -> None:
    event = _add(root, "event")
    _identified(event, "eventIdentifier", entry.identifier)
    _add(event, "eventType", entry.kind).set("authorityURI", _EVENT_TYPES)
    _add(event, "eventDateTime", entry.at.isoformat())
    _add(_add(event, "eventDetailInformation"), "eventDetail", entry.detail)
    _add(_add(event, "eventOutcomeInformation"), "eventOutcome", entry.outcome)
    _identified(event, "linkingAgentIdentifier", software)
    for asset_id in entry.objects:
        _identified(event, "linkingObjectIdentifier", asset_id)


def _identified(parent: Element, name: str, value: str) -> None:
    made = _add(parent, name)
    _add(made, f"{name}Type", "capture-agent")
    _add(made, f"{name}Value", value)


def _add(parent: Element, name: str, text: str = "") -> Element:
    made = ET.SubElement(parent, f"{{{_NAMESPACE}}}{name}")
    made.text = "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
    return made
