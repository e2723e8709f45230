"""The base of all environments: Gymnasium's vector interface over differentiable Warp programs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
import warp as wp
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import batch_space

from kernels import episode
from warp_envs.articulation.varying import Varying
from warp_envs.bridge.devices import check_device, check_finite, check_tensor, scalar_type
from warp_envs.bridge.program import Program
from warp_envs.bridge.threads import get_num_threads
from warp_envs.checks import ArgumentError, check_choice, check_integer, check_name
from warp_envs.declarations import (
    DECLARED,
    UNWRITTEN,
    Arrays,
    Quantity,
    check_class,
    check_declared,
    check_sizes,
    check_terms,
    check_widths,
    signature_of,
)

State = dict[str, torch.Tensor]

DRAWS = "parameter_draws"
"""Of the state: what was drawn of the parameters for the episode."""


class DifferentiableVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` copies of one environment, stepped together and differentiable through time.

    A subclass declares class attributes and records four programs' worth of kernel launches:
    `record_step`, `record_observation`, `record_outcome` and `record_initial_state`. Everything
    else is here: clipping and checking of actions, divergence, termination, truncation, same-step
    reset, state in and out, and gradients.

    What depends on an option of its own, a subclass sets on the instance before it calls
    ``super().__init__(**options)``. An option is a keyword-only parameter of `__init__`;
    ``inspect.signature`` of a class lists its own and those of all classes that its ``**options``
    go to.

    All tensors lie on `device` and are of `dtype` (torch.float32 unless told otherwise).
    """

    name: str
    """The environment's name, under which a learner finds its settings."""
    num_obs: int
    """Numbers observed."""
    num_actions: int
    """Numbers in an action."""
    max_episode_steps: int
    """Time limit of an episode."""
    state_layout: Mapping[str, int]
    """Name -> numbers per environment."""
    reward_terms: tuple[str, ...]
    """Names of the terms whose sum is the reward."""
    state_bounds: Mapping[str, float] = MappingProxyType({})
    """Name of a part of the state -> greatest absolute value; beyond, an environment diverges."""
    state_integers: Sequence[str] = ()
    """Names of the parts of the state that are whole numbers: no gradient goes through them."""
    varying: Varying = Varying()
    """What varies from environment to environment: nothing."""
    obs_quantities: Sequence[Quantity] = ()
    """What the observation's numbers are, in their order; empty: not told."""
    action_quantities: Sequence[Quantity] = ()
    """What the action's numbers are, in their order; empty: not told."""
    control_step: float | None = None
    """Time between two actions [s]; None where there is none."""
    rows_per_block: int = 256
    """As many environments as keep a thread busy for 50 us: waking it pays no sooner."""

    declares: ClassVar[Mapping[str, str]] = DECLARED
    """What the subclasses declare that have no `__init__` of their own, name -> what."""

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [],
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the class's signature list every option it takes."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signature_of(cls)

    def __init__(
        self,
        *,
        num_envs: int,
        max_episode_steps: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        num_blocks: int | None = None,
        randomize_observed: str | None = None,
    ) -> None:
        """Allocate the environment and reset it.

        Args:
            num_envs: copies.
            max_episode_steps: time limit of an episode; None: the class's.
            device: "cpu" or "cuda:0".
            dtype: torch.float32 or torch.float64.
            seed: of the random initial states.
            num_blocks: blocks of environments, a thread of a CPU each; None: as many as
                `warp_envs.get_num_threads` if each has its `rows_per_block`. A GPU has one.
            randomize_observed: "critic": a critic is told what was drawn for the episode, see
                `observe_privileged`; None: nobody is.

        Raises:
            ValueError: an attribute that the class does not declare, a method that it does not
                define, a count below one, an unknown device or dtype, a negative seed; a critic
                that is to be told of draws where nothing is drawn.
        """
        if max_episode_steps is not None:
            self.max_episode_steps = max_episode_steps
        check_class(type(self))
        check_declared(self, DECLARED)
        check_integer("num_envs", num_envs, 1)
        for count in ("num_obs", "num_actions", "max_episode_steps"):
            check_integer(count, getattr(self, count), 1)
        check_name(f"{type(self).__name__}.name", self.name)
        check_widths(f"{type(self).__name__}.state_layout", self.state_layout)
        for name in self.state_integers:
            check_choice(f"{type(self).__name__}.state_integers", name, tuple(self.state_layout))
        check_integer("seed", seed, 0, 2**31 - 1)
        check_terms(self.reward_terms)
        self.scalar = scalar_type(dtype)
        self.dtype = dtype
        self.device = check_device(device)
        self.num_envs = num_envs
        if num_blocks is None:
            num_blocks = max(1, min(get_num_threads(), num_envs // self.rows_per_block))
        self.num_blocks = num_blocks
        self.spec = EnvSpec(id=f"gippo/{self.name}", max_episode_steps=self.max_episode_steps)
        self._make_spaces()
        self._columns = _columns(self.state_layout)
        self._state = torch.zeros(
            num_envs, sum(self.state_layout.values()), dtype=dtype, device=self.device
        )
        self._numbers: list[wp.array] = []
        self._build_programs()
        self.num_privileged = self._count_privileged(randomize_observed)
        """Numbers that a critic is told beside the observation."""
        self.reset(seed=seed)
        for program, sizes in self._sizes_at_reset:
            check_sizes(program, sizes)

    # What a subclass supplies -------------------------------------------------------------------

    @abstractmethod
    def record_step(
        self, program: Program, state: Arrays, action: wp.array, next_state: Arrays
    ) -> None:
        """Append the launches of one control step.

        Args:
            program: takes the launches and owns scratch arrays.
            state: name -> array (num_envs, n), to be read only.
            action: (num_envs, num_actions), clipped to [-1, 1].
            next_state: name -> array (num_envs, n), to be written in full.
        """

    @abstractmethod
    def record_observation(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """Append the launches that write `obs` (num_envs, num_obs) from `state`."""

    def record_observed(self, program: Program, state: Arrays, obs: wp.array) -> None:
        """Append what writes `obs` as it is seen: the observation, here without noise."""
        self.record_observation(program, state, obs)

    @abstractmethod
    def record_outcome(
        self,
        program: Program,
        state: Arrays,
        action: wp.array,
        next_state: Arrays,
        reward_terms: wp.array,
        terminated: wp.array,
    ) -> None:
        """Append the launches that write reward terms (num_envs, terms) and termination.

        `terminated` is a boolean array (num_envs,); the reward is the sum of its terms.
        """

    @abstractmethod
    def record_initial_state(self, program: Program, rng: wp.array, state: Arrays) -> None:
        """Append the launches that write a random initial state of every environment.

        `rng` (num_envs,), uint32, holds a fresh random-number state for every environment: copy it
        to a local and draw, ``state = rng[env]; x = wp.randf(state)``. Where it is 0 no start is
        asked for, and none need be written. ``state.parameters`` are those of the episode, if any
        vary. No gradient passes here.
        """

    def step_random_numbers(self, program: Program) -> wp.array:
        """A random-number state for every environment and step, (num_envs,), uint32.

        For noise in `record_step`, which alone may ask for it: draw as in `record_initial_state`.
        The numbers follow from the seed, the environment's number and its counters, so they are
        drawn again after `set_state`.
        """
        rng = program.array(self.num_envs, wp.uint32, requires_grad=False)
        counters = [self._counters[name] for name in ("seed", "reset_count", "step_count")]
        inputs = [counters[0], self._number_array(program), *counters[1:], rng]
        program.launch(episode.step_random_numbers, self.num_envs, inputs)
        return rng

    # Gymnasium's interface ----------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Start a new episode in every environment, and a new gradient window.

        Args:
            seed: restarts the random numbers from here; None continues them.
            options: not used.

        Returns:
            obs (num_envs, num_obs) and an empty info.
        """
        if seed is not None:
            check_integer("seed", seed, 0, 2**31 - 1)
            super().reset(seed=int(seed))
            self._memory["seed"].fill_(int(seed))
            self._memory["reset_count"].zero_()
        self._state, draws = self._begin()
        if draws is not None:
            self._memory[DRAWS].copy_(draws)
        self._memory["reset_count"] += 1
        self._memory["step_count"].zero_()
        self._memory["last_reward"].zero_()
        return self.observe(), {}

    def step(
        self, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Advance every environment by one control step.

        Args:
            actions: (num_envs, num_actions), clipped to [-1, 1].

        Returns:
            obs (num_envs, num_obs), after the reset of ended environments; reward (num_envs,);
            terminated and truncated, bool (num_envs,); and info with ``final_obs`` (num_envs,
            num_obs), the observation before any reset; ``diverged``, bool (num_envs,);
            ``reward_terms``, name -> (num_envs,). obs, reward and final_obs are differentiable in
            the actions of all steps since `detach`. When an environment diverges its final_obs is
            its last finite observation and its reward that of the last finite step.

        Raises:
            ValueError: actions of wrong type, shape, dtype or device; on a CPU also non-finite ones
                (on a GPU the environment ends as diverged instead). Nothing has been stepped then.
        """
        self._check_actions(actions)
        obs, reward, final_obs, terminated, truncated, diverged, terms, self._state = self._step(
            self._state, actions, *self.varying.given()
        )
        if self._sizes_at_step is not None:
            check_sizes(self._program, self._sizes_at_step)
            self._sizes_at_step = None
        info = {
            "final_obs": final_obs,
            "diverged": diverged,
            "reward_terms": dict(zip(self.reward_terms, terms.detach().unbind(1), strict=True)),
        }
        return obs, reward, terminated, truncated, info

    # Windows and state --------------------------------------------------------------------------

    def detach(self) -> None:
        """Start a new gradient window where the environments stand."""
        self._state = self._state.detach()

    def observe(self) -> torch.Tensor:
        """The observation (num_envs, num_obs) of the current state, differentiable in it."""
        in_force = self.varying.in_force(self._memory.get(DRAWS))
        return self._observe(*self._split_state().values(), *in_force)[0]

    def observe_privileged(self) -> torch.Tensor:
        """What a critic alone is told of the episodes under way, (num_envs, num_privileged).

        The numbers drawn for an episode, each from -1 to 1 between the ends of its spread. They
        hold for all of it: read before a step, they belong to its observation and its final_obs.
        No gradient.
        """
        if not self.num_privileged:
            return self._state.new_zeros(self.num_envs, 0)
        return torch.cat(self._drawn(), dim=1)

    def _drawn(self) -> list[torch.Tensor]:
        """What was drawn for the episodes, parts (num_envs, n) from -1 to 1; copies."""
        draws = self.varying.draws
        return [] if draws is None else [draws.centered(self._memory[DRAWS])]

    def _count_privileged(self, observed: str | None) -> int:
        if observed is None:
            return 0
        check_choice("randomize_observed", observed, ("critic",))
        count = sum(part.shape[1] for part in self._drawn())
        if not count:
            accepted = "null where nothing is drawn by env.randomize"
            raise ArgumentError("randomize_observed", repr(observed), accepted)
        return count

    def get_state(self) -> State:
        """A detached copy of the complete state, counters and random-number state included.

        Setting it again continues bit for bit on a CPU. Names: those of `state_layout`, ``seed``
        (1,), ``step_count`` and ``reset_count`` (num_envs,), ``last_reward`` (num_envs,); where
        parameters vary, ``parameters`` (num_envs, n) as they were set and, where they are drawn,
        ``parameter_draws``.
        """
        return {name: value.detach().clone() for name, value in self._everything().items()}

    def set_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from `state`; what it does not name stays. Gradients reach its tensors.

        Raises:
            ValueError: an unknown name, or a tensor of wrong shape, dtype or device. Nothing has
                been set then.
        """
        current = self._everything()
        for name, value in state.items():
            if name not in current:
                raise ArgumentError("state", repr(name), f"any of {list(current)}")
            like = current[name]
            check_tensor(f"state[{name!r}]", value, like.shape, like.dtype, like.device)
        if self.varying.parameters is not None and "parameters" in state:
            self.varying.parameters.set_flat(state["parameters"])
        merged = {**current, **state}
        self._state = torch.cat([merged[name] for name in self.state_layout], dim=1)
        for name, value in self._memory.items():
            value.copy_(merged[name].detach())

    def _split_state(self) -> State:
        """The state's parts by name, views of one tensor."""
        return {name: self._state[:, columns] for name, columns in self._columns.items()}

    def _everything(self) -> State:
        """All parts of the state by name."""
        varied = self.varying.parameters
        given = {} if varied is None else {"parameters": varied.flat()}
        return {**self._split_state(), **self._memory, **given}

    def number_from(self, first: int) -> None:
        """Be the environments `first`, `first` + 1, ... of a larger batch, from the next reset on.

        Random starts are drawn by an environment's number: batches that share out the numbers of
        one batch start as that one does.
        """
        numbers = np.arange(first, first + self.num_envs, dtype=np.int32)
        for index in self._numbers:
            index.assign(numbers)

    # Construction -------------------------------------------------------------------------------

    def _make_spaces(self) -> None:
        real = np.float64 if self.dtype == torch.float64 else np.float32
        box = gymnasium.spaces.Box
        self.single_observation_space = box(-np.inf, np.inf, (self.num_obs,), real)
        self.single_action_space = box(-1.0, 1.0, (self.num_actions,), real)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def memory(self) -> tuple[int, int]:
        """Bytes of the step's arrays, and those that each step more of a window keeps."""
        return self._program.memory()

    @property
    def launches_per_step(self) -> tuple[int, int]:
        """Kernels that a step launches forward and backward; a graph launches them together."""
        return self._program.count_launches()

    def _build_programs(self) -> None:
        self._sizes_at_reset: list[tuple[Program, Arrays]] = []
        self._build_step()
        self._build_start()
        self._build_observe()

    def _build_start(self) -> None:
        program = Program(self.device)
        seed = program.array(1, wp.int32, requires_grad=False)
        reset_count = program.array(self.num_envs, wp.int32, requires_grad=False)
        wanted = program.array(self.num_envs, wp.int32, requires_grad=False, shared=True)
        wanted.fill_(1)
        state = self._state_arrays(program, requires_grad=False)
        given = self.varying.arrays(program, self.num_envs, self.scalar)
        drawn = self._record_draws(program, seed, reset_count, wanted)
        state.parameters = self.varying.record_in_force(program, *given, *drawn)
        self._record_start(program, seed, reset_count, wanted, state)
        self._start = program.function([seed, reset_count, *given], [*state.values(), *drawn])
        self._sizes_at_reset.append((program, _layout(state)))

    def _build_observe(self) -> None:
        program = Program(self.device)
        state = self._state_arrays(program)
        obs = self._rows(program, self.num_obs)
        obs.fill_(UNWRITTEN)
        given = self.varying.arrays(program, self.num_envs, self.scalar)
        state.parameters = given[0] if given else None
        self.record_observed(program, state, obs)
        self._observe = program.function([*state.values(), *given], [obs])
        self._sizes_at_reset.append((program, {"num_obs": obs}))

    def _build_step(self) -> None:
        """Record admission, the step, its outcome, the reset and both observations."""
        n = self.num_envs
        p = Program(self.device, num_rows=n, num_blocks=self.num_blocks, remember=True)

        def flags(dtype: Any = wp.bool) -> wp.array:
            return p.array(n, dtype, requires_grad=False)

        width = sum(self.state_layout.values())
        state_in, state_out = self._rows(p, width), self._rows(p, width, shared=True)
        action_in, action = self._rows(p, self.num_actions), self._rows(p, self.num_actions)
        state, stepped = self._state_arrays(p), self._state_arrays(p)
        raw_obs = self._rows(p, self.num_obs)
        final_obs, obs = (self._rows(p, self.num_obs, shared=True) for _ in range(2))
        terms, reward = self._rows(p, len(self.reward_terms)), p.array(n, self.scalar, shared=True)
        diverged, done = flags(wp.int32), flags(wp.int32)
        own_terminated, terminated, truncated, ended = flags(), flags(), flags(), flags()
        memory = self._counters = self._make_memory(p)
        given = self.varying.arrays(p, n, self.scalar)
        drawn = [memory[name] for name in memory if name == DRAWS]
        in_force = self.varying.record_in_force(p, *given, *drawn)
        if in_force is not None:
            count = in_force.shape[1]
            state.parameters = stepped.parameters = self._rows(p, count)
            part = [in_force, 0, count, diverged]
            p.launch(episode.pass_rows, n, [*part, state.parameters, 0])

        p.launch(episode.flag_nonfinite_action, n, [action_in, diverged])
        p.launch(episode.admit_action, n, [action_in, diverged, action])
        for name, columns in self._columns.items():
            part = [state_in, columns.start, columns.stop - columns.start]
            self._pass_part(p, name, [*part, diverged, state[name], 0])
        self.record_step(p, state, action, stepped)
        self.record_observed(p, stepped, raw_obs)
        self.record_outcome(p, state, action, stepped, terms, own_terminated)
        for rows in (*stepped.values(), raw_obs, terms):
            p.launch(episode.flag_nonfinite, n, [rows, diverged])
        for name, bound in self.state_bounds.items():
            p.launch(episode.flag_beyond, n, [stepped[name], self.scalar(bound), diverged])
        p.launch(episode.sum_reward, n, [terms, memory["last_reward"], diverged, reward])
        verdict = [diverged, own_terminated, reward, self.max_episode_steps]
        verdict += [memory["step_count"], memory["last_reward"]]
        verdict += [terminated, truncated, ended, done]
        p.launch(episode.end_episode, n, verdict)
        p.launch(episode.pass_rows, n, [raw_obs, 0, self.num_obs, diverged, final_obs, 0])
        p.launch(episode.pass_rows, n, [raw_obs, 0, self.num_obs, done, obs, 0])
        for name, columns in self._columns.items():
            part = [stepped[name], 0, columns.stop - columns.start]
            self._pass_part(p, name, [*part, done, state_out, columns.start])
        with p.only_if_any(done):
            self._record_reset(p, memory, given, state, diverged, done, final_obs, obs, state_out)

        raw_obs.fill_(UNWRITTEN)
        terms.fill_(UNWRITTEN)
        self._sizes_at_step: Arrays | None = {
            "num_obs": raw_obs,
            "reward_terms": terms,
            **_layout(stepped),
        }
        self._program = p
        self._step = p.function(
            [state_in, action_in, *given],
            [obs, reward, final_obs, terminated, truncated, ended, terms, state_out],
        )

    def _pass_part(self, program: Program, name: str, rows: Sequence[Any]) -> None:
        """Append the copying of a part of the state, and of its gradient if it has one."""
        if name in self.state_integers:
            with program.without_gradient():
                program.launch(episode.pass_rows, self.num_envs, rows)
        else:
            program.launch(episode.pass_rows, self.num_envs, rows)

    def _make_memory(self, program: Program) -> dict[str, wp.array]:
        """What persists from step to step, in arrays that every step reads and writes in place."""
        n = self.num_envs
        kinds = {
            "seed": (1, wp.int32),
            "step_count": (n, wp.int32),
            "reset_count": (n, wp.int32),
            "last_reward": (n, self.scalar),
        }
        arrays = {
            name: program.array(length, dtype, requires_grad=False, shared=True)
            for name, (length, dtype) in kinds.items()
        }
        for drawn in self.varying.draw_arrays(program, n, self.scalar):
            arrays[DRAWS] = drawn
        self._memory = {
            name: wp.to_torch(array, requires_grad=False) for name, array in arrays.items()
        }
        return arrays

    def _record_reset(
        self,
        program: Program,
        memory: dict[str, wp.array],
        given: Sequence[wp.array],
        state: Arrays,
        diverged: wp.array,
        done: wp.array,
        final_obs: wp.array,
        obs: wp.array,
        state_out: wp.array,
    ) -> None:
        """Append what ended environments need in place of what they stepped to."""
        n = self.num_envs
        fresh = self._state_arrays(program, requires_grad=False, shared=True)
        fresh_obs, last_obs = (
            program.array(obs.shape, self.scalar, requires_grad=False, shared=True) for _ in "12"
        )
        counters = memory["seed"], memory["reset_count"], done
        drawn = self._record_draws(program, *counters)
        fresh.parameters = self.varying.record_in_force(program, *given, *drawn)
        self._record_start(program, *counters, fresh)
        for rows in drawn:
            program.launch(episode.replace_rows, n, [rows, done, memory[DRAWS], 0])
        self.record_observed(program, fresh, fresh_obs)
        program.launch(episode.replace_rows, n, [fresh_obs, done, obs, 0])
        for name, columns in self._columns.items():
            program.launch(episode.replace_rows, n, [fresh[name], done, state_out, columns.start])
        self.record_observed(program, state, last_obs)
        program.launch(episode.replace_rows, n, [last_obs, diverged, final_obs, 0])
        counts = [memory["step_count"], memory["reset_count"]]
        program.launch(episode.begin_episode, n, [done, *counts])

    def _record_start(
        self,
        program: Program,
        seed: wp.array,
        reset_count: wp.array,
        wanted: wp.array,
        state: Arrays,
    ) -> None:
        """Append a random initial state of every environment that is `wanted`."""
        rng = self._record_rng(program, seed, wanted, reset_count)
        with program.without_gradient():
            self.record_initial_state(program, rng, state)

    def _record_rng(
        self, program: Program, seed: wp.array, wanted: wp.array, reset_count: wp.array
    ) -> wp.array:
        """Append random-number states of the environments wanted, after so many resets."""
        rng = program.array(self.num_envs, wp.uint32, requires_grad=False, shared=True)
        inputs = [seed, self._number_array(program), reset_count, wanted, rng]
        program.launch(episode.start_random_numbers, self.num_envs, inputs)
        return rng

    def _record_draws(
        self, program: Program, seed: wp.array, reset_count: wp.array, wanted: wp.array
    ) -> list[wp.array]:
        """Append the draws of episodes that begin, one array or none."""
        record_rng = partial(self._record_rng, program, seed, wanted)
        return self.varying.record_draws(program, record_rng, reset_count, self.scalar)

    def _begin(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """State rows (num_envs, n) and draws of episodes that begin."""
        given = [rows.detach() for rows in self.varying.given()]
        started = self._start(self._memory["seed"], self._memory["reset_count"], *given)
        parts = started[: len(self.state_layout)]
        return torch.cat(parts, dim=1), [*started[len(parts) :], None][0]

    def _number_array(self, program: Program) -> wp.array:
        """The environments' numbers, which `number_from` may change."""
        index = program.array(self.num_envs, wp.int32, requires_grad=False, shared=True)
        self._numbers.append(index)
        self.number_from(0)
        return index

    def _state_arrays(
        self, program: Program, requires_grad: bool = True, shared: bool = False
    ) -> Arrays:
        arrays = Arrays(f"{type(self).__name__}: state")
        for name, n in self.state_layout.items():
            shape, real = (self.num_envs, n), name not in self.state_integers
            arrays[name] = program.array(shape, self.scalar, requires_grad and real, shared=shared)
        return arrays

    def _rows(self, program: Program, n: int, shared: bool = False) -> wp.array:
        return program.array((self.num_envs, n), self.scalar, shared=shared)

    def _check_actions(self, actions: torch.Tensor) -> None:
        expected = (self.num_envs, self.num_actions)
        check_tensor("actions", actions, expected, self.dtype, self._state.device)
        check_finite("actions", actions)


def _columns(layout: Mapping[str, int]) -> dict[str, slice]:
    """Where each part of the state lies in the rows that torch sees."""
    ends = np.cumsum(list(layout.values())).tolist()
    return {name: slice(end - n, end) for (name, n), end in zip(layout.items(), ends, strict=True)}


def _layout(state: Arrays) -> dict[str, wp.array]:
    return {f"state_layout[{name!r}]": array for name, array in state.items()}
