import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("rsl_rl", "rsl_rl"),
        ("skrl", "skrl"),
        ("stable_baselines3", "stable_baselines3"),
        ("torchrl", "torchrl"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(module, library, monkeypatch):
    names = [name for name in sys.modules if name.partition(".")[0] == library]
    for name in {library, *names}:
        monkeypatch.setitem(sys.modules, name, None)
    adapter = f"warp_envs.adapters.{module}"
    monkeypatch.delitem(sys.modules, adapter, raising=False)
    with pytest.raises(ImportError, match=rf"{library} is not installed: .*\.\[adapters\]"):
        importlib.import_module(adapter)
