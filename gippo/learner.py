"""The learner: one window of experience, one update of actor and critic, per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from gippo.distributed import SINGLE, Ranks
from gippo.experience.advantages import (
    EntropyBonus,
    Values,
    action_gradients,
    evaluate,
    generalized_advantage,
    subtrajectory_steps,
)
from gippo.experience.critic import Critic, CriticConfig
from gippo.experience.ends import TerminalStates
from gippo.experience.rollout import Rollout, collect, count_privileged
from gippo.experience.statistics import EpisodeStatistics
from gippo.methods import method_of
from gippo.methods.base import check_discount, check_made, check_samples, own_horizon
from gippo.networks.adam import ParameterVector
from gippo.networks.batch_gradient import helper_thread
from gippo.networks.normalization import Normalizer, RunningStatistics, identity
from gippo.networks.perceptron import ActorConfig, GaussianActor, ValueNetwork
from gippo.schema import check_sections
from gippo.seeding import stream_seed
from gippo.updates.failures import Failures, NonFiniteError
from gippo.updates.window import (
    Context,
    Metrics,
    UpdateReport,
    Window,
    as_floats,
    check_report,
    nonfinite_update,
)
from warp_envs.checks import ArgumentError, check_flag, check_integer, check_number


@dataclass
class LearnerConfig:
    """What all methods share: the window, the networks, the normalisation."""

    horizon: int = 32
    """Steps per window, H, where the method has no length of its own."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Of generalised advantage estimation, also called tau. Not 0: Eq. 15 divides by its powers."""
    normalize_obs: bool = True
    """Shift and scale observations by their running statistics."""
    normalize_value: bool = False
    """Let the critic predict in units of the running statistics of its targets."""
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    parallel_updates: bool = True
    """On a CPU, fit the critic on a second thread while the actor is updated. Same numbers."""
    native: bool = True
    """On a CPU, take a rollout's policy, values, losses, Adam's steps, the critic's fit and a
    natural step's products in native passes where there are any, not in torch's operations, which
    do the same to rounding and take longer."""
    graphs: bool = True
    """On a GPU, capture the critic's fit, the alpha-policy's and PPO's ascent into CUDA graphs, one
    launch each in the place of hundreds; not where several processes train together."""
    staggered: bool = False
    """Let the copies' first episodes end at times spread evenly over the time limit, so that a
    window sees every part of an episode; those cut short so are in no return."""
    max_skipped_updates: int = 10
    """Updates in a row that may be skipped for a non-finite number before training is given up."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        check_integer("horizon", self.horizon, 1)
        check_number("gamma", self.gamma, 0.0, 1.0, open_low=True)
        check_number("gae_lambda", self.gae_lambda, 0.0, 1.0, open_low=True)
        check_flag("normalize_obs", self.normalize_obs)
        check_flag("normalize_value", self.normalize_value)
        check_flag("parallel_updates", self.parallel_updates)
        check_flag("native", self.native)
        check_flag("graphs", self.graphs)
        check_flag("staggered", self.staggered)
        check_integer("max_skipped_updates", self.max_skipped_updates, 0)


_INIT_STREAM, _ACT_STREAM = 1, 2


class Learner:
    """Trains a policy on a differentiable vector environment."""

    def __init__(
        self,
        env: Any,
        config: LearnerConfig,
        method_config: Any,
        *,
        num_epochs: int,
        seed: int,
        ranks: Ranks = SINGLE,
    ) -> None:
        """Make networks, method and normalisers, and reset the environment.

        Args:
            env: a differentiable vector environment (`warp_envs`).
            config: what all methods share.
            method_config: of the method wanted, such as PPOConfig or GIPPOConfig (`gippo.methods`).
            num_epochs: of the whole training: falling learning rates reach their end with it.
            seed: of initial weights, exploration and, through the environment's reset, its starts.
            ranks: the processes that train together, each with an `env` of as many copies.

        Raises:
            ValueError: a config of no method or with a part of another kind, `num_epochs` below 1,
                a seed out of range, or windows of fewer samples than the method needs or of more
                steps than its discounts have digits for.
        """
        if not isinstance(config, LearnerConfig):
            raise ArgumentError("config", repr(config), "an object of LearnerConfig")
        made = method_of(method_config)
        check_sections("config", config)
        check_sections("method_config", method_config)
        check_integer("num_epochs", num_epochs, 1)
        check_integer("seed", seed, 0, 2**31 - 1)
        self.env = env
        self.config = config
        self.num_epochs = num_epochs
        self._ranks = ranks
        self._num_envs = env.num_envs * ranks.size
        self.epoch = 0
        """Epochs done."""
        self.env_steps = 0
        """Environment steps done, over all environments."""
        self.stage_seconds: dict[str, float] = {}
        """Wall time of the last epoch's stages."""
        self._device = torch.device(env.device)
        self._dtype: torch.dtype = env.dtype
        (self._num_obs,) = env.single_observation_space.shape
        (self._num_actions,) = env.single_action_space.shape
        self._graphs = config.graphs and ranks.size == 1
        self._make_networks(seed)
        self._pool: ThreadPoolExecutor | None = None
        # Processes agree on the order of their messages, which two threads would not keep.
        if config.parallel_updates and self._device.type == "cpu" and ranks.size == 1:
            self._pool = helper_thread()
        context = Context(
            self.actor,
            self._parameters,
            num_epochs,
            config.gae_lambda,
            seed,
            max(1.0, env.max_episode_steps / config.horizon),
            helper=self._pool,
            ranks=ranks,
            graphs=self._graphs,
        )
        self.method = made(context, method_config)
        check_made(self.method)
        check_samples(self.method, env.num_envs, config.horizon)
        check_discount(
            self.method, config.gamma, config.horizon, env.max_episode_steps, self._dtype
        )
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._act_generator = torch.Generator(self._device).manual_seed(
            stream_seed(seed, _ACT_STREAM)
        )
        self._obs_statistics = RunningStatistics((self._num_obs,), self._device)
        self._episodes = EpisodeStatistics(self._num_envs)
        inputs = self._num_obs + count_privileged(env)
        self._ends = TerminalStates(inputs, self._dtype, self._device, seed=seed, ranks=ranks)
        self._last = math.nan, math.nan
        self._failures = Failures(config.max_skipped_updates)
        if ranks.size > 1:
            env.number_from(ranks.rank * env.num_envs)
        self._obs, _ = env.reset(seed=seed)
        if config.staggered:
            self._stagger()
        self._everywhere = self._env_state()

    def _stagger(self) -> None:
        """Have the copies begin at different steps of an episode."""
        steps = torch.arange(self._num_envs) * self.env.max_episode_steps // self._num_envs
        self._episodes.leave_out(steps > 0)
        own = steps[self._ranks.rank * self.env.num_envs :][: self.env.num_envs]
        self.env.set_state({"step_count": own.to(self._device, torch.int32)})

    def _make_networks(self, seed: int) -> None:
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(seed, _INIT_STREAM))
        self.actor = GaussianActor(
            self._num_obs,
            config.actor.hidden,
            self._num_actions,
            generator=generator,
            dtype=self._dtype,
            native=config.native,
            **config.actor.form,
        ).to(self._device)
        network = ValueNetwork(
            self._num_obs + count_privileged(self.env),
            config.critic.hidden,
            config.critic.init_gain,
            generator=generator,
            dtype=self._dtype,
            native=config.native,
            count=config.critic.count,
            **config.critic.form,
        ).to(self._device)
        self._parameters = ParameterVector(self.actor, native=config.native)
        self.critic = Critic(
            network,
            config.critic,
            normalize_value=config.normalize_value,
            num_epochs=self.num_epochs,
            native=config.native,
            graphs=self._graphs,
            ranks=self._ranks,
        )

    # Training -----------------------------------------------------------------------------------

    def train_epoch(self) -> dict[str, float]:
        """Collect one window and update actor and critic from it.

        Returns:
            Numbers by name: ``episode_return`` and ``episode_length`` (smoothed over about 100
            finished episodes), ``best_return`` (the highest smoothed return so far) - NaN before an
            episode has ended -, ``num_episodes``, ``num_diverged``, ``skipped_updates``,
            ``sigma_mean``, ``critic_loss``, ``critic_learning_rate``, ``actor_loss``,
            ``actor_learning_rate``, the method's own, ``horizon`` if the method chose the
            window's length, and ``reward/NAME``, the mean over the window of each term of the
            reward.

        Raises:
            NonFiniteError: more than `max_skipped_updates` updates in a row were skipped, the
                policy's actions are not finite in a state unlike those it was updated in, or every
                step of the window diverged.
        """
        started = time.perf_counter()
        normalizer = self._frozen_normalizer()
        horizon = own_horizon(self.method)
        bonus = self.method.entropy_bonus
        length = self.config.horizon if horizon is None else horizon
        rollout = self._collect(normalizer, length, with_entropy=bonus is not None)
        collected = time.perf_counter()
        value_function = self.critic.target_value(self.config.critic.actor_combine)
        values = evaluate(rollout, value_function, normalizer)
        reward = rollout.reward if bonus is None else bonus.added(rollout)
        advantage = self._advantage(reward, rollout, values, self.config.gae_lambda)
        target = self._critic_target(rollout, values, advantage, normalizer)
        fit_to = rollout.for_critic(rollout.obs), target
        share = self.config.critic.terminal_share
        if share > 0.0:
            self._ends.take(rollout)
            fit_to = self._ends.join(*fit_to, share, normalizer, self.epoch)
        critic = self._start_critic(*fit_to)
        try:
            window = self._window(reward, rollout, values, advantage, bonus)
            judged = time.perf_counter()
            report = self._update(window)
        finally:
            critic_metrics, critic_problem = critic.result()
        updated = time.perf_counter()

        if self.config.normalize_obs:
            self._obs_statistics.update(rollout.raw_obs.flatten(0, 1), self._ranks)
        self._episodes.update(rollout, self._ranks)
        sigma_mean = self._ranks.mean(torch.exp(rollout.log_sigma).mean())
        means = self._ranks.means(*rollout.reward_terms.values())
        terms = dict(zip((f"reward/{name}" for name in rollout.reward_terms), means, strict=True))
        told = {**report.metrics, **critic_metrics, "sigma_mean": sigma_mean, **terms}
        if self.method.looks_back:
            told.update(self._look_back(rollout, normalizer, reward, advantage + values.value))
        told["terminal_states"] = self._ends.count
        told["num_diverged"] = self._ranks.joined(rollout.diverged.sum().reshape(1)).sum()
        numbers = as_floats(told)
        self._ends.any = numbers.pop("terminal_states") > 0.0
        if self.method.looks_back:
            self._last = numbers.pop("last_advantage"), numbers.pop("last_residual")
        steps = rollout.reward.numel() * self._ranks.size
        self._failures.count_diverged(int(numbers.pop("num_diverged")), steps, self.epoch)
        self._failures.count_skipped([report.problem, critic_problem], window, self.epoch)
        if self._ranks.size > 1:
            self._everywhere = self._env_state()
        self.epoch += 1
        self.env_steps += steps
        metrics = self._episodes.metrics()
        metrics["num_diverged"] = float(self._failures.num_diverged)
        metrics["skipped_updates"] = float(self._failures.skipped)
        if horizon is not None:
            numbers["horizon"] = float(horizon)
        metrics.update(numbers)
        self.stage_seconds.update(
            rollout=collected - started,
            gradient=judged - collected,
            update=updated - judged,
            rest=time.perf_counter() - updated,
        )
        return metrics

    def _frozen_normalizer(self) -> Normalizer:
        """The observation normaliser of the coming window: of all windows before, not of itself.

        Were the statistics to move inside a window, one policy would act differently on the same
        state at two of its steps, and the update's recomputed log-probabilities would belong to
        neither. In the first window nothing is known and nothing is normalised.
        """
        if not self.config.normalize_obs:
            return identity(self._dtype, self._device)
        return self._obs_statistics.frozen(self._dtype)

    def _collect(self, normalizer: Normalizer, horizon: int, *, with_entropy: bool) -> Rollout:
        eps = self._noise(horizon)
        other = self._noise(horizon) if with_entropy else None
        record = self.method.gradient_lambda is not None
        env, obs = self.env, self._obs
        try:
            rollout = collect(
                env,
                obs,
                self.actor,
                normalizer,
                eps,
                record_gradient=record,
                entropy_noise=other,
            )
        except ArgumentError as error:
            if error.key != "actions":
                raise
            blame = f"; the update before, {type(self.method).__qualname__}'s, is the likely cause"
            text = f"epoch {self.epoch}: the policy's {error}{blame if self.epoch > 0 else ''}"
            raise NonFiniteError(text) from error
        self._obs = rollout.next_obs
        return rollout

    def _noise(self, horizon: int) -> torch.Tensor:
        """Standard normal, (H, N, num_actions): this process's part."""
        shape = (horizon, self._num_envs, self._num_actions)
        noise = torch.randn(
            shape, dtype=self._dtype, device=self._device, generator=self._generator
        )
        return self._ranks.share(noise, dim=1).contiguous()

    def _advantage(
        self, reward: torch.Tensor, rollout: Rollout, values: Values, gae_lambda: float
    ) -> torch.Tensor:
        done, terminated = rollout.done, rollout.terminated
        gamma = self.config.gamma
        return generalized_advantage(reward, values, terminated, done, gamma, gae_lambda)

    def _critic_target(
        self, rollout: Rollout, values: Values, advantage: torch.Tensor, normalizer: Normalizer
    ) -> torch.Tensor:
        """What the critic is fit to, advantage + value, (H, N): TD(lambda) returns.

        Where the critic's rewards and values are those of the actor, so are its advantages.
        """
        bonus = self.method.critic_bonus(rollout)
        if self.critic.has_two_values:
            value_function = self.critic.target_value(self.config.critic.combine)
            values = evaluate(rollout, value_function, normalizer, with_gradient=False)
        if self.critic.has_two_values or bonus is not None:
            reward = rollout.reward if bonus is None else bonus.added(rollout)
            advantage = self._advantage(reward, rollout, values, self.config.gae_lambda)
        return (advantage + values.value).to(self._dtype)

    def _start_critic(
        self, obs: torch.Tensor, target: torch.Tensor
    ) -> Future[tuple[Metrics, str | None]]:
        """Fit the critic on the second thread, if there is one, while the actor is updated.

        Neither depends on the other; values and their gradients have been taken.
        """
        epoch = self.epoch
        return _start(self._pool, lambda: self.critic.fit(obs, target, epoch))

    def _window(
        self,
        reward: torch.Tensor,
        rollout: Rollout,
        values: Values,
        advantage: torch.Tensor,
        bonus: EntropyBonus | None,
    ) -> Window:
        """The window with its objective and, if the method wants them, its action gradients."""
        config = self.config
        gradient_lambda = self.method.gradient_lambda
        gain = advantage
        if gradient_lambda not in (None, config.gae_lambda):
            gain = self._advantage(reward, rollout, values, gradient_lambda)
        first = (subtrajectory_steps(rollout.done) == 0).to(gain.dtype)
        total, count = self._ranks.means(((gain + values.value) * first).sum(), first.sum())
        gradients = None
        if gradient_lambda is not None:
            gradients = action_gradients(rollout, values, config.gamma, gradient_lambda, bonus)
            gradients.num_subtrajectories = count.to(self._dtype)
            rollout.forget_graph()
        return Window(rollout, advantage, gradients, total / count, *self._last)

    def _look_back(
        self, rollout: Rollout, normalizer: Normalizer, reward: torch.Tensor, target: torch.Tensor
    ) -> Metrics:
        """A window by the critic that has been fit to it, as the next one has it, 0-d each."""
        value_function = self.critic.target_value(self.config.critic.actor_combine)
        values = evaluate(rollout, value_function, normalizer, with_gradient=False)
        advantage = self._advantage(reward, rollout, values, self.config.gae_lambda)
        own = advantage.mean(), (target - values.value).mean()
        return dict(zip(("last_advantage", "last_residual"), self._ranks.means(*own), strict=True))

    def _update(self, window: Window) -> UpdateReport:
        """The method's update, undone if it has met a number that is not finite and not said so.

        Raises:
            TrainingFailedError: it returns no report.
        """
        method, vector = self.method, self._parameters.vector
        weights, state = vector.clone(), method.state_dict()
        returned = method.update(window, self.epoch)
        report = check_report(f"{type(method).__qualname__}.update", returned)
        problem = report.problem or nonfinite_update(report, self._parameters)
        if self._ranks.any(report.problem is None and problem is not None):
            vector.copy_(weights)
            method.load_state_dict(state)
        return UpdateReport(report.metrics, problem)

    # Acting -------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, obs: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Actions in [-1, 1], (n, num_actions), for observations (n, num_obs), not normalised.

        Training does not notice: noise comes from a generator of its own.
        """
        mu, log_sigma = self.actor.forward(self._frozen_normalizer().normalize(obs))
        if deterministic:
            return torch.tanh(mu)
        noise = torch.randn(
            mu.shape, dtype=mu.dtype, device=mu.device, generator=self._act_generator
        )
        return torch.tanh(mu + torch.exp(log_sigma) * noise)

    # State --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything a bit-for-bit continuation needs: tensors and plain Python types.

        ``torch.load(..., weights_only=True)`` reads it back.
        """
        return {
            "epoch": self.epoch,
            "env_steps": self.env_steps,
            **self._failures.state_dict(),
            "method_name": self.method.name,
            "method": self.method.state_dict(),
            "actor": self._parameters.state_dict(),
            "critic": self.critic.state_dict(),
            "obs_statistics": self._obs_statistics.state_dict(),
            "episodes": self._episodes.state_dict(),
            "ends": self._ends.state_dict(),
            "generator": self._generator.get_state(),
            "act_generator": self._act_generator.get_state(),
            **(
                {"last": torch.tensor(self._last, dtype=torch.float64)}
                if self.method.looks_back
                else {}
            ),
            **(self._env_state() if self._ranks.size == 1 else self._everywhere),
        }

    def _env_state(self) -> dict[str, Any]:
        """The state of the environments of all processes, which must all ask for it.

        It lies ready after every epoch, so that one process alone can write a checkpoint.
        """
        own = self.env.get_state()
        whole = {
            name: value if name == "seed" else self._ranks.joined(value)
            for name, value in own.items()
        }
        return {"env": whole, "obs": self._ranks.joined(self._obs).clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, made by a learner with the same configs and environment.

        Raises:
            ValueError: the state is of another method or of networks of other sizes.
        """
        if state["method_name"] != self.method.name:
            given = f"of method {state['method_name']!r}"
            raise ArgumentError("state", given, repr(self.method.name))
        self._parameters.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.method.load_state_dict(state["method"])
        self._obs_statistics.load_state_dict(state["obs_statistics"])
        self._episodes.load_state_dict(state["episodes"])
        if "ends" in state:  # older releases kept none
            self._ends.load_state_dict(state["ends"])
        self._generator.set_state(state["generator"].cpu())
        self._act_generator.set_state(state["act_generator"].cpu())
        whole = {name: value.to(self._device) for name, value in state["env"].items()}
        obs = state["obs"].to(self._device)
        self._everywhere = {"env": whole, "obs": obs}
        share = self._ranks.share
        self.env.set_state(
            {name: value if name == "seed" else share(value) for name, value in whole.items()}
        )
        self._obs = share(obs).clone()
        self.epoch = int(state["epoch"])
        self.env_steps = int(state["env_steps"])
        if self.method.looks_back:
            self._last = tuple(state["last"].tolist())
        self._failures.load_state_dict(state)


def _start(pool: ThreadPoolExecutor | None, work: Callable[[], Any]) -> Future[Any]:
    """Begin `work` on the pool, or do it at once without one."""
    if pool is not None:
        return pool.submit(work)
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
    return future
