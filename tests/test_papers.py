"""Papers: what is put in stays text, what is read is what is printed, and what prints can't reach anything else."""

from __future__ import annotations

import asyncio
import io
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.papers.page import QR_LIMIT_BYTES, Markup, both, digest, facts, filled, joined, page, qr_code, table
from agent.papers.printing import PaperError, printed
from tests.chromium import browsing

FOOT = "采集站 dock-7 · SHA256 ab12"


def paper(body: Markup) -> str:
    return page("交接回执", "Custody receipt", body, foot=FOOT, made_at="2026-11-23T08:00:00+08:00")


class Seen(HTMLParser):
    """The elements and the text of a page, as a browser takes them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@given(st.text(max_size=60))
def test_whatever_a_recorder_calls_its_files_stays_text(words: str) -> None:
    cell = joined([facts([(words, words)]), table([words], [[words]]), both(words, words), digest(words)])
    harmless = joined([facts([("", "")]), table([""], [[""]]), both("", ""), digest("")])
    shown = Seen(cell)
    assert shown.tags == Seen(harmless).tags
    kept = "".join(char for char in words if char.isprintable())
    assert "".join(char for char in "".join(shown.text) if char in kept).count(kept) >= 7 * bool(kept)


@pytest.mark.parametrize("trick", ["\u202egpj.exe", "a\u200bb", "\x1b[2J", "\ud800", "\x00"])
def test_what_would_turn_or_hide_a_line_is_shown_to_be_there(trick: str) -> None:
    shown = filled("{name}", name=trick)
    assert "\N{REPLACEMENT CHARACTER}" in shown
    assert all(char.isprintable() for char in shown)
    assert filled("{name}", name="询问\u3000室\n二") == "询问\u3000室\n二"


def test_markup_is_put_in_as_it_is_and_attributes_are_closed_to_text() -> None:
    assert filled("<b>{x}</b>", x=Markup("<i>")) == "<b><i></b>"
    assert Seen(filled('<p title="{x}">', x='"><script>')).tags == ["p"]


async def test_the_printed_page_has_the_same_words_and_is_fit_for_archives() -> None:
    rows = [[number, digest("ab" * 32)] for number in range(60)]
    pdf = pypdf.PdfReader(
        io.BytesIO(await printed(paper(table(["序号", both("摘要值", "digest")], rows, ["20%", "80%"]))))
    )
    words = [one.extract_text() for one in pdf.pages]
    assert len(words) == 2
    assert "交接回执" in words[0]
    assert all("摘要值" in one and FOOT in one and "ab" * 16 in one.replace("\n", "") for one in words), "heads repeat"
    assert "2 / 2" in words[1]
    fonts = [font for one in pdf.pages for font in one["/Resources"]["/Font"].values()]
    assert all("/FontFile" in str(font["/DescendantFonts"][0]["/FontDescriptor"].keys()) for font in fonts)
    assert "pdfaid" in pdf.xmp_metadata.stream.get_data().decode()


async def test_nothing_is_fetched_or_read_for_a_paper() -> None:
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    hostile = Markup(
        f'<link rel="attachment" href="file:///etc/passwd"><img src="{address}/a.png"><link rel="stylesheet" '
        f'href="{address}/b.css"><style>@import url({address}/c.css)</style><object data="file:///etc/passwd"></object>'
    )
    try:
        pdf = pypdf.PdfReader(io.BytesIO(await printed(paper(hostile))))
    finally:
        server.close()
        await server.wait_closed()
    assert asked == []
    assert pdf.attachments == {}
    assert "root:" not in "".join(one.extract_text() for one in pdf.pages)


async def test_one_that_doesnt_answer_is_ended_and_says_so() -> None:
    with pytest.raises(PaperError, match=r"no answer for 0.01 s.* HTML"):
        await printed(paper(Markup("<p>")), stall_limit_s=0.01)


async def test_a_telephone_reads_the_largest_code_off_the_page(tmp_path: Path) -> None:
    text = "c2sp.org/tlog-proof@v1\n" + "aZ+/" * 732
    assert QR_LIMIT_BYTES - 3 <= len(text) <= QR_LIMIT_BYTES
    (tmp_path / "paper.html").write_text(paper(qr_code(text)), "utf-8")
    async with browsing((tmp_path / "paper.html").as_uri(), tmp_path / "profile") as browser:
        await browser.shows("交接回执")
        await browser.screenshot(tmp_path / "paper.png")
        assert browser.console == []
    [code] = zxingcpp.read_barcodes(Image.open(tmp_path / "paper.png"))
    assert code.text == text


def test_a_longer_text_is_no_code() -> None:
    with pytest.raises(ValueError, match="2954 bytes"):
        qr_code("a" * 2954)
