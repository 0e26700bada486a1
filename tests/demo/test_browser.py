"""The page in a real browser: Debian's Chromium, or another, driven by Playwright."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tf_mamlpp as mp
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.meta.confidence import Confidence, KnownScore

pytest.importorskip("gradio", reason="Gradio is not installed: pip install -e '.[demo]'")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -e '.[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser is found: apt-get install chromium"),
]

ROOT = Path(__file__).parents[2]
QUIET = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-sync")
CAMERA = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
# Five characters, each a line of points on a paper of side 1.
CHARACTERS = (
    [(0.2, 0.8), (0.5, 0.2), (0.8, 0.8)],
    [(0.3, 0.2), (0.3, 0.8), (0.7, 0.8)],
    [(0.2, 0.3), (0.8, 0.3), (0.5, 0.3), (0.5, 0.8)],
    [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75), (0.25, 0.25)],
    [(0.2, 0.2), (0.8, 0.8)],
)
SCRIBBLE = [(0.05 + 0.9 * (i % 2), 0.05 + 0.1 * i) for i in range(10)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of Gradio's files, which stays empty."""
    return tmp_path_factory.mktemp("gradio")


def serve(model, files):
    """bin/demo.py as a process, and the page's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "bin/demo.py", f"--model={model}", f"--port={port}", "--nobrowser"],
        cwd=ROOT,
        env={**os.environ, "GRADIO_TEMP_DIR": str(files)},
        stdout=subprocess.PIPE,
        text=True,
    )
    printed = "".join(process.stdout.readline() for _ in range(2))
    assert "teach it at http://127.0.0.1:" in printed
    return process, re.search(r"teach it at (\S+)", printed).group(1)


@pytest.fixture(scope="module")
def omniglot(files):
    process, address = serve("omniglot", files)
    yield address
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def any_way(files, tmp_path_factory):
    """The page of an untrained model for any number of classes, white on black, that tells what it does not know."""
    keras.utils.set_random_seed(0)
    learner = mp.MetaLearner(mp.conv4((28, 28, 1), 5, filters=16), way=5, inner_steps=1, head="prototypes")
    known = KnownScore("distance", slope=0.5, intercept=2.0, threshold=0.4)
    pictures = PictureFormat((28, 28), 1, mean=(0.1,), std=(0.3,))
    folder = tmp_path_factory.mktemp("models") / "drawings"
    learner.export(folder, pictures=pictures, confidence=Confidence(1.0, known))
    process, address = serve(folder, files)
    yield address
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        arguments = [f"--{name}" for name in (*QUIET, *CAMERA)]
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


class Visit:
    """A visitor with a browser of their own, who notes what it asks of other machines and every error of the page."""

    def __init__(self, browser, address, **settings):
        self.page = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **settings}).new_page()
        self.strangers, self.errors = [], []
        self.page.on("request", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(error))
        self.page.goto(address)
        self.page.wait_for_selector(".classes li")

    def _note(self, request):
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.strangers.append(request.url)

    def draw(self, points, shift=0.0):
        box = self.page.locator("canvas").bounding_box()
        at = [(box["x"] + (x + shift) * box["width"], box["y"] + (y + shift) * box["height"]) for x, y in points]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for point in at[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up()

    def add(self, index, points):
        before = self.pictures()
        self.draw(points)
        self.page.locator(".add").nth(index).click()
        self.wait(f"document.querySelectorAll('.pictures img').length == {before + 1}")

    def pictures(self):
        return self.page.locator(".pictures img").count()

    def ask(self, points, shift=0.0):
        """The answer's label to a picture."""
        self.page.click(".clear")
        self.wait("document.querySelector('.answer .label').textContent == ''")
        self.draw(points, shift)
        self.wait("document.querySelector('.answer .label').textContent != ''")
        return self.page.inner_text(".answer .label")

    def rename(self, index, name):
        box = self.page.locator(".name input").nth(index)
        box.fill(name)
        box.press("Enter")

    def error(self, fragment):
        """Waits for an error, one line of text."""
        self.wait(f"document.querySelector('.error').textContent.includes({fragment!r})")
        assert self.page.locator(".error").is_visible()

    def wait(self, condition):
        self.page.wait_for_function(condition, timeout=60_000)

    def choose(self, selector, *chosen):
        with self.page.expect_file_chooser() as chooser:
            self.page.locator(selector).first.click()
        chooser.value.set_files([str(file) for file in chosen])

    def download(self, file):
        with self.page.expect_download() as downloaded:
            self.page.click(".save")
        downloaded.value.save_as(file)

    def end(self):
        assert self.strangers == [] and self.errors == []
        self.page.context.close()


