"""Control steps of a robot, by the plain kernels, the compiled kernel, or numpy, for comparison."""

from functools import cache

import numpy as np
import torch

from kernels.compiled.tracer import evaluate
from tests.kernels.articulation import robots
from warp_envs.articulation.articulation import Articulation
from warp_envs.articulation.columns import NOTHING
from warp_envs.articulation.compiled import equations_of, record_compiled_step
from warp_envs.bridge.devices import scalar_type
from warp_envs.bridge.program import Program
from warp_envs.usd.ground import HeightField

CONTROL_STEP = 1.0 / 60.0


def program(
    description, num_envs, dtype, substeps, plain=False, lanes=None, num_blocks=1, device="cpu",
    varied=(), every=1,
):  # fmt: skip
    """The control step as a function of torch tensors: joint_q, joint_qd, joint_f, what varies."""
    recorded = Program(device, num_rows=num_envs, num_blocks=num_blocks)
    nq, nv = description.nq, description.nv
    q, qd, f, next_q, next_qd = (
        recorded.array((num_envs, n), scalar_type(dtype)) for n in (nq, nv, nv, nq, nv)
    )
    step = (recorded, q, qd, f, next_q, next_qd, CONTROL_STEP, substeps)
    columns = columns_of(description, varied)
    p = [recorded.array((num_envs, columns.count), scalar_type(dtype))] if varied else []
    if plain:
        robot = Articulation(description, num_envs, device, dtype, parameters=varied)
        robot.record_step(*step, *p, compiled=False, mass_matrix_every=every)
    else:
        what = {"columns": columns, "parameters": p[0]} if p else {}
        what["mass_matrix_every"] = every
        record_compiled_step(recorded, description, *step[1:], lanes=lanes, **what)
    return recorded.function([q, qd, f, *p], [next_q, next_qd])


def values_and_gradients(function, inputs, seeds) -> list[torch.Tensor]:
    """Next joint_q and joint_qd, and the gradients of their product with the seeds."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    outputs = function(*inputs)
    gradients = torch.autograd.grad(outputs, inputs, seeds)
    return [x.detach() for x in outputs] + list(gradients)


def random_inputs(description, num_envs, seed, spread=0.3, force=5.0):
    """Float64 joint_q, joint_qd, joint_f, and seeds for the two outputs."""
    rng = np.random.default_rng(seed)
    states = [robots.random_state(description, rng, spread) for _ in range(num_envs)]
    q, qd = (np.array([state[k] for state in states]) for k in (0, 1))
    inputs = [q, qd, force * rng.normal(size=qd.shape)]
    seeds = [rng.normal(size=q.shape), rng.normal(size=qd.shape)]
    return [torch.tensor(x) for x in inputs], [torch.tensor(x) for x in seeds]


def by_numpy(description, inputs, seeds, substeps, varied=(), every=1):
    """What `values_and_gradients` gives, from the traced blocks run on numpy arrays."""
    equations = _equations(description, columns_of(description, varied), every)
    columns = {"dt": [CONTROL_STEP / substeps]}
    columns |= {name: [0.0] * equations.nv for name in ("qdd", "multipliers")}
    names = ["q", "qd", "f"] + ["p"] * (len(inputs) > 3)
    if isinstance(description.ground, HeightField):
        columns["ground"] = description.ground.table[0].reshape(-1)
    for name, rows in zip(names, inputs, strict=True):
        columns[name] = list(rows.numpy().T)
    entry = columns["q"]
    _run(equations.enter, columns)
    trail = []
    if every > 1:
        columns["held"] = [0.0] * equations.num_held
        columns["adj_held"] = [np.zeros(len(inputs[0]))] * equations.num_adj_held
    for step in range(substeps):
        before = {name: columns[name] for name in ("q", "qd")}
        if every > 1 and step % every == 0:
            _run(equations.hold, columns)
        _run(equations.substep, columns)
        held = {"held": columns["held"]} if every > 1 else {}
        trail.append({**before, **held, "qdd": columns["qdd"]})
    for name, rows in zip(("adj_q", "adj_qd"), seeds, strict=True):
        columns[name] = list(rows.numpy().T)
    columns["adj_f"] = [np.zeros(len(inputs[0]))] * equations.nv
    columns["adj_p"] = [np.zeros(len(inputs[0]))] * equations.num_parameters
    _run(equations.leave_reverse, columns)
    _run(equations.leave, columns)
    outputs = [columns["q"], columns["qd"]]
    for step, state in reversed(list(enumerate(trail))):
        columns.update(state)
        _run(equations.substep_solve_reverse, columns)
        _run(equations.substep_reverse, columns)
        if every > 1 and step % every == 0:
            _run(equations.hold_reverse, columns)
    columns["q"] = entry
    _run(equations.enter_reverse, columns)
    outputs += [columns[f"adj_{name}"] for name in names]
    return [torch.tensor(np.stack(rows, axis=1)) for rows in outputs]


def columns_of(description, names):
    """Where the numbers of the named parameters lie in a row."""
    return Articulation(description, 1, parameters=names).columns if names else NOTHING


@cache
def _equations(description, varied, every):
    return equations_of(description, varied, every)


def _run(block, columns):
    """Store a block's values in new lists, so that kept states keep theirs."""
    found = evaluate(block.values, columns) if block.values else []
    shape = columns["q"][0].shape
    for name in {array for array, _ in block.targets}:
        columns[name] = list(columns[name])
    for (array, element), value in zip(block.targets, found, strict=True):
        columns[array][element] = np.broadcast_to(value, shape)


def worst(found, expected):
    """The largest error, relative to the largest entry of each tensor."""
    return max(
        ((a.double() - b).abs().max() / b.abs().max()).item()
        for a, b in zip(found, expected, strict=True)
    )
