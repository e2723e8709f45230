"""An MJCF or URDF file as MuJoCo compiles it."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warp_envs.checks import ArgumentError
from warp_envs.usd.conversion.bad_numbers import (
    refuse_bad_numbers,
    refuse_negative_masses,
    refuse_not_finite,
)
from warp_envs.usd.conversion.mending import drop_what_moves_nothing, mend
from warp_envs.usd.conversion.mujoco_model import import_mujoco, refusals
from warp_envs.usd.conversion.urdf import prepare_urdf

SOURCES = (".xml", ".mjcf", ".urdf")


@dataclass
class Source:
    """A compiled robot.

    Attributes:
        path: of the file.
        model: MuJoCo's `MjModel` of it.
        urdf: whether it is a URDF.
        notes: what reading it left out, one line each.
    """

    path: Path
    model: Any
    urdf: bool
    notes: list[str] = field(default_factory=list)

    def name(self, kind: str, index: int) -> str:
        """The name of a body, joint, geom, actuator ... as the source has it, or one made up."""
        import mujoco

        number = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        found = mujoco.mj_id2name(self.model, number, index)
        if found:
            return found
        model = self.model
        if kind in ("joint", "geom"):
            body = int(getattr(model, "jnt_bodyid" if kind == "joint" else "geom_bodyid")[index])
            first = getattr(model, "body_jntadr" if kind == "joint" else "body_geomadr")[body]
            count = getattr(model, "body_jntnum" if kind == "joint" else "body_geomnum")[body]
            number = f"_{index - first}" if count > 1 else ""
            return f"{self.name('body', body)}_{kind}{number}"
        return f"{kind}_{index}"

    def is_off(self, *flags: str) -> bool:
        """Whether the options disable one of these."""
        bits = import_mujoco().mjtDisableBit
        return any(
            self.model.opt.disableflags & int(getattr(bits, f"mjDSBL_{flag}")) for flag in flags
        )


def read_source(path: Path, *, floating: bool) -> Source:
    """Read and compile a file.

    Raises:
        ValueError: a file that MuJoCo cannot compile, with what it says; a mesh that gives a body
            its mass and cannot be read; `floating` of a robot that floats; numbers that no robot
            can have.
    """
    root = _root_of(path)
    if root.tag not in ("mujoco", "robot"):
        raise ArgumentError(str(path), f"<{root.tag}> at its top", "<mujoco> or <robot>")
    refuse_not_finite(root, path, _root_of)
    notes: list[str] = []
    with _warnings_noted(notes):
        model, more = _compile(root, path, floating=floating)
    source = Source(path, model, root.tag == "robot", [*more, *notes])
    refuse_bad_numbers(source)
    return source


def _root_of(path: Path) -> ET.Element:
    """The top element of a file, read as forgivingly as MuJoCo reads it.

    Raises:
        ValueError: not XML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        # declarations of no version that there is, and comments with "--" in them
        text = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", text, flags=re.DOTALL)
        return ET.fromstring(text)
    except (ET.ParseError, OSError) as error:
        raise ArgumentError(str(path), f"not a readable XML file: {error}") from error


def _compile(root: ET.Element, path: Path, *, floating: bool) -> tuple[Any, list[str]]:
    """MuJoCo's model, and what had to be left out for it."""
    mujoco, notes, text = import_mujoco(), [], None
    if root.tag == "robot":
        text, notes = prepare_urdf(root, path)

    def parse() -> Any:
        whole = str(path.resolve())
        spec = mujoco.MjSpec.from_file(whole) if text is None else mujoco.MjSpec.from_string(text)
        drop_what_moves_nothing(spec)
        refuse_negative_masses(spec, path)
        if floating:
            _let_float(spec, path)
        return spec

    try:
        return parse().compile(), notes
    except ArgumentError:
        raise
    except refusals():
        pass  # a specification that did not compile cannot be mended: another is
    try:
        spec = parse()
        mended = mend(spec, path)
        model = spec.compile()
    except ArgumentError:
        raise
    except refusals() as error:
        said = " ".join(str(error).split()).removeprefix("Error: ")
        raise ArgumentError(str(path), f"MuJoCo cannot read it: {said}") from error
    mended.finish(model)
    return model, [*notes, *mended.notes]


def _let_float(spec: Any, path: Path) -> None:
    """Put a free joint on the first body below the world."""
    body = spec.worldbody.first_body()
    if body is None or body.joints:
        given = "floating=true of a robot whose first body has joints"
        raise ArgumentError(str(path), given, "one that is fixed to the world")
    body.add_freejoint(name=f"{body.name}_free")


@contextmanager
def _warnings_noted(notes: list[str]) -> Iterator[None]:
    """Note what MuJoCo warns of, instead of printing it and writing it to a file of its own."""
    mujoco, said = import_mujoco(), []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(said.append)
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            yield
    finally:
        mujoco.set_mju_user_warning(before)
    said += [str(warning.message) for warning in raised]
    texts = dict.fromkeys(" ".join(text.split()) for text in said)
    # what MuJoCo deprecates, it still does
    notes += [f"MuJoCo: {text}" for text in texts if "deprecated" not in text]