def test_five_characters_are_taught_asked_kept_and_loaded_again(browser, omniglot, files, tmp_path):
    visit = Visit(browser, omniglot)
    assert visit.page.locator(".classes li").count() == 5 and visit.page.locator(".save").is_disabled()
    for index, points in enumerate(CHARACTERS):
        assert "Still without" in visit.page.inner_text(".status")
        visit.add(index, points)
    visit.rename(3, "square")
    visit.wait("document.querySelector('.status').textContent.startsWith('Learned 5 classes from 5 pictures')")
    names = ["A", "B", "C", "square", "E"]
    assert [visit.ask(points, shift=0.03) for points in CHARACTERS] == names
    shares = [float(text.removesuffix(" %")) for text in visit.page.locator(".known .chance span").all_inner_texts()]
    assert abs(sum(shares) - 100) < 0.5 and shares[4] == max(shares)

    visit.rename(0, "B")
    visit.error("two classes would be called 'B'")
    assert visit.page.locator(".name input").nth(0).input_value() == "A"
    (tmp_path / "notes.txt").write_text("no picture")
    visit.choose(".files", tmp_path / "notes.txt")
    visit.error("notes.txt: cannot be read as a picture")
    assert visit.pictures() == 5
    visit.download(tmp_path / "learned.npz")

    other = Visit(browser, omniglot)  # sees nothing of the first
    assert other.pictures() == 0
    other.choose(".load", tmp_path / "notes.txt")
    other.error("notes.txt' is damaged")
    other.choose(".load", tmp_path / "learned.npz")
    other.wait("document.querySelectorAll('.pictures img').length == 5")
    assert [box.input_value() for box in other.page.locator(".name input").all()] == names
    assert other.ask(CHARACTERS[3], shift=0.03) == "square"
    for each in (visit, other):
        each.end()
    assert not any(file.is_file() for file in files.rglob("*"))


def test_none_of_these_and_one_class_more(browser, any_way):
    visit = Visit(browser, any_way)
    visit.page.click(".more")
    visit.wait("document.querySelectorAll('.classes li').length == 3")
    for index, points in enumerate(CHARACTERS[:3]):
        visit.add(index, points)
    assert visit.ask(CHARACTERS[1], shift=0.02) == "B"
    assert visit.ask(SCRIBBLE) == "None of these"
    assert re.match(r"Known at all: [\d.]+ %, below 40.0 %", visit.page.inner_text(".answer .detail"))
    visit.page.locator(".forget").nth(1).click()
    visit.wait("document.querySelectorAll('.classes li').length == 2")
    assert [box.input_value() for box in visit.page.locator(".name input").all()] == ["A", "C"]
    visit.end()


def test_the_paper_is_as_the_model_was_trained(browser, omniglot, any_way):
    """Ink and paper of the picture that the model gets, by the colours of the example's own picture."""
    for address, paper in ((omniglot, 255), (any_way, 0)):
        visit = Visit(browser, address)
        visit.add(0, CHARACTERS[4])
        pixels = visit.page.evaluate(
            """() => {
                const picture = document.querySelector(".pictures img"), canvas = document.createElement("canvas");
                canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
                const brush = canvas.getContext("2d");
                brush.drawImage(picture, 0, 0);
                return [...brush.getImageData(0, 0, canvas.width, canvas.height).data];
            }"""
        )
        grey = np.array(pixels).reshape(28, 28, 4)[..., 0]
        assert grey[0, 27] == paper and abs(int(grey[14, 14]) - paper) > 200
        length, width = 0.6 * 2**0.5, 1 / 21
        assert np.mean(abs(grey - paper)) / 255 == pytest.approx(length * width, rel=0.2)
        visit.end()


def test_by_keyboard_alone(browser, any_way):
    visit = Visit(browser, any_way)
    press = visit.page.keyboard.press
    press("Tab")
    assert visit.page.evaluate("document.activeElement.tagName") == "CANVAS"
    for index, key in enumerate(("ArrowRight", "ArrowDown")):
        for stroke in (" ", *[key] * 9, " "):
            press(stroke)
        visit.page.locator(".add").nth(index).focus()
        press("Enter")
        visit.wait(f"document.querySelectorAll('.pictures img').length == {index + 1}")
        visit.page.locator("canvas").focus()
    for stroke in (" ", *["ArrowDown"] * 8, " "):
        press(stroke)
    visit.wait("document.querySelector('.answer .label').textContent == 'B'")
    press("Delete")
    visit.wait("document.querySelector('.answer .label').textContent == ''")
    visit.end()


def test_on_a_phone(browser, omniglot):
    visit = Visit(browser, omniglot, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    visit.add(0, CHARACTERS[0])
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    for selector in ("canvas", ".add", ".name input"):
        box = visit.page.locator(selector).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    visit.end()


def test_a_picture_of_the_camera(browser, any_way):
    visit = Visit(browser, any_way)
    visit.page.click(".camera")
    visit.wait("document.querySelector('video').videoWidth > 0")
    visit.page.click(".take")
    visit.wait("!document.querySelector('.seen').hidden")
    visit.page.locator(".add").first.click()
    visit.wait("document.querySelectorAll('.pictures img').length == 1")
    assert visit.page.evaluate("document.querySelector('video').srcObject") is None
    visit.end()


def test_a_dropped_picture(browser, any_way, grey):
    visit = Visit(browser, any_way)
    drop = """([selector, content]) => {
        const data = new DataTransfer(), bytes = Uint8Array.from(content);
        data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }"""
    visit.page.evaluate(drop, [".paper", list(grey(200))])
    visit.wait("!document.querySelector('.seen').hidden")
    visit.page.evaluate(drop, [".classes li", list(grey(100))])
    visit.wait("document.querySelectorAll('.pictures img').length == 1")
    assert visit.page.locator("img.file").get_attribute("alt") == "dropped.png"
    visit.end()
