import os

import pytest

from gippo.errors import UserError
from gippo.files import check_place
from gippo.runs.folder import in_the_way


def test_a_place_that_takes_no_file_is_told_before_anything_is_made(tmp_path, monkeypatch):
    check_place("out", tmp_path / "x.usdc")
    with pytest.raises(UserError, match=r"out: the folder of .* does not exist"):
        check_place("out", tmp_path / "nowhere" / "x.usdc")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # of mode 555
    with pytest.raises(UserError, match=r"out: the folder of '.*x\.usdc' cannot be written to"):
        check_place("out", tmp_path / "x.usdc")


def test_a_run_is_refused_below_a_folder_that_takes_none(tmp_path, monkeypatch):
    assert in_the_way(tmp_path / "a" / "b") is None
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    told = in_the_way(tmp_path / "a" / "b")
    assert told == f"run_dir: '{tmp_path}/a/b': '{tmp_path}' cannot be written to"
