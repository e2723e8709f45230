"""The notebook runs from its first cell to its last."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install 'gippo[test]' brings it")
nbclient = pytest.importorskip("nbclient", reason="pip install 'gippo[test]' brings it")
pytest.importorskip("ipykernel", reason="pip install 'gippo[test]' brings it")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_policy.ipynb"


@pytest.mark.slow
def test_the_notebook_trains_shows_and_exports_a_policy(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs for cell in cells)
    assert "num_epochs = 500" in cells[0].source
    cells[0].source = cells[0].source.replace("500", "2")
    assert '"rollout.num_steps": 240' in cells[2].source
    cells[2].source = cells[2].source.replace("240", "24")
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    shown = [output for cell in cells for output in cell.outputs]
    pictures = [kind for o in shown for kind in o.get("data", {}) if kind.startswith("image/")]
    assert pictures == ["image/png", "image/gif"]
    said = "".join(o["text"] for o in cells[-1].outputs if o.get("name") == "stdout")
    assert float(said.split()[-1]) < 1e-5
    (checkpoint,) = tmp_path.glob("runs/*/checkpoints/epoch_000002.pt")
    assert checkpoint.stat().st_size > 0
