"""How far into a window an environment's analytical gradients can be trusted.

The gradient looked at is that of the expected return of the first h steps,

    J_h = E[sum_{t<h} gamma^t r_t],    a_t = mu(s_t) + sigma(s_t) (eps_t + shift),

with respect to `shift` at zero, which moves all actions by so many standard deviations: num_actions
numbers, whatever the policy's size. Three estimates of it come from the same states and noise:

    analytical          sum_t dR/da_t sigma(s_t), from one backward pass for each h
    likelihood ratio    (R - R of other noise) sum_t eps_t, which needs no derivative
    finite difference   (R(shift = d) - R(shift = -d)) / 2d, which sees what derivatives miss

Each state is met with several draws of noise, so that the gradient's own variety over states,
which a policy answers to, is told apart from noise: the gradient's size is the root mean square
over states of its mean over noise, its variance that over noise at one state. The last two
estimates have no bias (but for d^2), so the analytical gradient's difference from the less noisy of
them, averaged over noise, is its bias. Returns end with the first episode of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gippo.experience.rollout import Rollout, collect
from gippo.networks.normalization import Normalizer
from gippo.networks.perceptron import GaussianActor
from warp_envs.checks import ArgumentError

REPEATS = 8
"""Draws of noise for each state."""
BIAS_LIMIT = 0.1
"""A bias is a fault from this part of the gradient on,"""
SIGNIFICANCE = 4.0
"""if its square is at least so many standard errors above zero."""
CLEAR_LIMIT = 0.5
"""Where no bias below this part of the gradient could have been seen, nothing is known of it."""
NOISE_LIMIT = 1.0
"""A batch's gradient is too noisy when its standard error exceeds its size by this factor."""


@dataclass(frozen=True)
class GradientQuality:
    """What is known of the gradient of the first `steps` steps' return."""

    steps: int
    size: float
    """Of the gradient, as the reference has it: root mean square over states."""
    variance: float
    """Of one window's analytical gradient at a state: trace of the covariance."""
    lr_variance: float
    """The same of the likelihood-ratio gradient."""
    bias: float
    """Of the analytical gradient: root mean square over states."""
    visible_bias: float
    """A smaller one could not have been told from chance."""
    reference: str
    """"finite difference" or "likelihood ratio"."""
    batch: int
    """Windows in a batch of training, for which `noise` is."""

    @property
    def noise(self) -> float:
        """Standard error of a batch's analytical gradient, as a part of the gradient's size."""
        return _part(math.sqrt(self.variance / self.batch), self.size)

    @property
    def lr_noise(self) -> float:
        """The same of the likelihood-ratio gradient."""
        return _part(math.sqrt(self.lr_variance / self.batch), self.size)

    @property
    def relative_bias(self) -> float:
        """Bias as a part of the gradient's size."""
        return _part(self.bias, self.size)

    @property
    def relative_visible_bias(self) -> float:
        """The smallest bias that could have been seen, as a part of the gradient's size."""
        return _part(self.visible_bias, self.size)

    @property
    def biased(self) -> bool:
        """A bias that is no chance and not small was found."""
        return self.bias > self.visible_bias and not self.relative_bias <= BIAS_LIMIT

    @property
    def noisy(self) -> bool:
        """A batch does not tell the gradient's direction."""
        return not self.noise <= NOISE_LIMIT

    @property
    def clear(self) -> bool:
        """A bias would have been seen."""
        return self.relative_visible_bias <= CLEAR_LIMIT

    @property
    def faulty(self) -> bool:
        """Biased or noisy."""
        return self.biased or self.noisy


def _part(value: float, size: float) -> float:
    return value / size if size > 0.0 else (0.0 if value == 0.0 else math.inf)


