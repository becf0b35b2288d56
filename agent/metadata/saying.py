"""What goes with a statement: the method that follows from the recorder, and what a supervisor should look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, Final

from agent.metadata.kinds import Problem
from agent.model import Forms, Medium, Officer, RecorderKind

_METHOD_OF: Final[Mapping[tuple[RecorderKind, Medium], str]] = MappingProxyType({
    (RecorderKind.BODY_CAMERA, Medium.VIDEO): "body_camera",
    (RecorderKind.BODY_CAMERA, Medium.AUDIO): "audio",
    (RecorderKind.BODY_CAMERA, Medium.PHOTO): "photo",
    (RecorderKind.VOICE_RECORDER, Medium.AUDIO): "audio",
    (RecorderKind.CAMERA, Medium.VIDEO): "site_video",
    (RecorderKind.CAMERA, Medium.AUDIO): "audio",
    (RecorderKind.CAMERA, Medium.PHOTO): "photo",
})  # fmt: skip
_PAIRED: Final = frozenset({"S03", "S04", "S05", "S09"})
"""检查、询问、封存: 医疗保障基金使用监督管理条例 art. 29 and 行政处罚法 art. 42 want two officers."""

_LEFT_BEHIND: Final = "S16"


def default_method(kind: RecorderKind | None, medium: Medium) -> str | None:
    """制作方法 as it follows from what the inventory says of the recorder; None: a person must say it."""
    return None if kind is None else _METHOD_OF.get((kind, medium))


def warnings(fields: Mapping[str, Any], day: date, forms: Forms) -> tuple[Problem, ...]:
    """What a supervisor should look at, for a recording of `day`; it hinders nothing."""
    return (*_of_makers(fields, day, forms), *_of_service(fields))


def _of_makers(fields: Mapping[str, Any], day: date, forms: Forms) -> Iterator[Problem]:
    makers = fields.get("makers")
    if makers is None:
        return
    if len(makers) < 2 and (fields.get("act_type") == "inspection" or fields.get("stage") in _PAIRED):
        zh = "检查、询问、封存应当有两名以上执法人员，现只有一名"
        yield Problem("makers", zh, "inspection, questioning and sealing want two officers; there is one")
    for place, maker in enumerate(makers, 1):
        if (doubt := _doubt(maker, day, forms)) is not None:
            yield Problem(f"makers[{place}]", f"执法证待核：{doubt[0]}", f"certificate to be checked: {doubt[1]}")


def _doubt(maker: Mapping[str, str], day: date, forms: Forms) -> tuple[str, str] | None:
    officer = officer_of(maker, forms)
    if officer is None:
        return ("名册中没有此人", "not on the roster")
    if not officer.cert_no:
        return ("名册中没有证号", "the roster has no certificate number")
    if officer.valid_from is not None and day < officer.valid_from:
        return ("录制当日尚未生效", "not yet valid on the day of the recording")
    if officer.valid_until is not None and day > officer.valid_until:
        return ("录制当日已过有效期", "expired on the day of the recording")
    return None


def officer_of(maker: Mapping[str, str], forms: Forms) -> Officer | None:
    """Whom of the roster a maker is: by id, else by name and certificate number."""
    if "officer" in maker:
        return forms.officers.get(maker["officer"])
    named = (maker["name"], maker.get("cert_no", ""))
    return next((one for one in forms.officers.values() if (one.name, one.cert_no) == named), None)


def is_certified(maker: Mapping[str, str], day: date, forms: Forms) -> bool | None:
    """Whether the certificate was valid on `day`; None if the roster doesn't know."""
    officer = officer_of(maker, forms)
    if officer is None or not officer.cert_no:
        return None
    return _doubt(maker, day, forms) is None


def _of_service(fields: Mapping[str, Any]) -> Iterator[Problem]:
    """鲁医保发〔2019〕60号《全过程记录办法》art. 16 (3)."""
    if fields.get("stage") == _LEFT_BEHIND:
        for name, zh, en in (("place_text", "留置地点", "place"), ("persons_present", "在场人员", "persons present")):
            if name not in fields:
                yield Problem(name, f"留置送达应当记录{zh}", f"service by leaving wants its {en}")
