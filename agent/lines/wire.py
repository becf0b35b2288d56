"""What daemon and talking child have in common: what can go wrong on a line, and how much is listened to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

SAID: Final = "line"
"""Kind of the finding of a docking with what its recorder said of itself and its clock."""

HEARD_LIMIT_BYTES: Final = 4096
"""More than this at one request is a flood."""
ANSWERS_LIMIT: Final = 8
"""Lines that are no answer (echoes, messages) are passed over, as many as this."""
TOLD_LIMIT: Final = 64
"""Characters of one thing that a recorder tells."""
ORDER_LIMIT: Final = 60_000
"""Characters of what the child is told to do."""
LOOKS: Final = 5
"""How often a clock is looked at; each time what is uncertain is halved."""


class Trouble(StrEnum):
    """Why a step of a conversation failed."""

    SILENT = "silent"  # nothing came
    ECHO = "echo"  # only what was said came back
    HALF = "half"  # an answer without its end
    GARBAGE = "garbage"  # bytes that are no text
    OTHER = "other"  # answers that the profile doesn't know
    FLOOD = "flood"  # it doesn't stop talking
    REFUSED = "refused"  # it said no
    GONE = "gone"  # the line went away
    BUSY = "busy"  # another program has the line, or it can't be opened
    BROKEN = "broken"  # our child ended, hung or spoke nonsense
    NO_SECRET = "no-secret"  # noqa: S105 - the password can't be read here


WORDS: Final[Mapping[Trouble, str]] = {
    Trouble.SILENT: "没有应答",
    Trouble.ECHO: "只有回显",
    Trouble.HALF: "应答不完整",
    Trouble.GARBAGE: "应答是乱码，请核对波特率",
    Trouble.OTHER: "应答与型号配置不符",
    Trouble.FLOOD: "不停发送数据",
    Trouble.REFUSED: "拒绝（如口令不对）",
    Trouble.GONE: "通讯中断开",
    Trouble.BUSY: "串口无法打开",
    Trouble.BROKEN: "通讯程序出错",
    Trouble.NO_SECRET: "读不到口令",
}
"""The same for the screens."""
