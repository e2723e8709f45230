"""What is said of a recording that does not stand by itself."""

import zipfile

from pxr import UsdUtils

from gippo.runs.recording import files_beside, note_of, warning_of

TEXTURED = """#usda 1.0
(
    defaultPrim = "World"
)
def Xform "World"
{
    def Shader "Wood"
    {
        uniform token info:id = "UsdUVTexture"
        asset inputs:file = @textures/wood.png@
    }
}
"""


def test_textures_outside_are_told_of_and_usdz_is_named(tmp_path):
    (tmp_path / "textures").mkdir()
    picture = tmp_path / "textures" / "wood.png"
    picture.write_bytes(b"not looked at")
    path = tmp_path / "rollout.usda"
    path.write_text(TEXTURED)
    assert files_beside(path) == [picture]
    (line,) = warning_of(path)
    assert "rollout.usda refers to 1 texture where" in line
    assert "(wood.png); a .usdz file" in line
    packed = tmp_path / "rollout.usdz"
    assert UsdUtils.CreateNewUsdzPackage(str(path), str(packed))
    assert any(name.endswith("wood.png") for name in zipfile.ZipFile(packed).namelist())
    assert warning_of(packed) == []


def test_a_file_by_itself_is_not_spoken_of(tmp_path):
    path = tmp_path / "rollout.usda"
    path.write_text(TEXTURED.replace("asset inputs:file = @textures/wood.png@", ""))
    assert warning_of(path) == []
    (tmp_path / "sub").mkdir()
    assert warning_of(tmp_path / "sub" / ".." / path.name) == []


def test_what_crowds_are_recorded_without_is_told():
    assert note_of(16) == []
    (line,) = note_of(17)
    assert "more than 16 environments" in line and "ground's forces" in line
