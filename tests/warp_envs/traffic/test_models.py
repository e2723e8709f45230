"""Which car-following models there are, and what is asked of one."""

import sys
from typing import Any

import pytest
import torch
import warp as wp

from kernels.traffic import idm, ovm
from kernels.traffic.car_following import CarFollowing, Parameter
from warp_envs.checks import ArgumentError
from warp_envs.traffic.models import find_model, models
from warp_envs.traffic.simulator import Mobil, TrafficSim


@wp.func
def follow(speed: Any, gap: Any, speed_difference: Any, v0: Any, T: Any):  # noqa: N803
    return wp.min(v0, gap / T) - speed


PARAMETERS = (Parameter("v0", 20.0, "m/s", "desired speed"), Parameter("T", 1.5, "s", "headway"))
NEWELL = CarFollowing("newell", PARAMETERS, follow)
DRIVER = """
from tests.warp_envs.traffic.test_models import NEWELL
"""


def test_the_packages_models_by_name():
    assert models() == {"idm": idm.MODEL, "ovm": ovm.MODEL}
    assert find_model("ovm") is ovm.MODEL
    assert find_model(NEWELL) is NEWELL


def test_a_model_of_a_users_own_file(tmp_path, monkeypatch):
    (tmp_path / "my_drivers.py").write_text(DRIVER)
    (tmp_path / "broken_drivers.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_model("my_drivers:NEWELL") is NEWELL
    with pytest.raises(ValueError, match=r"'my_drivers:NEWEL' given.* did you mean 'NEWELL'"):
        find_model("my_drivers:NEWEL")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        find_model("broken_drivers:NEWELL")
    sys.modules.pop("my_drivers")


@pytest.mark.parametrize("mobil", [None, Mobil()])
def test_it_drives_as_its_function_says(mobil):
    traffic = TrafficSim(1, 2, 2, model=NEWELL, dtype=torch.float64, mobil=mobil, dt=0.1, T=2.0)
    lane = torch.zeros(1, 2, dtype=torch.int32)
    x = torch.tensor([[0.0, 25.0]], dtype=torch.float64)
    traffic.set_state({"x": x, "speed": torch.full_like(x, 8.0), "lane": lane})
    follower, leader = traffic.step()["speed"][0].tolist()
    assert leader == pytest.approx(8.0 + 0.1 * (20.0 - 8.0), abs=1e-12)
    changed = bool((traffic.lane == 1).any())  # free road there is worth 20 - 10 m/s^2
    assert changed == (mobil is not None)
    assert follower == pytest.approx(8.0 + 0.1 * ((20.0 if changed else 10.0) - 8.0), abs=1e-12)


def named(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, 1.0, "1", "") for name in names)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("imd", "model: 'imd' given, one of .*'idm', 'ovm'.* did you mean 'idm'"),
        ("no_such_file:X", "model: 'no_such_file:X' given, a module"),
        (3.0, "model: a float given"),
        (CarFollowing("two", named("T", "v0"), follow), "model two: .* a wp.func of .*'T', 'v0'"),
        (CarFollowing("long", named("v0", "length"), follow), r"parameters \['length'\] given"),
    ],
)
def test_what_it_refuses(model, message):
    with pytest.raises(ValueError, match=message):
        find_model(model)


@wp.func
def follow_dt(speed: Any, gap: Any, speed_difference: Any, dt: Any):
    return (gap - speed) * dt


def test_a_parameter_cannot_hide_behind_an_option_of_the_simulator():
    with pytest.raises(ValueError, match=r"model slow: parameters \['dt'\] given"):
        TrafficSim(1, 1, 1, model=CarFollowing("slow", named("dt"), follow_dt))


@wp.func
def follow_half(speed: Any, gap: Any, speed_difference: Any, v0: Any):
    return 0.5 * (v0 - speed)


def test_an_acceleration_that_warp_cannot_translate_is_named():
    road = TrafficSim(
        1, 1, 1, model=CarFollowing("half", named("v0"), follow_half), dtype=torch.float64
    )
    with pytest.raises(ArgumentError, match=r"^follow_half in .*test_models.py: 'return 0.5 \* .*"):
        road.step()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mobil": True}, "mobil: True given, a Mobil or None accepted"),
        ({"v0": "1"}, "v0: '1' given, a number or a tensor accepted"),
        ({"model": CarFollowing("a b", named("v0"), follow_half)}, "model: 'a b' given"),
    ],
)
def test_other_kinds_of_values_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        TrafficSim(1, 1, 1, **options)
