"""What a refusal says to a person: what happened, whether the evidence is safe, what to do; Chinese and English."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from agent.status.reasons import in_chinese
from agent.status.words import words

Words = dict[str, str]

_PAIR: Final = re.compile(r"(?P<zh>.*[\u4e00-\u9fff].*?)(?: \((?P<in>.*)\)|\s/\s(?P<behind>.*))[.。]?", re.DOTALL)
"""How a text of the product says both: `中文 (English)`, or of a form's field `name 中文：… / English`."""

_BACK: Final = words("请返回上一页，更正后重试", "go back, correct it, and try again")
_SIGN_IN: Final = words("请重新登录，再填写一次", "sign in again, then fill it in once more")
_ASK: Final = words(
    "请重新打开页面再试；仍不行请更换账号或联系管理员",
    "open the page again; if it is still refused use another account, or call the administrator",
)
_CHOOSE: Final = words("请核对编号，或返回采集站屏幕重新选择", "check the id, or choose again on the station's screen")
_WAIT: Final = words(
    "请稍候一分钟再试；如持续出现，请联系管理员", "try again in a minute; if it goes on, call the administrator"
)
_KNOWN: Final[Mapping[int, tuple[Words, Words]]] = {
    400: (words("填写或地址有误", "what was sent, or the address, is not right"), _BACK),
    401: (words("登录已失效或尚未登录", "nobody is signed in any more"), _SIGN_IN),
    403: (words("此操作未获允许", "that is not allowed"), _ASK),
    404: (words("没有找到所要的内容", "there is no such thing here"), _CHOOSE),
    405: (words("此页面不能这样使用", "that can't be done with this page"), _CHOOSE),
    409: (words("其间情况已变，此操作不再适用", "something has changed since: that no longer applies"), _BACK),
    413: (words("提交的内容过大", "that is too much at once"), _BACK),
    422: (words("填写有误", "what was filled in is not right"), _BACK),
}
_AWAY: Final = (words("本站暂时无法应答", "the station can't answer now"), _WAIT)
_UNTOUCHED: Final = words("资料安全，未作任何改动", "the recordings are safe, nothing was changed")
_ON_DISK: Final = words(
    "已采集的资料仍在本机磁盘上，不受影响", "what was pulled is on this station's disk and not affected"
)
_PERHAPS: Final = words(
    "已采集的资料仍在本机磁盘上，不受影响；填写的内容可能未保存，请重新打开页面核对",
    "what was pulled is on this station's disk and not affected; what was filled in may not be saved: look again",
)


def told(text: str, otherwise: Words) -> Words:
    """A line of an error in both languages; what nobody has Chinese words for gets those of `otherwise`."""
    if pair := _PAIR.fullmatch(text):
        return words(pair["zh"], pair["in"] or pair["behind"])
    return words(in_chinese(text) or otherwise["zh"], text)


def refusal(status: int, text: str, *, writes: bool = False) -> dict[str, Any]:
    """What happened, whether the evidence is safe, what to do, for an answer of this status; `writes`: to a form."""
    away = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    what, do = _KNOWN.get(status, _AWAY if away else _KNOWN[400])
    safe = (_PERHAPS if writes else _ON_DISK) if away else _UNTOUCHED
    return {"what": told(text, what), "safe": safe, "do": do}
