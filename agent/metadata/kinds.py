"""What a value of a form may be: readers that return it as plain JSON, or tell every problem in Chinese and English."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from agent.model import Codes, Forms


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a field, like `makers[2].cert_no`, and what to do; never with what was written in it."""

    field: str
    zh: str
    en: str

    def inside(self, place: str) -> Problem:
        """The same of a part: `place` is the name of what contains it."""
        joint = "." if self.field and not self.field.startswith("[") else ""
        return Problem(f"{place}{joint}{self.field}", self.zh, self.en)


class Unfit(ValueError):  # noqa: N818 - reasons, told with the field
    """A value is not what its field takes."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field takes, in words, and its reader, which raises Unfit; `codes` if it is a choice."""

    zh: str
    en: str
    read: Callable[[object, Forms], object]
    codes: Codes = field(default_factory=dict)


Choose = Callable[[str, Forms], Problem | None]
Then = Callable[[dict[str, object], Forms], dict[str, object]]

_NO_RULE: Final[Choose] = lambda _value, _forms: None  # noqa: E731
_REFUSED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    "Cc": ("控制字符或换行", "a control character or line break"),
    "Cf": ("不可见的格式控制字符（如改变文字方向）", "an invisible control, such as of writing direction"),
    "Cs": ("不完整的字符", "half a character"),
    "Co": ("自造字（各机显示不同）", "a private-use character, which each machine shows differently"),
    "Zl": ("换行符", "a line separator"),
    "Zp": ("分段符", "a paragraph separator"),
})  # fmt: skip
"""General categories of Unicode (UAX 44, 5.7.1) that no text may hold: what a reader can't see can't be evidence."""


def unfit(zh: str, en: str, part: str = "") -> Unfit:
    """One problem with the value itself, or with the `part` of it."""
    return Unfit(Problem(part, zh, en))


def text(shortest: int, longest: int, rule: Choose = _NO_RULE) -> Kind:
    """One line of text of so many characters, NFC, without space around it; `rule` may refuse more."""

    def read(value: object, forms: Forms) -> str:
        line = _line(value, longest)
        count = len(line)
        if count > longest:  # before the rule: no pattern is tried on what is too long
            raise unfit(
                f"最多 {longest} 个字符，现为 {count} 个，请缩短", f"at most {longest} characters; it has {count}"
            )
        if (problem := rule(line, forms)) is not None:
            raise Unfit(problem)
        if count < shortest:
            raise unfit(
                f"至少 {shortest} 个字符，现为 {count} 个，请写明", f"at least {shortest} characters; it has {count}"
            )
        return line

    return Kind(f"{shortest} 至 {longest} 个字符的文字", f"text, {shortest} to {longest} characters on one line", read)


def _line(value: object, longest: int) -> str:
    """Normal form C: input methods and systems write the same characters in different ways, which nobody can see."""
    if not isinstance(value, str):
        raise unfit("须为文字", "must be text")
    if len(value) > 4 * longest + 100:  # no composition makes so much so short
        raise unfit(
            f"太长：{len(value)} 个字符，最多 {longest} 个，请缩短",
            f"is too long: {len(value)} characters, at most {longest}",
        )
    for number, character in enumerate(value.strip(), 1):
        if (told := _REFUSED.get(unicodedata.category(character))) is not None:
            code = f"U+{ord(character):04X}"
            raise unfit(
                f"第 {number} 个字符 {code} 是{told[0]}，请去掉后重新填写",
                f"character {number} ({code}) is {told[1]}; take it out",
            )
    return unicodedata.normalize("NFC", value).strip()


def choice(codes: Codes, rule: Choose = _NO_RULE) -> Kind:
    """One of the codes, written as such or as its Chinese word; `rule` may refuse a value, and says why."""
    by_word = {code.zh: name for name, code in codes.items()}
    shown_zh = "、".join(f"{name} {code.zh}" for name, code in codes.items())
    shown_en = ", ".join(f"{name} {code.en}" for name, code in codes.items())

    def read(value: object, forms: Forms) -> str:
        if not isinstance(value, str):
            raise unfit("须为代码", "must be a code")
        name = by_word.get(value.strip(), value.strip())
        if (problem := rule(name, forms)) is not None:
            raise Unfit(problem)
        if name not in codes:
            raise unfit(f"没有这个代码，请从中选择：{shown_zh}", f"is no code; choose one of: {shown_en}")
        return name

    return Kind("代码", "code", read, codes)


