"""Promise: a receipt printed at the kiosk, on A4 or on a roll of 80 mm, is one page on which nothing is cut off, and a
telephone reads its code off the paper.
"""

from __future__ import annotations

import base64
import io
import subprocess
from pathlib import Path
from unicodedata import normalize

import pypdf
import zxingcpp
from PIL import Image

from agent.pipeline import checkpoints
from agent.screens.guard import Gate
from agent.screens.server import serving
from agent.signing import station_key
from agent.status.board import Board
from agent.status.receipt import read_receipt
from agent.status.views import Live
from tests.chromium import browsing
from tests.conftest import SettableClock
from tests.stations import opened
from tests.status_station import configured
from tests.test_receipts import code
from tests.test_screens_fit import fits

PAPERS_MM = ((210, 297), (80, 500))
"""A sheet of A4, and a roll, which ends where it is cut."""


async def test_a_printed_receipt_is_one_page_and_its_code_is_read_off_it(tmp_path: Path, clock: SettableClock) -> None:
    """With the longest list that is printed."""
    async with opened(tmp_path / "root", clock) as station:
        await checkpoints.begin(station, station_key(tmp_path / "root", tmp_path / "none"))
        text = await code(station, {f"/DCIM/101MEDIA/视频_现场检查_{n:05}.MP4": b"%d" % n for n in range(12)})
        (docking,) = station.journal.reader.dockings()
        board = Board(configured(tmp_path), station.journal.reader, clock, Live, lambda: 0)
        gate = Gate(station.book, station.journal.record, clock=clock)
        async with serving(board, gate, "127.0.0.1", 0) as port:
            address = f"http://127.0.0.1:{port}/kiosk/receipt/{docking.docking_id}"
            async with browsing(address, tmp_path / "browser") as page:
                await page.shows("接收人签字")
                await fits(page)
                for width, height in PAPERS_MM:
                    size = {"paperWidth": width / 25.4, "paperHeight": height / 25.4}
                    printed = await page.send("Page.printToPDF", preferCSSPageSize=True, **size)
                    assert read_off(base64.b64decode(printed["data"]), tmp_path) == text, width
            await code(station, {f"/DCIM/{n:05}.MP4": b"%d" % n for n in range(13)})
            assert "文件较多" in await board.receipt_body(station.journal.reader.dockings()[0].docking_id)


def read_off(paper: bytes, folder: Path) -> str:
    """The text of the code on a paper, which is one page and has all of a receipt."""
    (sheet,) = pypdf.PdfReader(io.BytesIO(paper)).pages
    words = normalize("NFKC", sheet.extract_text().replace("\n", ""))  # some fonts tell a radical for the letter
    assert [word for word in ("交接回执", "请勿清空", "密钥指纹", "接收人签字") if word not in words] == []
    assert "打印" not in words, "what is touched is not printed"
    (folder / "paper.pdf").write_bytes(paper)
    drawn = ["pdftoppm", "-r", "203", "-png", "-singlefile", folder / "paper.pdf", folder / "paper"]
    subprocess.run(drawn, check=True)  # 203 dots per inch: what printers of receipts have
    (read,) = zxingcpp.read_barcodes(Image.open(folder / "paper.png"))
    return read_receipt(read.text)[0]
