"""The page of a rollout, in a real browser: it draws, plays, scrubs and turns."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.warp_envs.recording.recorded import Puppet, nested
from tests.warp_envs.recording.test_recorder import record
from warp_envs.viewing.page import write_page

playwright = pytest.importorskip("playwright.sync_api")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
# WebGL without a GPU.
OPTIONS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LAST = 200


def installed(chromium) -> str | None:
    """A Chromium on the path, or playwright's own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    own = chromium.executable_path
    return found or (own if Path(own).exists() else None)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        executable = installed(driver.chromium)
        if executable is None:
            pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
        launched = driver.chromium.launch(executable_path=executable, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "puppet.usda").write_text(nested())
    record(Puppet(folder / "puppet.usda", num_envs=2), folder / "out.usdc", steps=LAST, fps=20)
    write_page(folder / "out.usdc", folder / "out.html")
    return folder / "out.html"


@pytest.fixture
def opened(browser, written):
    """Opens the page at a frame; afterwards nothing must have gone wrong or been fetched."""
    page = browser.new_page(viewport={"width": 800, "height": 480})
    told, fetched = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url.split(":")[0]))

    def go(frame: int | None = 0):
        page.goto(written.as_uri() + ("" if frame is None else f"#frame={frame}"))
        page.wait_for_selector("body[data-ready]")
        return page

    yield go
    page.close()
    assert set(fetched) <= {"file", "blob", "data"}
    assert [text for text in told if "GPU stall" not in text] == []


def frame_of(page) -> int:
    return int(page.get_attribute("body", "data-frame"))


def picture(page, selector="#view") -> np.ndarray:
    """What is on the screen there, (height, width, 3)."""
    page.evaluate("() => new Promise((done) => setTimeout(done, 250))")  # the camera comes to rest
    return imread(io.BytesIO(page.locator(selector).first.screenshot()))[..., :3]


def test_it_draws_the_robots_where_they_are(opened):
    page = opened(0)
    page.wait_for_function("document.body.dataset.frame === '0'")
    start = picture(page)
    assert len(np.unique((start * 16).astype(int).reshape(-1, 3), axis=0)) > 20
    page.locator("#scrub").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.body.dataset.frame === '8'")
    moved = picture(page)
    changed = np.abs(moved - start).max(axis=2) > 0.1
    assert 0.002 < changed.mean() < 0.6  # the robots, not the ground around them
    assert page.locator("#clock").inner_text().startswith("0.40 s")
    page.keyboard.press("Home")
    page.wait_for_function("document.body.dataset.frame === '0'")
    assert np.abs(picture(page) - start).max() < 0.02


def test_it_plays_and_pauses_at_any_speed(opened):
    page = opened(None)
    page.wait_for_function("Number(document.body.dataset.frame) > 2")  # by itself
    page.locator("#play").click()
    page.wait_for_timeout(300)
    stood = frame_of(page)
    page.wait_for_timeout(500)
    assert 2 < frame_of(page) == stood < LAST
    page.locator("#speed").select_option("4")
    page.keyboard.press("End")
    page.wait_for_function(f"document.body.dataset.frame === '{LAST}'")
    page.locator("#play").click()  # from the start again, to the end
    page.wait_for_function(f"Number(document.body.dataset.frame) < {LAST}")
    page.wait_for_function(f"document.body.dataset.frame === '{LAST}'")
    # The last frame shows from half a frame before its time on
    page.wait_for_function("!document.body.classList.contains('playing')")


def test_scrubbing_by_slider_and_by_curve(opened):
    page = opened(0)
    page.locator("#scrub").fill("13")
    page.wait_for_function("document.body.dataset.frame === '13'")
    assert page.locator("#curves figure").count() == 2
    curve = page.locator("canvas[data-curve=return]")
    box = curve.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 2 * box["width"], box["y"] + 50, steps=3)
    page.mouse.up()
    page.wait_for_function(f"document.body.dataset.frame === '{LAST}'")
    ink = picture(page, "canvas[data-curve=return]")
    assert (np.abs(ink - [0.894, 0.388, 0.169]).max(axis=2) < 0.15).sum() > 50  # the line itself
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 50)
    aimed = (box["width"] / 2 - 42) / (box["width"] - 44) * LAST  # 42 pixels are labels
    page.wait_for_function(f"Math.abs(document.body.dataset.frame - {aimed}) < 3")
    assert page.locator("#curves b").nth(1).inner_text() == str((frame_of(page) - 1) % 4 + 1)


def test_the_camera_turns_and_comes_back(opened):
    page = opened(5)
    page.wait_for_function("document.body.dataset.frame === '5'")
    before = picture(page)
    page.mouse.move(150, 150)
    page.mouse.down()
    page.mouse.move(250, 170, steps=4)
    page.mouse.up()
    turned = picture(page)
    assert (np.abs(turned - before).max(axis=2) > 0.1).mean() > 0.02
    page.locator("#home").click()
    assert np.abs(picture(page) - before).max() < 0.02


def test_a_click_on_a_robot_shows_its_curve(opened):
    page = opened(0)
    page.wait_for_function("document.body.dataset.frame === '0'")
    page.locator("#env").select_option("1")
    assert "env_1" in page.locator("#curves figcaption").first.inner_text()
    page.locator("#env").select_option("-1")
    assert "mean of 2" in page.locator("#curves figcaption").first.inner_text()
    box = page.locator("#view").bounding_box()
    chosen = set()
    for y in np.linspace(0.4, 0.6, 6):
        for x in (0.44, 0.48, 0.52, 0.56):
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            chosen.add(page.locator("#env").input_value())
    assert chosen >= {"0", "1"}
