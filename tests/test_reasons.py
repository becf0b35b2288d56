"""Sentences that are stored in English are shown in Chinese: each that the agent can say, numbers and names kept."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent
from agent.status.reasons import both, reason_words

ROOT = Path(agent.__file__).parent
SAYING = [
    *(path for folder in ("access", "media", "absence") for path in sorted((ROOT / folder).glob("*.py"))),
    *(ROOT / "drivers" / f"{name}.py" for name in ("ptp", "ptp_usb", "mtp_objects", "mtp_child")),
    ROOT / "child.py",
    ROOT / "checked.py",
]
SILENT = {"timeline.py", "laying.py", "playlist.py", "parts.py", "kinds.py", "nal.py"}
"""Two have both languages, two write lists, one has endings of names; what the last raises is shown by its kind."""
NO_SENTENCES = {
    "ffconcat version 1.0", "duration {}", "file '",
    "capture-agent {}", "sound encoded", "pictures kept", "ffmpeg {}", "begins later", "ends earlier",
}  # fmt: skip
WORDS = re.compile(r"[a-z{}] [a-z{}']")
FILLINGS = ("7", "video", "suspect", "X", "sound", "begins later", "it", "subtitle")


def said_in(path: Path) -> Iterator[str]:
    """All literals that look like sentences, each with {} for what is put into it."""
    tree = ast.parse(path.read_text("utf-8"))
    silent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert | ast.JoinedStr) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            silent |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        match node:
            case _ if id(node) in silent:
                continue
            case ast.Constant(value=str(text)):
                pass
            case ast.JoinedStr(values=parts):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            case _:
                continue
        if WORDS.search(text) and re.search("[a-z]{3}", text) and not text.startswith("import "):
            yield text


SENTENCES = sorted({text for path in SAYING if path.name not in SILENT for text in said_in(path)} - NO_SENTENCES)


def is_chinese(sentence: str, filling: tuple[str, ...]) -> bool:
    words = reason_words(sentence.format(*filling))
    rest = re.sub(r"ffmpeg|fonts-noto-cjk|moov|idx1", "", words["zh"])
    return re.search("[\u4e00-\u9fff]", rest) is not None and not re.search("[a-z]{3}", rest)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_each_sentence_has_chinese_words(sentence: str) -> None:
    fillings = itertools.product(FILLINGS, repeat=sentence.count("{}"))
    assert any(is_chinese(sentence, filling) for filling in fillings), reason_words(sentence)


def test_sentences_were_found_at_all() -> None:
    assert len(SENTENCES) > 70
    assert "{} attempts to make copies of it did not come to an end" in set(said_in(ROOT / "pipeline" / "deriving.py"))


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("75 of 150 pictures are in the copy", "副本中有 75 幅画面，应为 150 幅"),
        ("3 of 4 video packets are in the copy; audio track 2 is not in the copy",
         "副本的画面有 3 个数据包，应为 4 个；副本中没有声音轨 2"),
        ("the original is suspect: the last 3.0 s that its header tells of are missing",
         "原始资料疑似残缺：缺少文件头所述的最后 3.0 秒"),
        ("time jumps by -500 ms at 20 ms in the original's audio; in the copy it goes on",
         "原始资料的声音在 20 毫秒处时间跳变 -500 毫秒，副本中时间连续"),
        ("not decoded to its end: the reader of its content made no progress for 120 s",
         "未解码到结尾：读取其内容的进程在 120 秒内没有进展"),
        ("no pictures: ffmpeg ended with 1: [mov] odd", "没有制作图片：ffmpeg异常结束（1）：[mov] odd"),
        ("3 attempts to make copies of it did not come to an end", "制作 3 次均未完成"),
        ("its bytes here are not those that were held", "本站所存字节与采集时不一致"),
        ("video, and 5 more", "画面，另有 5 处"),
        ("audio", "声音"),
        ("subtitle (subrip) is not in the copy", "副本中没有字幕（subrip）"),
        ("data () is not in the copy", "副本中没有附带的其他数据（）"),
        ("the sound begins later", "声音开始较晚"),
        ("the picture ends earlier", "画面结束较早"),
        ("no video or audio in this odd file", "no video or audio in this odd file"),
    ],
)  # fmt: skip
def test_numbers_are_kept_and_what_is_unknown_stays_english(english: str, chinese: str) -> None:
    told = reason_words(english)
    assert told == {"zh": chinese, "en": english}
    assert both(told) == (english if chinese == english else f"{chinese} ({english})")
