"""Renders a recorded rollout with Blender's Cycles, through the camera in the file.

Blender is no dependency of the project. It comes as a Python package for one version of Python
(bpy 5.0 for 3.11), so give it an environment of its own:

    python3.11 -m venv /tmp/blender && /tmp/blender/bin/pip install bpy==5.0.1 usd-core
    /tmp/blender/bin/python benchmarks/render_usd.py rollout.usdc rollout.png --frames 0 30 60 90

One frame makes one picture; several make a contact sheet of --columns columns. It needs no GPU and
no display; a frame of 960 x 540 takes seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import bpy  # pyright: ignore[reportMissingImports]
import numpy as np
from pxr import Usd, UsdGeom, UsdShade

# Omniverse and Blender count light in different units; these suit the recorder's two lights.
SUN_STRENGTH = 4.2  # [W/m^2]
SKY_STRENGTH = 0.28
SKY_COLOR = (0.80, 0.89, 1.0, 1.0)


def load(path: Path) -> Any:
    """Import a stage into an empty scene, and light it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.wm.usd_import(
        filepath=str(path.resolve()), merge_parent_xform=False, create_world_material=False
    )
    bind_shapes(Usd.Stage.Open(str(path)))
    for thing in bpy.data.objects:
        if thing.type == "LIGHT" and thing.data.type == "SUN":
            thing.data.normalize = True  # strength whatever the sun's size
            thing.data.energy = SUN_STRENGTH
    scene.world = bpy.data.worlds.new("sky")
    scene.world.use_nodes = True
    background = scene.world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = SKY_COLOR
    background.inputs["Strength"].default_value = SKY_STRENGTH
    scene.camera = next(thing for thing in bpy.data.objects if thing.type == "CAMERA")
    return scene


def bind_shapes(stage: Usd.Stage) -> None:
    """Give spheres, capsules and the like their materials, which Blender's importer drops."""
    made: dict[str, Any] = {}
    for thing in bpy.data.objects:
        if thing.type != "MESH" or thing.data.materials:
            continue
        prim = stage.GetPrimAtPath(prim_path(thing))
        material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0] if prim else None
        if material:
            name = str(material.GetPath())
            made.setdefault(name, new_material(name, material))
            thing.data.materials.append(made[name])
        if prim and not prim.IsA(UsdGeom.Cube):
            thing.data.polygons.foreach_set("use_smooth", [True] * len(thing.data.polygons))


def prim_path(thing: Any) -> str:
    """The prim an object was imported from; Blender adds .001 to names that occur twice."""
    names = []
    while thing is not None:
        names.append(thing.name.split(".")[0])
        thing = thing.parent
    return "/" + "/".join(reversed(names))


def new_material(name: str, material: UsdShade.Material) -> Any:
    """Blender's principled material with the inputs of a UsdPreviewSurface."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    inputs = made.node_tree.nodes["Principled BSDF"].inputs
    surface = material.ComputeSurfaceSource()[0]
    color = surface.GetInput("diffuseColor").Get()
    inputs["Base Color"].default_value = (*color, 1.0)
    for theirs, ours in (("roughness", "Roughness"), ("metallic", "Metallic")):
        value = surface.GetInput(theirs).Get() if surface.GetInput(theirs) else None
        if value is not None:
            inputs[ours].default_value = value
    return made


def set_up(scene: Any, size: tuple[int, int], samples: int) -> None:
    """Choose renderer, size and quality."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = True
    scene.cycles.seed = 0
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - High Contrast"
    scene.view_settings.exposure = -0.45


def render(scene: Any, frame: int, path: Path) -> np.ndarray:
    """Render a frame; returns (height, width, 4), rows from the bottom up, values in [0, 1]."""
    scene.frame_set(frame)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:], dtype=np.float32).reshape(image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    return pixels


def save_sheet(pictures: list[np.ndarray], columns: int, path: Path) -> None:
    """Put pictures side by side, row by row, with a thin white line between them."""
    height, width, _ = pictures[0].shape
    gap = max(2, width // 160)
    rows = -(-len(pictures) // columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.float32)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        bottom, left = (rows - 1 - row) * (height + gap), column * (width + gap)
        sheet[bottom : bottom + height, left : left + width] = picture
    image = bpy.data.images.new("sheet", sheet.shape[1], sheet.shape[0])
    image.pixels.foreach_set(sheet.ravel())
    image.filepath_raw = str(path)
    image.file_format = "JPEG" if path.suffix == ".jpg" else "PNG"
    image.save(quality=90)


def main() -> None:
    """Read the command line, render, say where the picture lies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("usd", type=Path)
    parser.add_argument("picture", type=Path, help="ends in .png or .jpg")
    parser.add_argument("--frames", type=int, nargs="+", default=[0])
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(960, 540))
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--zoom", type=float, default=1.0, help="times the camera's focal length")
    options = parser.parse_args()
    scene = load(options.usd)
    set_up(scene, tuple(options.size), options.samples)
    scene.camera.data.lens *= options.zoom
    with tempfile.TemporaryDirectory() as folder:
        pictures = [render(scene, frame, Path(folder) / f"{frame}.png") for frame in options.frames]
    columns = min(options.columns, len(pictures))
    save_sheet(pictures, columns, options.picture.resolve())
    print(options.picture)


if __name__ == "__main__":
    main()
