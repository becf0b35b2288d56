"""A worker of the directory store that lies; the store's name says how."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from agent.model import Digests
from agent.uploader.directory_worker import _told


def answer(how: str, number: int, request: dict[str, Any]) -> object:
    put = request.get("put") or request.get("check") or {"size": 0, "blake3": "", "sha256": "", "key": ""}
    found = _told(put["key"], (put["size"], Digests(put["blake3"], put["sha256"])))
    line: dict[str, Any] = {"number": number, "found": dict(found)}
    match how:
        case "another number":
            line["number"] += 1
        case "size":
            line["found"]["size"] += 1
        case "blake3" | "sha256" | "object":
            line["found"][how] = "0" * 64
        case "not read" | "nothing":
            line["found"] = {"object": found["object"], "size": put["size"]} if how == "not read" else None
        case "more":
            line["found"]["extra"] = 1
        case "true":
            line["found"]["size"] = True
        case "a list":
            return [line]
        case "the original is damaged":
            line = {"number": number, "error": told("EvidenceError")}
        case "another error":
            line = {"number": number, "error": {"kind": "StoreError"}}
        case "an unknown error":
            line = {"number": number, "error": told("KeyboardInterrupt")}
        case "wrong traits":
            line = {"number": number, "traits": [{"name": 5}]}
    return line


def told(kind: str) -> dict[str, object]:
    return {"kind": kind, "what": "x" * 10_000, "safe": "", "do": "", "retry": True}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    how = sys.argv[3]
    for text in sys.stdin:
        request = json.loads(text)
        match how:
            case "dies":
                os._exit(7)
            case "ends":
                return
            case "says nothing":
                time.sleep(3600)
            case "no json":
                say("{")
            case "a long line":
                say("x" * 100_000)
            case "odd progress":
                for done in (-5, 1 << 80):
                    say(json.dumps({"number": request["number"], "sent": done}))
        say(json.dumps(answer(how, request["number"], request)))
        if how == "says it twice":
            say(json.dumps(answer("size", request["number"], request)))


if __name__ == "__main__":
    main()
