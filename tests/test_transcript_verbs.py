"""Promise: every text stays as it was added, and a machine's is called unchecked everywhere until a person signs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from agent import cli
from agent.config import load
from agent.journal import Reader, verify
from agent.vault import Vault
from simulator.content import Noise
from simulator.stage import Stage, with_options
from tests.cards import image
from tests.daemons import running, stage

SPOKEN = "你好，我们是医保局执法人员。\n"
UNCHECKED = "机器转写·未核对"

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


@pytest.fixture
def say(made: Stage, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call `capture-agent` with the stage's configuration."""

    def said(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main(["--config", str(made.config), *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return said


@pytest.fixture
def recording(made: Stage, say: Say, tmp_path: Path) -> str:
    """The id of a recording that is held."""
    card = image(tmp_path / "card.img", {"VOICE/0001.WAV": Noise(60_000, 1)})
    assert say("pull", card)[0] == 0
    with closing(Reader(load(made.config).storage.root / "journal.db")) as reader:
        return reader.recordings()[0].recording.recording_id


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "转写 1.txt"
    path.write_text(SPOKEN, "utf-8")
    return path


def told(answer: tuple[int, str, str]) -> dict[str, Any]:
    assert answer[0] == 0, answer
    found: dict[str, Any] = json.loads(answer[1])
    return found


def listed(say: Say, recording: str) -> dict[str, Any]:
    return told(say("transcript", "list", recording, "--json"))


def marks(say: Say, recording: str) -> list[str]:
    return [version["mark"]["zh"] for version in listed(say, recording)["versions"]]


def configure(made: Stage, command: str, **options: str) -> None:
    changes = {"transcript.command": command, "transcript.tool": '"example 1.0"'} | options
    made.config.write_text(with_options(made.config.read_text("utf-8"), changes), "utf-8")


def test_a_person_s_text_is_kept_with_its_author_and_digest(say: Say, made: Stage, recording: str, text: Path) -> None:
    """As a document of the recording: its own bytes in the vault, in the journal, sound by `verify`."""
    answer = told(say("transcript", "add", recording, text, "--kind", "human", "--author", "张三", "--json"))
    digest = blake3(SPOKEN.encode()).hexdigest()
    assert (answer["version"], answer["blake3"], answer["again"]) == (1, digest, False)
    shown = told(say("transcript", "show", recording, "--json"))
    assert (shown["text"], shown["author"], shown["file_name"]) == (SPOKEN, "张三", "转写 1.txt")
    assert (shown["mark"]["zh"], shown["form"], shown["blake3"]) == ("人工", "plain", digest)
    root = load(made.config).storage.root
    assert Vault(root, seal=False).address(digest).read_bytes() == SPOKEN.encode()
    assert verify(root / "journal.db").consistent
    assert say("verify")[0] == 0
    assert listed(say, recording)["complete"] is True


def test_the_same_by_the_running_service(say: Say, made: Stage, recording: str, text: Path) -> None:
    with running(made) as daemon:
        for again in (False, True):
            answer = told(say("transcript", "add", recording, text, "--kind", "machine", "--author", "张三",
                              "--tool", "example 1.0", "--json"))  # fmt: skip
            assert (answer["version"], answer["again"]) == (1, again)
        assert (
            told(say("transcript", "sign", recording, "--who", "李四", "--why", "listened", "--json"))["version"] == 2
        )
        code, _, err = say("transcript", "add", recording, "/dev/null", "--kind", "human", "--author", "张三")
        assert (code, "没有文字 / there is no text in it" in err) == (2, True)
        daemon.until(lambda: all(one["state"]["name"] != "held" for one in listed(say, recording)["versions"]))
    assert marks(say, recording) == ["机器转写·已核对（第 2 版）", "校对"]


def test_a_machine_s_text_is_unchecked_everywhere_until_a_person_signs_it(say: Say, recording: str, text: Path) -> None:
    """Signing is a version of its own, that names the digest of what was signed; nothing of the text changes."""
    assert (
        say("transcript", "add", recording, text, "--kind", "machine", "--author", "张三", "--tool", "example 1.0")[0]
        == 0
    )
    before = listed(say, recording)
    assert (before["complete"], before["unsigned"]) == (False, [1])
    assert before["versions"][0]["mark"]["zh"] == UNCHECKED
    for verb in ("show", "list"):
        assert UNCHECKED in say("transcript", verb, recording)[1]
    assert told(say("transcript", "show", recording, "--json"))["mark"]["zh"] == UNCHECKED
    signed = told(say("transcript", "sign", recording, "--who", "李四", "--why", "与录音核对", "--json"))
    after = listed(say, recording)
    assert (after["complete"], after["unsigned"]) == (True, [])
    new = after["versions"][1]
    assert (new["kind"]["name"], new["author"], new["why"], new["signs_version"]) == (
        "checked",
        "李四",
        "与录音核对",
        1,
    )
    assert new["blake3"] == signed["blake3"] == before["versions"][0]["blake3"]
    assert told(say("transcript", "show", recording, "--json"))["text"] == SPOKEN
    assert UNCHECKED not in say("transcript", "list", recording)[1]
    assert told(say("transcript", "show", recording, "--version", "1", "--json"))["mark"]["en"].endswith("version 2")


def test_sound_is_complete_only_with_a_text_that_a_person_answers_for(say: Say, recording: str, text: Path) -> None:
    """And that the stage was said is counted, by the same journal."""
    fields = ("method=audio", "makers=张三/37080012345", "proof_object=证明现场询问的经过", "stage=S05")
    options = [part for field in fields for part in ("--field", field)]
    assert say("metadata", "set", recording, *options, "--who", "张三", "--why", "补充")[0] == 0

    def missing() -> list[str]:
        return [one["name"] for one in told(say("metadata", "show", recording, "--json"))["missing"]]

    assert missing() == ["transcript"]
    assert say("transcript", "add", recording, text, "--kind", "machine", "--author", "张三", "--tool", "asr 1")[0] == 0
    assert missing() == ["transcript"]
    kept = told(say("metadata", "show", recording, "--json"))["fields"]["transcript"]["value"][0]
    assert (kept["kind"]["name"], kept["kind"]["zh"]) == ("machine", UNCHECKED)
    assert UNCHECKED in say("metadata", "show", recording)[1]
    assert say("transcript", "sign", recording, "--who", "李四", "--why", "listened")[0] == 0
    assert missing() == []
    assert told(say("metadata", "show", recording, "--json"))["completeness"]["name"] == "filled"


def test_only_a_machine_s_text_that_waits_can_be_signed(say: Say, recording: str, text: Path, tmp_path: Path) -> None:
    sign = ("transcript", "sign", recording, "--who", "李四", "--why", "listened")
    assert "没有待核对的机器转写" in say(*sign)[2]
    assert say("transcript", "add", recording, text, "--kind", "human", "--author", "张三")[0] == 0
    assert say(*sign, "--version", "1")[0] == 2
    other = tmp_path / "other.txt"
    for number in (2, 3):
        other.write_text(f"第 {number} 次转写", "utf-8")
        add = say(
            "transcript", "add", recording, other, "--kind", "machine", "--author", "张三", "--tool", "example 1.0"
        )
        assert add[0] == 0
    assert say(*sign, "--version", "2")[0] == 0
    assert "第 2 版不是待核对的机器转写" in say(*sign, "--version", "2")[2], "a text is signed once"
    assert marks(say, recording) == ["人工", "机器转写·已核对（第 4 版）", UNCHECKED, "校对"]
    for nonsense in ("0", "9", "-1", "x", "99999999999999999999"):
        assert say(*sign, f"--version={nonsense}")[0] == 2


def test_the_same_file_twice_is_one_version(say: Say, recording: str, text: Path) -> None:
    """Another author, or another kind, is another word on the same bytes."""
    add = ("transcript", "add", recording, text, "--kind", "human", "--author")
    assert "此前已附上" not in say(*add, "张三")[1]
    assert "第 1 版 (version)，此前已附上 (attached already)" in say(*add, "张三")[1]
    assert say(*add, "李四")[1].startswith("第 2 版")
    assert len({version["blake3"] for version in listed(say, recording)["versions"]}) == 1


def test_a_file_in_a_declared_encoding_is_kept_as_it_is_and_read_as_text(
    say: Say, recording: str, tmp_path: Path
) -> None:
    path = tmp_path / "ansi.txt"
    path.write_bytes(SPOKEN.encode("gb18030"))
    add = ("transcript", "add", recording, path, "--kind", "human", "--author", "张三")
    assert "不是 UTF-8 文本" in say(*add)[2]
    answer = told(say(*add, "--encoding", "gb18030", "--json"))
    assert answer["blake3"] == blake3(path.read_bytes()).hexdigest()
    assert told(say("transcript", "show", recording, "--json"))["text"] == SPOKEN


def test_make_runs_the_command_on_the_sealed_original(say: Say, made: Stage, recording: str) -> None:
    configure(made, '["/bin/sh", "-c", "wc -c < {original}"]')
    assert told(say("transcript", "make", recording, "--json"))["version"] == 1
    shown = told(say("transcript", "show", recording, "--json"))
    assert (shown["text"].strip(), shown["mark"]["zh"], shown["tool"]) == ("60000", UNCHECKED, "example 1.0")
    assert told(say("transcript", "make", recording, "--json"))["again"] is True
    assert listed(say, recording)["complete"] is False


@pytest.mark.parametrize("output", ["", r" \n ", "[BLANK_AUDIO]", r"WEBVTT\n\n00:00.000 --> 00:01.000\n（音乐）"])
def test_no_transcript_is_invented_for_silence(say: Say, made: Stage, recording: str, output: str) -> None:
    """That a tool found no speech is a fact of the tool, in the journal; the recording still needs a person's word."""
    configure(made, json.dumps(["/bin/sh", "-c", f"printf '{output}'; : {{original}}"]))
    assert told(say("transcript", "make", recording, "--json"))["version"] == 0
    found = listed(say, recording)
    assert (found["versions"], found["complete"]) == ([], False)
    assert [fact["tool"] for fact in found["no_speech_found"]] == ["example 1.0"]
    assert "未发现语音 (no speech found)" in say("transcript", "list", recording)[1]
    assert verify(load(made.config).storage.root / "journal.db").consistent


@pytest.mark.parametrize(
    ("command", "told_in_words"),
    [
        ('["/bin/false", "{original}"]', "ended with 1"),
        ('["/bin/sh", "-c", "printf \'half a text\'; exit 9", "{original}"]', "ended with 9"),
        (json.dumps(["/bin/sh", "-c", r"printf '\377'; : {original}"]), "UTF-8"),
        (json.dumps(["/bin/sh", "-c", "sleep 60; : {original}"]), "took longer"),
    ],
)
def test_a_command_that_fails_adds_nothing(
    say: Say, made: Stage, recording: str, command: str, told_in_words: str
) -> None:
    configure(made, command, **{"transcript.timeout_s": "1.5"})
    code, out, err = say("transcript", "make", recording)
    assert code in {2, 3}
    assert out == ""
    assert told_in_words in err
    assert listed(say, recording)["versions"] == []


def test_an_original_that_was_touched_meanwhile_is_an_incident(say: Say, made: Stage, recording: str) -> None:
    """What the kernel doesn't deny to root, like another time stamp, is noticed."""
    configure(made, '["/bin/sh", "-c", "touch -d 2020-01-01 {original}; echo text"]')
    code, _, err = say("transcript", "make", recording)
    assert (code, "was touched" in err) == (1, True)
    assert listed(say, recording)["versions"] == []


def test_without_a_command_or_an_original_it_is_said(say: Say, made: Stage, recording: str) -> None:
    assert "No command makes transcripts here" in say("transcript", "make", recording)[2]
    assert "There is no recording or asset nothing" in say("transcript", "make", "nothing")[2]
    assert say("transcript", "show", recording)[0] == 2
    assert "没有文字记录 (no transcript)" in say("transcript", "list", recording)[1]


@pytest.mark.parametrize(
    ("command", "problem"),
    [('["transcribe", "{original}"]', "must begin with a program's absolute path"), ('["/bin/cat"]', "{original}")],
)
def test_a_command_that_can_t_work_is_refused_with_the_configuration(
    say: Say, made: Stage, command: str, problem: str
) -> None:
    configure(made, command, **{"transcript.tool": '""'})
    code, _, err = say("config", "check")
    assert (code, problem in err, "must say which tool" in err) == (3, True, True)


def test_a_text_that_changed_in_the_vault_is_not_shown(say: Say, made: Stage, recording: str, text: Path) -> None:
    digest = told(say("transcript", "add", recording, text, "--kind", "human", "--author", "张三", "--json"))["blake3"]
    sealed = Vault(load(made.config).storage.root, seal=False).address(digest)
    sealed.chmod(0o600)
    sealed.write_text("别的文字", "utf-8")
    code, out, err = say("transcript", "show", recording)
    assert (code, out) == (1, "")
    assert "other bytes" in err
