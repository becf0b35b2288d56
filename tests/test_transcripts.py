"""Promise: only text that a person can read as it is written becomes a transcript; what is wrong is said in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import RequestError
from agent.model import Encoding, TextForm
from agent.transcripts import LARGEST_BYTES, has_speech, read_text

SPOKEN = "你好，我们是医保局执法人员，现在开始录音。"
SRT = f"1\n00:00:01,000 --> 00:00:03,500\n{SPOKEN}\n\n2\n00:01:00,000 --> 00:01:02,000\n第二句\n"
VTT = (
    f"WEBVTT\n\nNOTE by hand\n\nintro\n00:01.000 --> 00:03.500 align:start\n{SPOKEN}\n\n"
    "00:01:00.000 --> 00:01:02.000\n第二句\n"
)


@pytest.mark.parametrize(
    ("text", "form", "spoken"),
    [
        (SPOKEN, TextForm.PLAIN, SPOKEN),
        (f"\ufeff{SPOKEN}\r\n第二句\r\n", TextForm.PLAIN, f"{SPOKEN}\n第二句"),
        ("说到 --> 这里", TextForm.PLAIN, "说到 --> 这里"),
        ("[00:00:01.000 --> 00:00:02.000]  你好", TextForm.PLAIN, "[00:00:01.000 --> 00:00:02.000]  你好"),
        ("他说：\n先写\n一支箭 --> 在文中", TextForm.PLAIN, "他说：\n先写\n一支箭 --> 在文中"),
        (SRT, TextForm.SRT, f"{SPOKEN}\n第二句"),
        (SRT.replace("\n", "\r\n"), TextForm.SRT, f"{SPOKEN}\n第二句"),
        (f"\n\n{SRT}", TextForm.SRT, f"{SPOKEN}\n第二句"),
        (VTT, TextForm.VTT, f"{SPOKEN}\n第二句"),
        ("WEBVTTS are nice", TextForm.PLAIN, "WEBVTTS are nice"),
    ],
)
def test_plain_text_srt_and_webvtt_are_read(text: str, form: TextForm, spoken: str) -> None:
    found = read_text(text.encode())
    assert (found.form, found.spoken) == (form, spoken)
    assert found.whole == text.removeprefix("\ufeff")


@pytest.mark.parametrize(("encoding", "codec"), [(Encoding.GB18030, "gb18030"), (Encoding.UTF_16, "utf-16")])
def test_another_encoding_is_read_if_it_is_declared_and_never_guessed(encoding: Encoding, codec: str) -> None:
    content = SPOKEN.encode(codec)
    assert read_text(content, encoding).spoken == SPOKEN
    with pytest.raises(RequestError) as refused:
        read_text(content)
    assert "不是 UTF-8 文本 / it is no UTF-8 text from byte 1 on" in refused.value.what
    assert "--encoding gb18030" in refused.value.do


@pytest.mark.parametrize(
    "character",
    [
        "\0", "\x07", "\x1b", "\x7f", "\x85", "\u200b", "\u200e", "\u202a", "\u202e", "\u2066", "\u2069", "\u061c",
        "\ue000", "\U000e0041", "\ufeff",
    ],
)  # fmt: skip
def test_what_can_t_be_seen_or_turns_the_order_around_is_refused(character: str) -> None:
    """A reader of the file must see what is written, in the order in which it is written."""
    with pytest.raises(RequestError, match=rf"第 2 行有不可见的控制字符 U\+{ord(character):04X}"):
        read_text(f"第一行\n第二{character}行".encode())


@pytest.mark.parametrize(
    "text", ["", " \n\t\r\n", "\ufeff", "……\n--\n", "WEBVTT\n\nNOTE nothing\n", "1\n00:00:01,000 --> 00:00:02,000\n\n"]
)
def test_a_file_without_words_is_no_transcript(text: str) -> None:
    with pytest.raises(RequestError, match="没有文字 / there is no text in it"):
        read_text(text.encode())


@pytest.mark.parametrize(
    "times",
    [
        "00:00:03,000 --> 00:00:02,000",
        "00:61:00,000 --> 00:62:00,000",
        "0:00 --> 0:01",
        "00:00:01,000 --> ",
        "00:00:01,000-->00:00:02,000",
    ],
)
def test_subtitles_with_impossible_times_are_refused_with_their_line(times: str) -> None:
    with pytest.raises(RequestError, match="line 2 has no times"):
        read_text(f"1\n{times}\n{SPOKEN}\n".encode())


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestError, match="文件大于 4 MiB"):
        read_text(b"\xff" * (LARGEST_BYTES + 1))
    assert read_text(b"a" * LARGEST_BYTES).form is TextForm.PLAIN


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        ("", False),
        (" \n", False),
        ("WEBVTT\n", False),
        ("[BLANK_AUDIO]", False),
        ("(music)\n（音乐）【掌声】", False),
        ("[00:01] 您好", True),
        ("[00:00:01.000 --> 00:00:02.000]  您好", True),
        ("[00:01.000 --> 00:02.000]", False),
        (SRT, True),
    ],
)
def test_remarks_of_a_machine_are_no_speech(text: str, speech: bool) -> None:
    assert has_speech(text.encode()) is speech


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(Encoding))
def test_any_bytes_are_either_text_or_refused_in_words(content: bytes, encoding: Encoding) -> None:
    try:
        spoken = read_text(content, encoding).spoken
    except RequestError as error:
        spoken = error.what
    assert spoken.strip()


def test_what_is_no_text_is_not_taken_for_silence() -> None:
    with pytest.raises(RequestError, match="no UTF-8 text"):
        has_speech(b"\xff")