def gradient_quality(
    env: Any,
    obs: torch.Tensor,
    actor: GaussianActor,
    normalizer: Normalizer,
    *,
    horizons: Sequence[int],
    gamma: float,
    batch: int,
    difference: float = 0.02,
    seed: int = 0,
) -> list[GradientQuality]:
    """Compare the analytical gradient with the unbiased estimates for windows of several lengths.

    Args:
        env: differentiable, with `get_state` and `set_state`; it is left where its windows end.
            Every eighth copy's state is looked at, with eight draws of noise.
        obs: where it stands, (num_envs, num_obs).
        actor: the policy that acts.
        normalizer: of its observations.
        horizons: numbers of steps, rising.
        gamma: discount.
        batch: windows whose mean gradient training would follow.
        difference: d, in standard deviations of the policy.
        seed: of the noise.

    Returns:
        One entry per horizon.

    Raises:
        ValueError: the number of copies is no multiple of eight, or below sixteen.
    """
    if len(obs) % REPEATS or len(obs) < 2 * REPEATS:
        raise ArgumentError("num_envs", str(len(obs)), f"a multiple of {REPEATS} from 16 on")
    generator = torch.Generator(obs.device).manual_seed(seed)
    (num_actions,) = env.single_action_space.shape
    shape = (max(horizons), len(obs), num_actions)
    eps = torch.randn(shape, dtype=obs.dtype, device=obs.device, generator=generator)
    start, obs = _repeated(env.get_state(), obs)

    def roll(noise: torch.Tensor, record: bool) -> Rollout:
        env.set_state({name: value.clone() for name, value in start.items()})
        return collect(env, obs, actor, normalizer, noise, record_gradient=record)

    rollout = roll(eps, record=True)
    analytical = {h: _analytical(rollout, h, gamma) for h in horizons}
    rollout.forget_graph()
    differences = _differences(roll, eps, horizons, gamma, difference)
    returns = _returns(rollout, gamma).unflatten(1, (-1, REPEATS))
    score = (eps.double() * _alive(rollout).unsqueeze(-1)).cumsum(0)
    result = []
    for h in horizons:
        own = returns[h - 1]
        others = (own.sum(1, keepdim=True) - own) / (REPEATS - 1)
        ratio = (own - others).flatten().unsqueeze(-1) * score[h - 1]
        samples = [x.unflatten(0, (-1, REPEATS)) for x in (analytical[h], ratio, differences[h])]
        result.append(_quality(h, batch, *samples))
    return result