def matching(pattern: str, zh: str, en: str) -> Kind:
    """A short text of one form."""

    def read(value: object, _: Forms) -> str:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise unfit(f"须为{zh}", f"must be {en}")
        return value

    return Kind(zh, en, read)


def number(low: int, high: int, zh: str, en: str) -> Kind:
    """A whole number, or its digits."""

    def read(value: object, _: Forms) -> int:
        if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise unfit(f"须为 {low} 至 {high} 的整数", f"must be a whole number from {low} to {high}")
        return value

    return Kind(zh, en, read)


def offset() -> Kind:
    """Where in a recording: whole seconds, or like "1:15" or "0:01:15"."""

    def read(value: object, _: Forms) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}|([0-9]{1,3}:)?[0-9]{1,3}:[0-5][0-9]", value):
            value = sum(int(part) * 60**power for power, part in enumerate(reversed(value.split(":"))))
        if type(value) is not int or not 0 <= value < 1_000_000:
            raise unfit("须为秒数或 1:15 这样的位置", "must be seconds, or a place like 1:15")
        return value

    return Kind("录制中的位置（秒或 1:15）", "place in the recording: seconds, or 1:15", read)


def many(kind: Kind, most: int) -> Kind:
    """A list of 1 to `most` different values; one value alone is a list of it."""

    def read(value: object, forms: Forms) -> list[object]:
        values = value if isinstance(value, list) else [value]
        if not 1 <= len(values) <= most:
            raise unfit(
                f"须为 1 至 {most} 项，现为 {len(values)} 项", f"must be 1 to {most} entries; there are {len(values)}"
            )
        found: list[object] = []
        problems: list[Problem] = []
        for place, one in enumerate(values, 1):
            try:
                done = kind.read(one, forms)
                if done in found:
                    raise unfit("重复", "is there twice")
                found.append(done)
            except Unfit as error:
                problems += (problem.inside(f"[{place}]") for problem in error.problems)
        if problems:
            raise Unfit(*problems)
        return found

    return Kind(f"最多 {most} 项，每项为：{kind.zh}", f"up to {most}, each: {kind.en}", read, kind.codes)


def record(required: Collection[str], **parts: Kind) -> Kind:
    """A table of parts; also one text in which "/" divides them, in their order."""

    def read(value: object, forms: Forms) -> dict[str, object]:
        if isinstance(value, str):
            given = [part.strip() for part in value.split("/", len(parts) - 1)]
            value = {name: part for name, part in zip(parts, given, strict=False) if part}
        if not isinstance(value, dict):
            raise unfit(f"须为表或 {shape} 形式的文字", f"must be a table, or text like {shape}")
        problems = [Problem(name, "不可缺少", "is missing") for name in parts if name in required and name not in value]
        problems += [Problem(_shown(name), "没有这一项", "is no part of it") for name in value if name not in parts]
        found: dict[str, object] = {}
        for name in (name for name in parts if name in value):
            try:
                found[name] = parts[name].read(value[name], forms)
            except Unfit as error:
                problems += (problem.inside(name) for problem in error.problems)
        if problems:
            raise Unfit(*sorted(problems, key=lambda problem: problem.field))
        return found

    shape = "/".join(parts)
    codes = next((kind.codes for kind in parts.values() if kind.codes), MappingProxyType({}))
    return Kind(shape, shape, read, codes)


def further(kind: Kind, then: Then) -> Kind:
    """The same, with what its parts must be together; `then` returns the table or raises Unfit."""

    def read(value: object, forms: Forms) -> dict[str, object]:
        found = kind.read(value, forms)
        assert isinstance(found, dict), "only tables have parts"
        return then(found, forms)

    return Kind(kind.zh, kind.en, read, kind.codes)


def _shown(name: object) -> str:
    """A name that somebody made up, safe to show."""
    return ascii(name)[1:41]
