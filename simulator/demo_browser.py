"""Drives Debian's Chromium through its own driver: signs in, gives a reason, plays a film and seeks in it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

LIMIT_S: Final = 60
_FLAGS: Final = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
_PLAY: Final = """const done = arguments[0], shown = document.querySelector('video');
shown.addEventListener('error', () => done(shown.error.message));
const seek = () => { shown.addEventListener('seeked', () => {
    shown.addEventListener('ended', () => done(shown.videoWidth ? 'ended' : 'no picture'));
    shown.playbackRate = 4; shown.play().catch(error => done(String(error))); }, {once: true});
  shown.currentTime = shown.duration / 2; };
shown.muted = true;
shown.readyState >= 1 ? seek() : shown.addEventListener('loadedmetadata', seek);"""


class Browser:
    """One headless browser with a profile of its own; a context."""

    @staticmethod
    def is_there() -> bool:
        """Whether Chromium and its driver are installed."""
        return bool(shutil.which("chromium") and shutil.which("chromedriver"))

    def __enter__(self) -> Self:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        self._profile = tempfile.TemporaryDirectory(prefix="demo-browser-", ignore_cleanup_errors=True)
        for flag in (*_FLAGS, f"--user-data-dir={Path(self._profile.name)}"):
            options.add_argument(flag)
        self._driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self._driver.set_script_timeout(LIMIT_S)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._driver.quit()
        self._profile.cleanup()

    def open(self, url: str) -> None:
        """Show a page."""
        self._driver.get(url)

    def text(self) -> str:
        """What a person reads."""
        return str(self._driver.find_element(By.TAG_NAME, "body").text)

    def sign_in(self, url: str, account: str, secret: str) -> None:
        """Fill in the form and wait until it leads on."""
        self.open(url)
        self._driver.find_element(By.ID, "account").send_keys(account)
        field = self._driver.find_element(By.ID, "secret")
        field.send_keys(secret)
        field.submit()
        WebDriverWait(self._driver, LIMIT_S).until(lambda driver: "/login" not in driver.current_url)

    def play(self, of: str, why: str) -> str:
        """Give a reason for a film of the page that is shown, play its second half; "ended", or what went wrong."""
        form = self._driver.find_element(By.CSS_SELECTOR, f"form:has(input[name=of][value='{of}'])")
        form.find_element(By.NAME, "why").send_keys(why)
        form.find_element(By.TAG_NAME, "button").click()
        WebDriverWait(self._driver, LIMIT_S).until(lambda driver: driver.find_elements(By.TAG_NAME, "video"))
        return str(self._driver.execute_async_script(_PLAY))
