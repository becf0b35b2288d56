"""What the content of a recording says, as the screens and answers tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from agent.journal.views import RecordingView
from agent.model import CaptureTime, Facts
from agent.status.words import at, named, words

Json = dict[str, Any]

_REASONS: Final = (
    (r"the file ends inside its (\w+) box, (\d+) bytes too early", r"文件在 \1 段内中断，缺 \2 字节"),
    (r"the file ends inside its last frame, (\d+) bytes too early", r"文件在最后一帧内中断，缺 \1 字节"),
    (
        r"the file ends inside a packet of its transport stream, (\d+) bytes too early",
        r"文件在传输流包内中断，缺 \1 字节",
    ),
    (r"pictures are lost: their bytes are zero", "有画面丢失，其字节全为零"),
    (r"the (\w+) box has an impossible length", r"\1 段长度有误"),
    (r"the (\w+) chunk is (\d+) bytes shorter than its header says", r"\1 段比文件头所述短 \2 字节"),
    (r"the length of the sound was never written: recording was interrupted", "录音中断，未写入声音长度"),
    (r"the index \((\w+)\) is missing", r"缺少索引（\1）"),
    (r"the data chunk is missing", "缺少声音数据"),
    (r"the file ends before the picture begins|the picture has no end( mark)? \(\w+\)", "图片不完整，没有结束标记"),
    (r"a segment of the picture is damaged", "图片有一段损坏"),
    (r"the last ([\d.]+) s that its header tells of are missing", r"缺少文件头所述的最后 \1 秒"),
    (r"what follows can't be read: .*", "其后内容无法读取"),
    (r"a packet is damaged", "有数据损坏"),
    (r"it has too much in it to be read to its end", "内容过多，未读到结尾"),
    (r"it holds neither picture nor sound", "没有画面，也没有声音"),
    (r"the reader of its content .*", "读取其内容的进程失败"),
    (r"Invalid data found when processing input|End of file", "不是可识别的音像记录"),
    (r"; ", "；"),
)


def content_view(row: RecordingView) -> Json:
    """`facts` (null until the content was read), when it was made (制作时间) and who says so."""
    return {"facts": _facts(row.facts) if row.facts is not None else None, "made": made_view(row.time)}


def made_view(time: CaptureTime) -> Json:
    """Begin and end of the recording, null where nothing tells, and every witness with what it says."""
    return {
        "start": at(time.made_start),
        "end": at(time.made_end),
        "basis": named(time.basis),
        "later": at(time.later),
        "sources": [
            {
                "basis": named(source.basis),
                "raw": source.raw,
                "readings": [at(reading) for reading in source.readings],
                "agrees": source.agrees,
            }
            for source in time.sources
        ],
    }


def made_lines(made: Json) -> Iterator[str]:
    """The same as lines of an explanation."""
    if made["end"]:
        basis = f"{made['basis']['zh']} ({made['basis']['en']})"
        yield f"制作时间 made    {made['start'] or '（不明 unknown）'} … {made['end']}  来源 by {basis}"
    for source in made["sources"]:
        told = "一致 agrees" if source["agrees"] else "不一致 differs" if source["readings"] else "不采信 not plausible"
        ends = "：" + "、".join(source["readings"]) if source["readings"] else ""
        yield f"  {source['basis']['zh']} ({source['basis']['en']}) {source['raw']}  {told}{ends}"


def reason_words(reason: str) -> dict[str, str]:
    """Why an original is not 完整, in both languages; what nobody has a Chinese word for stays as it is."""
    chinese = reason
    for pattern, words_for_it in _REASONS:
        chinese = re.sub(pattern, words_for_it, chinese)
    return words(chinese, reason)


def _facts(facts: Facts) -> Json:
    return {
        "integrity": named(facts.integrity) | {"reason": reason_words(facts.reason) if facts.reason else None},
        "container": facts.container,
        "duration_ms": facts.duration_ms,
        "measured": named(facts.measured),
        "header_ms": facts.header_ms,
        "streams": [asdict(stream) for stream in facts.streams],
        "stream_count": facts.stream_count,
        "created": facts.created,
        "exif": {"taken": facts.taken, "zone": facts.taken_zone} if facts.taken else None,
        "gps": facts.gps or None,
        "signed_stream": facts.signed_stream or None,
    }
