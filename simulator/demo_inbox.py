"""The demo's inbox: a film that is half uploaded is left alone; when it is complete it is taken over, whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from simulator.footage import Kind, Take, shoot
from simulator.handling import LOOK_S, recordings
from simulator.recorders import Fate, original_of
from simulator.show import Show, megabytes
from simulator.stage import DemoError, Stage

TITLE: Final = "机房录像机"
FILM: Final = Take(Kind.VIDEO, 947, 1.0, 640, 360)
PHOTO: Final = Take(Kind.PHOTO, 948, 0.0, 640, 360)
OPTIONS: Final = "settle_s = 1\nunsure_s = 1\nrescan_s = 1\n"
LIMIT_S: Final = 60.0


class Inbox:
    """A folder into which somebody else's program uploads a film and a photo."""

    def __init__(self, stage: Stage, footage: Path) -> None:
        """Before the service starts: its configuration gets an inbox."""
        made = shoot((FILM, PHOTO), footage)
        self._stage = stage
        self._files = {"film.mp4": made[FILM].read_bytes(), "photo.jpg": made[PHOTO].read_bytes()}
        self._folder = stage.root / "inbox"
        self._folder.mkdir()
        self.originals = [original_of(name, content, None, Fate.KEPT) for name, content in self._files.items()]
        with stage.config.open("a", encoding="utf-8") as file:
            file.write(f'\n[[inbox]]\nname = "nvr"\nfolder = "{self._folder}"\ntitle = "{TITLE}"\n{OPTIONS}')

    @contextmanager
    def uploading(self, show: Show) -> Iterator[None]:
        """First half a film, then a whole photo; afterwards the rest of the film. Each is waited for and claimed."""
        film = self._files["film.mp4"]
        with (self._folder / "film.mp4").open("wb") as file:
            file.write(film[: len(film) // 2])
            file.flush()
            (self._folder / "photo.jpg").write_bytes(self._files["photo.jpg"])
            yield
            show.step(
                "收件夹", f"of a film only {megabytes(len(film) // 2)} of {megabytes(len(film))} have been uploaded"
            )
            taken = self._until(lambda taken: "photo.jpg" in taken)
            show.claim(
                "a photo that came after that half is taken over, the half film is not", list(taken), ["photo.jpg"]
            )
            file.write(film[len(film) // 2 :])
        taken = self._until(lambda taken: "film.mp4" in taken)
        truth = {one.path: one.blake3 for one in self.originals}
        show.claim("上传完毕后采集 complete, it is taken over, whole, in another batch", taken, truth)
        left = {path.name: path.read_bytes() for path in self._folder.iterdir()}
        show.claim("nothing in the inbox was changed or taken away", left == self._files, True)

    def _until(self, is_so: Callable[[Mapping[str, str]], bool]) -> Mapping[str, str]:
        """Wait for what was taken from the inbox; BLAKE3 by name."""
        end = time.monotonic() + LIMIT_S
        while not is_so(taken := self._taken()):
            if time.monotonic() > end:
                raise DemoError(f"after {LIMIT_S:g} s only {list(taken)} were taken from the inbox")
            time.sleep(5 * LOOK_S)
        return taken

    def _taken(self) -> Mapping[str, str]:
        dockings: list[Mapping[str, Any]] = self._stage.ask("/api/v1/status")["dockings"]
        ours = {one["docking_id"] for one in dockings if one["slot"] == f"收件夹 {TITLE}" and one["closed_at"]}
        return {row["name"]: row["blake3"] for row in recordings(self._stage) if row["docking_id"] in ours}
