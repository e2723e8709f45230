"""`gippo compile`."""

import pytest

from gippo.cli import main


def test_kernels_are_built_where_a_gpus_process_looks_for_them(tmp_path, capsys):
    folder = tmp_path / "kernels"
    assert main(["compile", "env=dejong", "env.dim=3", "arch=[sm_80,90]", f"out={folder}"]) == 0
    said = capsys.readouterr().out
    assert "WARP_CACHE_PATH" in said and "kernels.episode" in said
    modules = [path for path in folder.iterdir() if path.name.startswith("wp_")]
    assert len(modules) >= 3
    for module in modules:
        for suffix in (".sm80.cubin", ".sm90.cubin", ".meta"):
            assert (module / f"{module.name}{suffix}").stat().st_size > 0
    assert main(["compile", "env=dejong", "env.dim=3", "arch=80", f"out={folder}"]) == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in modules}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arch: no value given"),
        (["arch=fast"], "arch: 'fast' given, sm_75"),
        (["arch=[]"], "arch: [] given"),
        (["arch=30"], "arch: 30 given"),
        (["arch=90", "out=file"], "out: 'file' is a file"),
    ],
)
def test_mistakes_are_told_before_anything_is_built(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["compile", "env=dejong", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
