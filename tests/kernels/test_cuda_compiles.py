"""The kernels compile for GPUs that are not here, adjoints included.

To cover another module of kernels, add to `USES` a function that runs them once on the CPU: what it
records in a `Program` is compiled for the architecture.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import warp as wp

import warp_envs
from kernels.compiled import cpp
from kernels.traffic import mobil_vectors, road, vectors
from tests.kernels.articulation import robots
from tests.kernels.articulation.rollout import rows, step_function
from warp_envs.articulation.articulation import Articulation
from warp_envs.bridge.program import Program
from warp_envs.traffic import (
    Connection,
    Flow,
    Mobil,
    Network,
    Segment,
    Signal,
    TrafficNetwork,
    TrafficSim,
    simulator,
)


def control_step(dtype):
    robot = Articulation(robots.ant(), 1, dtype=dtype)
    q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
    step_function(robot)(q, qd, qd)


def compiled_control_step(dtype):
    robot = Articulation(robots.ant(), 1, dtype=dtype)
    q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
    step_function(robot, compiled=True)(q, qd, qd)


def held_control_step(dtype):
    robot = Articulation(robots.hopper(), 1, dtype=dtype)
    q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
    step_function(robot, every=16)(q, qd, qd)


def compiled_held_control_step(dtype):
    robot = Articulation(robots.hopper(), 1, dtype=dtype)
    q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
    step_function(robot, compiled=True, every=16)(q, qd, qd)


def control_step_in_pieces(dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpp, "LONGEST", 0)
        patch.setattr(cpp, "PIECE", 200)
        hopper = replace(robots.hopper(), name="in pieces")  # whose kernel has not been made yet
        robot = Articulation(hopper, 1, dtype=dtype)
        q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
        step_function(robot, compiled=True)(q, qd, qd)


def environment(name, **options):
    """One differentiated step: what an environment does beside its dynamics."""

    def use(dtype):
        env = warp_envs.make(name, num_envs=1, dtype=dtype, **options)
        actions = torch.zeros(1, env.num_actions, dtype=dtype, requires_grad=True)
        env.step(actions)[1].sum().backward()

    use.__name__ = name
    return use


def forward_dynamics(dtype):
    robot = Articulation(robots.ant(), 1, dtype=dtype)
    q, qd = (rows(np.zeros(width)).to(dtype) for width in (robot.nq, robot.nv))
    robot.forward_dynamics(q, qd, qd)


def mass_matrix_and_poses(dtype):
    robot = Articulation(robots.ant(), 1, dtype=dtype)
    robot.mass_matrix(rows(robot.default_joint_q).to(dtype))
    robot.body_poses(rows(robot.default_joint_q).to(dtype))


def traffic_network(dtype):
    """A differentiated step of a merge with lane changes, a flow and a signal."""
    network = Network(
        [Segment("a", 90.0, 2), Segment("r", 90.0), Segment("b", 90.0)],
        [Connection("a", 0, "b", 0), Connection("r", 0, "b", 0)],
        {"t": ["a", "b"], "e": ["r", "b"]},
        [Flow("cars", "t", 600.0), Flow("joining", "e", 600.0)],
        signals=[Signal("meter", [("r", 0, "b")], [(5.0, "G"), (5.0, "r")])],
    )
    headway = torch.tensor(1.5, dtype=dtype, requires_grad=True)
    traffic = TrafficNetwork(network, 1, 4, dtype=dtype, mobil=Mobil(), T=headway)
    traffic.step()["x"].sum().backward()


def traffic_road(dtype):
    """A differentiated step of a road with lane changes, by the kernels that a GPU has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "vector_step", lambda *_, **__: None)
        patch.setattr(vectors, "find_stale", lambda _: road.find_stale_roads)
        patch.setattr(mobil_vectors, "change_lanes", lambda *_: None)
        headway = torch.tensor(1.5, dtype=dtype, requires_grad=True)
        traffic = TrafficSim(1, 2, 4, dtype=dtype, mobil=Mobil(), T=headway)
        traffic.step()["x"].sum().backward()


# And for which architectures. The plain step takes most of a minute, so it is compiled for the one
# between the others.
USES = [
    (control_step, 90),
    (forward_dynamics, 80),
    (mass_matrix_and_poses, 100),
    (compiled_control_step, 80),
    (compiled_control_step, 90),
    (compiled_control_step, 100),
    (held_control_step, 90),
    (compiled_held_control_step, 100),
    (control_step_in_pieces, 80),
    (control_step_in_pieces, 100),
    (environment("ackley"), 100),
    (environment("cartpole"), 80),
    (environment("ant"), 90),
    (environment("hopper"), 100),
    (environment("pace_car", num_lanes=2, num_vehicles=3), 80),
    (environment("pace_car", num_lanes=2, num_vehicles=3), 100),
    (environment("ring"), 90),
    (environment("merge"), 90),
    (traffic_road, 90),
    (traffic_network, 80),
    (traffic_network, 100),
]


def modules_used(use, dtype, monkeypatch):
    """The Warp modules of the kernels that `use` records for `dtype`, and which have adjoints."""
    modules, launch = {}, Program.launch

    def noted(program, kernel, dim, inputs, **options):
        name, with_adjoint = kernel.module.name, kernel.options.get("enable_backward") is not False
        _, before = modules.get(name, (kernel.module, False))
        modules[name] = kernel.module, before or with_adjoint
        launch(program, kernel, dim, inputs, **options)

    monkeypatch.setattr(Program, "launch", noted)
    use(dtype)
    return list(modules.values())


@pytest.mark.slow
@pytest.mark.parametrize(("use", "arch"), USES)
def test_compiles_for_cuda(use, arch, monkeypatch, tmp_path):
    modules = modules_used(use, torch.float32, monkeypatch)
    assert modules
    for module, differentiable in modules:
        paths = wp.compile_aot_module(module, arch=arch, module_dir=tmp_path, use_ptx=True)
        (code,) = [path.read_text() for path in paths if path.suffix == ".ptx"]
        assert f".target sm_{arch}" in code
        assert "cuda_kernel_forward" in code
        assert not differentiable or "cuda_kernel_backward" in code