def _repeated(
    state: dict[str, torch.Tensor], obs: torch.Tensor
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The state with every eighth copy's in place of its seven followers' as well."""
    index = torch.arange(len(obs), device=obs.device) // REPEATS * REPEATS
    per_copy = {name for name, x in state.items() if x.dim() > 0 and len(x) == len(obs)}
    start = {name: x[index.to(x.device)] if name in per_copy else x for name, x in state.items()}
    return start, obs[index]


def _quality(
    steps: int,
    batch: int,
    analytical: torch.Tensor,
    ratio: torch.Tensor,
    difference: torch.Tensor,
) -> GradientQuality:
    """From samples (states, repeats, num_actions) of the three estimates."""
    candidates = {"finite difference": difference, "likelihood ratio": ratio}
    noise = {name: _variance(analytical - samples) for name, samples in candidates.items()}
    reference = min(noise, key=lambda name: noise[name])
    power, _ = _mean_power(candidates[reference])
    bias, bias_error = _mean_power(analytical - candidates[reference])
    return GradientQuality(
        steps=steps,
        size=math.sqrt(max(power, 0.0)),
        variance=_variance(analytical),
        lr_variance=_variance(ratio),
        bias=math.sqrt(max(bias, 0.0)),
        visible_bias=math.sqrt(SIGNIFICANCE * bias_error),
        reference=reference,
        batch=batch,
    )


def _variance(samples: torch.Tensor) -> float:
    """Over repeats, averaged over states, summed over components."""
    return float(samples.var(1).sum(-1).mean())


def _mean_power(samples: torch.Tensor) -> tuple[float, float]:
    """|E over noise|^2, averaged over states, and its standard error.

    Products of different repeats only, which noise leaves unbiased; so it may come out negative.
    """
    repeats = samples.shape[1]
    total, single = samples.sum(1), (samples * samples).sum((1, 2))
    power = ((total * total).sum(-1) - single) / (repeats * (repeats - 1))
    return float(power.mean()), float(power.std()) / math.sqrt(len(power))


def _alive(rollout: Rollout) -> torch.Tensor:
    """1 at steps of a window's first episode, its last one included, else 0: (H, N), float64."""
    ended = rollout.done.double().cumsum(0)
    return (ended - rollout.done.double() == 0.0).double()


def _returns(rollout: Rollout, gamma: float) -> torch.Tensor:
    """Discounted returns of the first 1, 2, ... steps, (H, N), float64."""
    return (_weights(rollout, gamma) * rollout.reward.double()).cumsum(0)


def _weights(rollout: Rollout, gamma: float) -> torch.Tensor:
    time = torch.arange(len(rollout.reward), device=rollout.reward.device)
    return gamma ** time.double().unsqueeze(1) * _alive(rollout)


def _analytical(rollout: Rollout, steps: int, gamma: float) -> torch.Tensor:
    """The gradient of each window's return, (N, num_actions)."""
    weights = _weights(rollout, gamma)[:steps].to(rollout.reward.dtype)
    gradients = torch.autograd.grad(
        outputs=rollout.reward_steps[:steps],
        inputs=rollout.action_steps[:steps],
        grad_outputs=list(weights.unbind(0)),
        retain_graph=True,
    )
    sigma = torch.exp(rollout.log_sigma[:steps])
    return (torch.stack(gradients) * sigma).double().sum(0)


def _differences(
    roll: Any, eps: torch.Tensor, horizons: Sequence[int], gamma: float, width: float
) -> dict[int, torch.Tensor]:
    """Central differences of each window's return, (N, num_actions) per horizon."""
    columns: dict[int, list[torch.Tensor]] = {h: [] for h in horizons}
    for k in range(eps.shape[-1]):
        sides = []
        for sign in (1.0, -1.0):
            shifted = eps.clone()
            shifted[..., k] += sign * width
            sides.append(_returns(roll(shifted, record=False), gamma))
        for h in horizons:
            columns[h].append((sides[0][h - 1] - sides[1][h - 1]) / (2.0 * width))
    return {h: torch.stack(values, dim=-1) for h, values in columns.items()}


def trusted_steps(qualities: Sequence[GradientQuality]) -> int:
    """The longest window that is clear and without fault, as all shorter ones are; 0: none."""
    longest = 0
    for quality in qualities:
        if quality.faulty:
            break
        if quality.clear:
            longest = quality.steps
    return longest


def noise_growth(qualities: Sequence[GradientQuality]) -> float | None:
    """Factor by which the noise grows with each further step, over the longer half of the windows.

    Sums of independent terms grow like a power of the steps, ever more slowly; in a chaotic system
    the factor stays above one. None for too few windows.
    """
    known = [q for q in qualities if 0.0 < q.noise < math.inf]
    upper = known[len(known) // 2 :]
    if len(upper) < 2:
        return None
    first, last = upper[0], upper[-1]
    return (last.noise / first.noise) ** (1.0 / (last.steps - first.steps))


def verdict(qualities: Sequence[GradientQuality], horizon: int) -> list[str]:
    """Plain sentences: for how long a window the gradients can be trusted, and why no longer."""
    trusted = trusted_steps(qualities)
    stop = next((q for q in qualities if q.faulty), None)
    unclear = next((q for q in qualities if q.steps > trusted and not q.clear), None)
    lines = [_headline(trusted, qualities, stop)]
    if stop is not None and stop.biased:
        lines.append(
            f"At {_steps(stop.steps)} they are biased: off by {stop.relative_bias:.0%} of the "
            f"gradient, by the {stop.reference}. Something that the derivative does not see moves "
            "the return: a jump in reward or dynamics, a threshold, a discrete choice."
        )
    if stop is not None and stop.noisy:
        lines.append(
            f"At {_steps(stop.steps)} they are too noisy: the mean of {stop.batch} windows has an "
            f"error of {stop.noise:.3g} times the gradient (likelihood ratio: {stop.lr_noise:.3g})."
        )
    if stop is None and unclear is not None:
        lines.append(
            f"At {_steps(unclear.steps)} a bias of up to {unclear.relative_visible_bias:.0%} of "
            "the gradient could go unseen among so few windows: a larger num_windows tells."
        )
    worse = next((q for q in qualities if q.variance > q.lr_variance), None)
    if worse is not None:
        lines.append(
            f"At {_steps(worse.steps)} the likelihood ratio, which needs no derivative, is less "
            "noisy."
        )
    if stop is not None and trusted < horizon:
        lines.append(
            f"Training uses windows of {_steps(horizon)}: shorten learner.horizon, or leave it to "
            "GI-PPO's alpha to hold the gradients back."
        )
    return lines


def _headline(
    trusted: int, qualities: Sequence[GradientQuality], stop: GradientQuality | None
) -> str:
    if trusted == qualities[-1].steps:
        return f"Trust these gradients over all {_steps(trusted)} that were looked at."
    if trusted:
        return f"Trust these gradients over windows of up to {_steps(trusted)}."
    if stop is None:
        return "Too few windows to tell whether these gradients can be trusted."
    if stop is qualities[0]:
        return "Do not trust these gradients, however short the window."
    return (
        f"Do not trust these gradients over {_steps(stop.steps)}; of shorter windows too little is "
        "known."
    )


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
