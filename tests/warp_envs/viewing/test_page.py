"""The page of a rollout, in a real browser: it draws, plays, scrubs and turns."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import warp_envs
from tests.warp_envs.recording.recorded import Cars, Puppet, nested
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


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """An Ant, cars for a shorter time, and an Ant in fewer frames a second."""
    folder = tmp_path_factory.mktemp("several")
    for name, fps in (("ant", None), ("slow", 30)):
        env = warp_envs.make("ant", num_envs=1)
        env.reset(seed=0)
        with torch.no_grad():
            record(env, folder / f"{name}.usdc", steps=60, fps=fps)
    record(Cars(num_vehicles=4), folder / "cars.usdc", steps=5)
    paths = [folder / f"{name}.usdc" for name in ("ant", "cars", "slow")]
    write_page(paths, folder / "out.html")
    return folder / "out.html"


@pytest.fixture
def opened(browser, written):
    """Opens a page at a frame; afterwards nothing must have gone wrong or been fetched."""
    page = browser.new_page(viewport={"width": 800, "height": 480})
    told, fetched = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url.split(":")[0]))

    def go(frame: int | None = 0, path: Path = written):
        if path != written:
            page.set_viewport_size({"width": 900, "height": 640})
        page.goto(path.as_uri() + ("" if frame is None else f"#frame={frame}"))
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
    # and what has changed is drawn, however slow the machine
    page.evaluate("() => new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))")
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


def test_rollouts_side_by_side_go_by_one_clock(opened, several):
    page = opened(30, several)  # 0.5 s
    page.wait_for_function("document.body.dataset.frame === '30'")
    assert page.locator(".scene").count() == 3
    names = page.locator(".scene .label b").all_inner_texts()
    assert names == ["ant.usdc", "cars.usdc", "slow.usdc"]
    # The slow one lasts twice as long; the cars have come to their end.
    assert page.locator("#scrub").get_attribute("max") == "120"
    assert page.locator("#curves figure canvas").count() == 2
    cars = page.locator(".scene").nth(1)
    assert cars.locator("output").inner_text() == "return 5"
    shown = [page.locator(".scene output").nth(i).inner_text() for i in (0, 2)]
    page.locator("#scrub").fill("60")
    page.wait_for_function("document.body.dataset.frame === '60'")
    # A second of the slow one is half of the other: the same motion, at half the speed.
    assert page.locator(".scene output").nth(2).inner_text() == shown[0] != shown[1]
    assert cars.locator("output").inner_text() == "return 5"
    assert page.locator(".terms").count() == 2 and cars.locator(".terms").count() == 0


@pytest.mark.slow
def test_cameras_turn_together_or_alone(opened, several):
    page = opened(0, several)
    page.wait_for_function("document.body.dataset.frame === '0'")
    pads = page.locator(".pad")

    def drag(number):
        box = pads.nth(number).bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 130, box["y"] + 64, steps=4)
        page.mouse.up()

    def seen():
        return [picture(page, f".scene:nth-child({i}) .pad") for i in (1, 2, 3)]

    def changed(before):
        pairs = zip(seen(), before, strict=True)
        return [float((np.abs(new - old) > 0.1).mean()) for new, old in pairs]

    start = seen()
    drag(0)
    assert min(changed(start)) > 0.005
    page.locator("#home").click()
    assert max(changed(start)) < 0.002
    page.locator("#together").uncheck()
    drag(2)
    first, second, third = changed(start)
    assert third > 0.005 and max(first, second) < 0.002


def test_arrows_come_and_go(opened, several):
    page = opened(50, several)
    page.wait_for_function("document.body.dataset.frame === '50'")
    note = page.locator(".scene small").first
    assert note.inner_text() == (
        "arrows: the ground's forces; 1787 N, the robot's weight, is 0.5 m long"
    )

    def pink():
        shown = picture(page, ".scene:nth-child(1) .pad")[40:]  # below the note
        return int((np.abs(shown - np.array([0xBE, 0x18, 0x5D]) / 255).max(axis=2) < 0.12).sum())

    assert pink() > 20
    page.locator("#forces").uncheck()
    assert pink() == 0 and not note.is_visible()
    page.locator("#forces").check()
    assert pink() > 20


def test_terms_have_a_line_and_a_value_each(opened, several):
    page = opened(0, several)
    names = ["reward", "progress", "up", "heading", "height"]
    legend = page.locator(".terms").first.locator("figcaption span")
    assert [text.split()[0] for text in legend.all_inner_texts()] == names
    ink = picture(page, ".scene:nth-child(1) .terms canvas")
    for color in ((0x1C, 0x27, 0x33), (0x05, 0x96, 0x69)):  # the reward's and heading's
        assert (np.abs(ink - np.array(color) / 255).max(axis=2) < 0.2).sum() > 30
    page.locator("#scrub").fill("20")
    page.wait_for_function("document.body.dataset.frame === '20'")
    values = [float(text.split()[1]) for text in legend.all_inner_texts()]
    assert values[0] == pytest.approx(sum(values[1:]), abs=0.07)
    assert values[0] != 0.0


@pytest.mark.slow
def test_a_button_saves_a_video(opened, several, tmp_path):
    page = opened(0, several)
    page.locator("#speed").select_option("0.1")  # a busy machine draws few pictures a second
    with page.expect_download(timeout=120_000) as saved:  # once all has been played
        page.locator("#film").click()
    assert saved.value.suggested_filename.startswith("ant.usdc-cars.usdc")
    assert page.locator("#film").inner_text() == "video"
    video = tmp_path / saved.value.suggested_filename
    saved.value.save_as(video)
    assert video.suffix in (".mp4", ".webm") and video.stat().st_size > 3_000
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install 'gippo[video]' brings it")
    frames = ffmpeg.read_frames(str(video))
    width, height = next(frames)["size"]
    pictures = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in frames]
    assert len(pictures) > 1
    assert np.abs(pictures[-1].astype(float) - pictures[0]).max() > 60.0  # they move
    assert pictures[-1].std() > 20.0


def test_a_browser_without_recording_says_so(opened, several):
    page = opened(0, several)
    page.evaluate("() => { delete window.MediaRecorder; }")
    page.locator("#film").click()
    assert "gippo view RUN out=film.gif" in page.locator("#notice").inner_text()
