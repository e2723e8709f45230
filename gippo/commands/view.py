"""`gippo view`."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gippo.configuration.compose import configure, written
from gippo.errors import UserError
from gippo.files import check_place
from gippo.terminal.help_text import describe_keys
from gippo.terminal.progress import make_console
from warp_envs.checks import ArgumentError, check_choice, check_positive

ROLLOUT = "rollout.usdc"
FILMS = (".gif", ".mp4")
VIEWERS = ("page", "gl", "viser", "rerun")

HELP = """\
gippo view: play recorded rollouts in the browser, beside their rewards and returns; or film one.

Usage: gippo view RUN_OR_USD [RUN_OR_USD ...] [key=value ...]

RUN_OR_USD is a run's folder, of which rollout.usdc is shown, or a USD file. The page is one HTML
file beside it, which needs neither network nor server: it can be kept, sent and put on a web site.
Up to six are shown side by side by one clock, on a page rollouts.html beside the first. A page
shows the terms of the reward over time and the ground's forces as arrows, and its button saves a
video. Appended to its address, #frame=120 shows that frame. out=FILE.gif or out=FILE.mp4 writes a
film of one rollout instead, without a GPU or a browser (MP4 takes pip install '.[video]' in the
checkout).

Keys:
{keys}

Examples:
  gippo view runs/first
  gippo view runs/first runs/second
  gippo view crowd.usdc
  gippo view runs/first out=first.html open=false
  gippo view runs/first out=first.gif fps=15
  gippo view runs/first viewer=viser"""


@dataclass
class ViewConfig:
    """What to write and whether to open it."""

    out: str | None = None
    """HTML file to write, or a film, .gif or .mp4; null: the recording's name, ending in .html, or
    rollouts.html beside the first of several."""
    open: bool = True
    """Open the page in the browser; false: only write it."""
    fps: float = 20.0
    """Of a film, pictures for each second."""
    viewer: str = "page"
    """page: as above; gl, viser or rerun: no page, but one of Newton's viewers (gippo[newton])."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        if self.out is not None and Path(self.out).suffix not in (".html", ".htm", *FILMS):
            raise ArgumentError("out", repr(self.out), "a file ending in .html, .gif or .mp4")
        check_positive("fps", self.fps)
        check_choice("viewer", self.viewer, VIEWERS)


def help_text() -> str:
    """What `gippo view --help` prints."""
    return HELP.format(keys=describe_keys(ViewConfig))


def run(arguments: Sequence[str]) -> int:
    """Write the page, and open it, as the arguments say."""
    # A sweep's folders have an equals sign in their names, too.
    named = [text for text in arguments if "=" not in text or Path(text).exists()]
    settings = configure("view", ViewConfig, [text for text in arguments if text not in named])
    if not named:
        raise UserError("nothing given; runs' folders or USD files expected: gippo view RUN")
    recordings = [_recording(Path(text)) for text in named]
    film = settings.out is not None and Path(settings.out).suffix in FILMS
    if len(named) > 1 and (film or settings.viewer != "page"):
        what = "a film shows" if film else f"viewer={settings.viewer} shows"
        raise UserError(f"{' '.join(named)} given; {what} one rollout, only the page several")
    if settings.viewer != "page":
        from warp_envs.viewing.newton_viewer import show_in_newton

        show_in_newton(recordings[0], settings.viewer)
        return 0
    if film:
        return _film(recordings[0], Path(str(settings.out)), settings.fps)
    return _show_page(recordings, named, settings)


def _film(recording: Path, out: Path, fps: float) -> int:
    check_place("out", out)
    from warp_envs.viewing.film import render_film

    console = make_console()
    for line in render_film(recording, out, fps=fps):
        console.print(f"warning: {line}", soft_wrap=True)
    console.print(f"film: {out}", soft_wrap=True)
    return 0


def _show_page(recordings: Sequence[Path], named: Sequence[str], settings: ViewConfig) -> int:
    first = recordings[0]
    out, titles = first.with_suffix(".html"), [str(first)]
    if len(recordings) > 1:
        out, titles = first.with_name("rollouts.html"), list(named)
    if settings.out is not None:
        out = Path(settings.out)
    check_place("out", out)
    from warp_envs.viewing.page import write_page

    console = make_console()
    for line in write_page(recordings, out, titles):
        console.print(f"warning: {line}", soft_wrap=True)
    console.print(f"page: {out}", soft_wrap=True)
    if settings.open and not webbrowser.open(out.resolve().as_uri()):
        console.print("no browser found here: open the page in one")
    return 0


def _recording(given: Path) -> Path:
    if not given.exists():
        raise UserError(f"{str(given)!r}: no such folder or file")
    if not given.is_dir():
        return given
    recording = given / ROLLOUT
    if not recording.is_file():
        raise UserError(
            f"{recording}: not there; gippo play {written('run_dir', given)} "
            f"{written('out', recording)} records it"
        )
    return recording
