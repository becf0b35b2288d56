"""Profiles of recorders that are spoken to: the shipped one is right, every mistake in another is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.recorders import Does, Match, Parity, read_recorders

SHIPPED = Path(__file__).parent.parent / "config" / "recorders"
WORDS = (SHIPPED / "gat947-simulated.toml").read_text("utf-8")


def problems_of(folder: Path, words: str) -> str:
    (folder / "one.toml").write_text(words, "utf-8")
    profiles, problems = read_recorders(folder)
    assert bool(problems) is ("one" not in profiles)
    return "\n".join(problems)


def test_the_shipped_profile_is_right() -> None:
    profiles, problems = read_recorders(SHIPPED)
    assert problems == ()
    profile = profiles["gat947-simulated"]
    assert profile.matches == (Match(usb="1d6b:0947"),)
    assert [step.does for step in profile.steps][:3] == [Does.GREET, Does.UNLOCK, Does.CLOCK]
    assert (profile.set_clock, profile.zone_min) == (False, 480)
    assert profile.secret is not None
    assert profile.secret.name == "capture-agent.recorder-simulated"


def test_without_a_folder_there_is_no_profile(tmp_path: Path) -> None:
    assert read_recorders(tmp_path / "none") == ({}, ())


def test_everything_may_be_said(tmp_path: Path) -> None:
    words = WORDS.replace('usb = "1d6b:0947"', 'slot = "3"\nnode = "/dev/ttyS1"').replace("115200", "9600")
    words = words.replace('end = "\\r\\n"', 'end = "\\r"\nbits = 7\nparity = "even"\nflow = "xonxoff"')
    assert not problems_of(tmp_path, words.replace('"+08:00"', '"-05:30"'))
    (profile,) = read_recorders(tmp_path)[0].values()
    assert profile.matches == (Match(slot="3", node="/dev/ttyS1"),)
    assert (profile.wire.baud, profile.wire.end, profile.wire.parity) == (9600, "\r", Parity.EVEN)
    assert profile.zone_min == -330


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("wait_s = 1.0", "wait_s = 0", "line.wait_s = 0: must be number"),
        ("wait_s = 1.0", "weight_s = 1", "did you mean line.wait_s"),
        ('end = "\\r\\n"', 'end = ""', "nobody could tell where an answer ends"),
        ('encoding = "gbk"', 'encoding = "ebcdic"', 'must be "ascii"'),
        ('usb = "1d6b:0947"', 'usb = "1D6B"', "like 2bdf:0280"),
        ('usb = "1d6b:0947"', "", "either usb, or slot and node"),
        ('usb = "1d6b:0947"', 'slot = "3"', "either usb, or slot and node"),
        ('usb = "1d6b:0947"', 'usb = "1d6b:0947"\nslot = "3"\nnode = "/dev/ttyS1"', "either usb"),
        ("[[match]]", "[[macth]]", "match = None: must be 1 to"),
        ('clock_format = "%Y%m%d%H%M%S"', 'clock_format = "%H%M%S"', "must show year"),
        ('clock_format = "%Y%m%d%H%M%S"', 'clock_format = "%Q"', "must show year"),
        ('clock_zone = "+08:00"', 'clock_zone = "China"', "an offset like"),
        ("set_clock = false", 'set_clock = "no"', "true or false"),
        (r"'TIME (?P<clock>\d{14})'", r"'TIME \d{14}'", "must have a group (?P<clock>"),
        (r"(?P<officer_no>\d{6})", r"(?P<officer_name>\d{6})", "officer_name is not taken there"),
        (r"(?P<officer_no>\d{6})", r"(?P<officer_no>\d{6}", "no regular expression"),
        ('does = "unlock"', 'does = "greet"', "there once only"),
        ('does = "unlock"', 'does = "erase"', "must be"),
        ('does = "clock"', 'does = "tell"', "must have a group|nothing else is asked|clock is not taken"),
        ('does = "greet"', 'does = "disk"', "must come in the order"),
        ('send = "TIME={clock}"', 'send = "TIME=now"', "belongs into the step that sets the clock"),
        ('send = "MSDC"', 'send = "MSDC {clock}"', "belongs into the step that sets the clock"),
        ('credential = "simulated"', "", "no credential is named"),
        ('credential = "simulated"', 'credential = "../x"', "name of letters"),
        ('send = "MSDC"', 'send = "MSDC\\r\\n"', "has the end of a line in it"),
        ('send = "MSDC"', 'send = "MSDC \\u00f1"', "can't be written in gbk"),
        ("send = \"MSDC\"\nexpect = 'MSDC 7'", 'send = "MSDC"', "step.expect = None: is missing"),
        ('title = "GA/T', 'tilte = "GA/T', "did you mean title"),
    ],
)
def test_a_mistake_is_told_and_leaves_the_profile_out(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in WORDS
    problems = problems_of(tmp_path, WORDS.replace(old, new))
    assert any(words in problems for words in told.split("|")), problems


def test_a_clock_that_would_be_set_needs_a_step_for_it(tmp_path: Path) -> None:
    words = WORDS[: WORDS.index('[[step]]\ndoes = "set_clock"')].replace("set_clock = false", "set_clock = true")
    assert "needs a step" in problems_of(tmp_path, words)


def test_nothing_is_asked_of_a_recorder_whose_clock_is_not_compared(tmp_path: Path) -> None:
    before, rest = WORDS.split('[[step]]\ndoes = "clock"')
    assert "nothing else is asked" in problems_of(tmp_path, before + rest[rest.index("[[step]]") :])


def test_two_profiles_for_one_device_are_refused_and_the_first_stays(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(WORDS, "utf-8")
    profiles, problems = read_recorders(tmp_path)
    assert (set(profiles), len(problems)) == ({"one"}, 1)
    assert "is matched by one.toml, too" in problems[0]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"title = ", b"", b'step = 1\nmatch = "x"', b"[[step]]\n[[match]]\n"])
def test_a_file_that_is_no_profile_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.toml").write_bytes(content)
    profiles, problems = read_recorders(tmp_path)
    assert (dict(profiles), bool(problems)) == ({}, True)
