"""Hyperparameters of the learner, as dataclasses that check themselves.

They hold plain types only, so that OmegaConf takes them as structured configs; it makes a *frozen*
dataclass read-only, overrides included, which is why they are not frozen. Nobody changes one after
its construction. Defaults are the paper's for physics (section 7.4.2) where all its environments
agree, and Cartpole's where they do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

LARGEST = 1e30
"""Of any number: with room below single precision's limit, where torch refuses it."""


def _refuse(key: str, value: Any, accepted: str) -> None:
    raise ValueError(f"{key}: {value!r} given, {accepted} accepted")


def _check_integer(key: str, value: Any, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        _refuse(key, value, f"an integer of at least {low}")


def _check_number(
    key: str,
    value: Any,
    low: float = 0.0,
    high: float = LARGEST,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (low < value if open_low else low <= value)
    good = good and (value < high if open_high else value <= high)
    if not good:
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        _refuse(key, value, f"a number in {interval}")


def _check_positive(key: str, value: Any) -> None:
    _check_number(key, value, 0.0, open_low=True)


def _check_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _refuse(key, value, f"one of {list(choices)}")


def _check_flag(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        _refuse(key, value, "true or false")


def _check_betas(key: str, value: Any) -> None:
    if len(value) != 2:
        _refuse(key, value, "two numbers in [0, 1)")
    for beta in value:
        _check_number(key, beta, 0.0, 1.0, open_high=True)


def _check_hidden(key: str, value: Any) -> None:
    if len(value) == 0:
        _refuse(key, value, "a list of at least one layer size")
    for size in value:
        _check_integer(key, size, 1)


@dataclass
class NetworkConfig:
    """An MLP's hidden layers, each Linear -> ELU -> LayerNorm."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    """Sizes of the hidden layers."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_hidden("hidden", self.hidden)


@dataclass
class CriticConfig:
    """The critic's network and its fit, once per epoch."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    """Sizes of the hidden layers."""
    learning_rate: float = 1e-3
    """At the start; it falls linearly to `final_learning_rate` over training."""
    final_learning_rate: float = 1e-5
    iterations: int = 16
    """Passes over the window."""
    num_minibatches: int = 4
    """Per pass, contiguous in time, in order."""
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float = 1.0
    target_rate: float = 0.8
    """Share of the critic in the new target critic; the rest is the old target."""
    init_gain: float = math.sqrt(2.0)
    """Of the orthogonal initialisation of every layer."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_hidden("critic.hidden", self.hidden)
        _check_positive("critic.learning_rate", self.learning_rate)
        _check_positive("critic.final_learning_rate", self.final_learning_rate)
        _check_integer("critic.iterations", self.iterations, 1)
        _check_integer("critic.num_minibatches", self.num_minibatches, 1)
        _check_betas("critic.betas", self.betas)
        _check_positive("critic.max_grad_norm", self.max_grad_norm)
        _check_number("critic.target_rate", self.target_rate, 0.0, 1.0, open_low=True)
        _check_positive("critic.init_gain", self.init_gain)


@dataclass
class LearnerConfig:
    """What all methods share: the window, the networks, the normalisation."""

    horizon: int = 32
    """Steps per window, H."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """Of generalised advantage estimation, also called tau. Not 0: Eq. 15 divides by its powers."""
    normalize_obs: bool = True
    """Shift and scale observations by their running statistics."""
    normalize_value: bool = False
    """Let the critic predict in units of the running statistics of its targets."""
    actor: NetworkConfig = field(default_factory=NetworkConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    parallel_updates: bool = True
    """On a CPU, fit the critic on a second thread while the actor is updated. Same numbers."""
    max_skipped_updates: int = 10
    """Updates in a row that may be skipped for a non-finite number before training is given up."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_integer("horizon", self.horizon, 1)
        _check_number("gamma", self.gamma, 0.0, 1.0, open_low=True)
        _check_number("gae_lambda", self.gae_lambda, 0.0, 1.0, open_low=True)
        _check_flag("normalize_obs", self.normalize_obs)
        _check_flag("normalize_value", self.normalize_value)
        _check_flag("parallel_updates", self.parallel_updates)
        _check_integer("max_skipped_updates", self.max_skipped_updates, 0)


@dataclass
class GradientStepConfig:
    """One Adam step per epoch along an estimate of the policy gradient."""

    learning_rate: float = 1e-4
    """At the start."""
    schedule: str = "linear"
    """"linear": falls to `final_learning_rate` over training; "constant"."""
    final_learning_rate: float = 1e-5
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_positive("learning_rate", self.learning_rate)
        _check_choice("schedule", self.schedule, ("linear", "constant"))
        _check_positive("final_learning_rate", self.final_learning_rate)
        _check_betas("betas", self.betas)
        _check_positive("max_grad_norm", self.max_grad_norm)


@dataclass
class LRConfig(GradientStepConfig):
    """LR, the likelihood-ratio gradient with generalised advantages."""


@dataclass
class RPConfig(GradientStepConfig):
    """RP, the reparameterised gradient through a truncated window (SHAC)."""

    learning_rate: float = 1e-2
    gae_lambda: float = 0.95
    """Of the objective alone: 0.95 in the paper, 1 in SHAC."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        super().__post_init__()
        _check_number("gae_lambda", self.gae_lambda, 0.0, 1.0, open_low=True)


@dataclass
class LRRPConfig(GradientStepConfig):
    """LR+RP, both estimates of one gradient, each weighted by the other's variance."""

    variance_samples: int | None = 16
    """Trajectories whose gradients tell the variances; null: all."""
    variance_entries: int | None = 512
    """The gradient's first entries, over which variances are summed; null: all."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        super().__post_init__()
        if self.variance_samples is not None:
            _check_integer("variance_samples", self.variance_samples, 2)
        if self.variance_entries is not None:
            _check_integer("variance_entries", self.variance_entries, 1)


@dataclass
class RetryConfig:
    """What follows when an update has raised its loss: back, and again at a lower rate."""

    retries: int = 8
    """Further attempts at most."""
    factor: float = 1.5
    """The first retry takes the rate divided by this."""
    compounding: bool = True
    """Divide again for each further retry."""
    rise: int | None = None
    """Start the next epoch so many factors above the rate that has succeeded, one more if it did at
    once, but never above the base rate: 0 tries a higher rate every second epoch, 1 every epoch.
    null: at the base rate, as the authors' runs do."""
    lowest: float = 0.0
    """Share of the base rate below which no attempt goes: an update that fails there is left out of
    its epoch. With `rise`, where rates otherwise may fall until a step is lost in rounding."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_integer("retry.retries", self.retries, 0)
        _check_number("retry.factor", self.factor, 1.0, open_low=True)
        _check_flag("retry.compounding", self.compounding)
        if self.rise is not None:
            _check_integer("retry.rise", self.rise, 0)
        _check_number("retry.lowest", self.lowest, 0.0, 1.0)


@dataclass
class PPOConfig:
    """The clipped surrogate's ascent: PPO, and the third step of GI-PPO."""

    learning_rate: float = 3e-4
    schedule: str = "constant"
    """"constant"; "linear": falls to `final_learning_rate` over training; "adaptive": keeps the
    divergence between successive policies near `kl_target`."""
    final_learning_rate: float = 1e-5
    kl_target: float = 0.008
    """The adaptive rate's target, in nats."""
    min_learning_rate: float = 1e-6
    """The adaptive rate's lower bound."""
    max_learning_rate: float = 1e-2
    """The adaptive rate's upper bound."""
    num_epochs: int = 5
    """Passes over the window."""
    minibatch_size: int = 2048
    """Samples, at most; a window of less is one minibatch."""
    clip: float = 0.2
    """Half-width of the interval that the probability ratio may use."""
    log_ratio_limit: float = 4.0
    """GI-PPO: a minibatch with a sample whose log-probabilities under the old and the alpha policy
    differ by more than this takes its ratios against the alpha policy alone."""
    log_ratio_clamp: float = 16.0
    """Bound on the logarithm of a probability ratio."""
    kl_limit: float | None = None
    """An ascent whose end diverges further than this from its start, mean KL in nats, is undone and
    retried as if its loss had risen; null: however far."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Adam's."""
    max_grad_norm: float | None = 1.0
    """Null: the gradient is taken as it is. Where the advantage is negative, a ratio may reach
    e^16: one such gradient, unbounded, fills Adam's second moment, and the policy then stands still
    for hundreds of epochs."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """When the loss has risen from the first pass to the last."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_positive("ppo.learning_rate", self.learning_rate)
        _check_choice("ppo.schedule", self.schedule, ("constant", "linear", "adaptive"))
        _check_positive("ppo.final_learning_rate", self.final_learning_rate)
        _check_positive("ppo.kl_target", self.kl_target)
        _check_positive("ppo.min_learning_rate", self.min_learning_rate)
        _check_number("ppo.max_learning_rate", self.max_learning_rate, self.min_learning_rate)
        _check_integer("ppo.num_epochs", self.num_epochs, 1)
        _check_integer("ppo.minibatch_size", self.minibatch_size, 1)
        _check_number("ppo.clip", self.clip, 0.0, 1.0, open_low=True, open_high=True)
        _check_number("ppo.log_ratio_limit", self.log_ratio_limit)
        # exp(88) and more is infinite in single precision
        _check_number("ppo.log_ratio_clamp", self.log_ratio_clamp, 0.0, 80.0, open_low=True)
        if self.kl_limit is not None:
            _check_positive("ppo.kl_limit", self.kl_limit)
        _check_betas("ppo.betas", self.betas)
        if self.max_grad_norm is not None:
            _check_positive("ppo.max_grad_norm", self.max_grad_norm)


@dataclass
class AlphaConfig:
    """The alpha-policy's fit and the control of alpha (paper, Algorithm 1)."""

    learning_rate: float = 1e-2
    min_learning_rate: float = 1e-5
    """Floor of the base rate, which falls by `retry.factor` when every attempt has failed."""
    iterations: int = 16
    """Full-batch Adam steps per attempt."""
    betas: list[float] = field(default_factory=lambda: [0.7, 0.95])
    """Adam's."""
    max_grad_norm: float = 1.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    """When the fit's loss has risen."""
    alpha_0: float = 0.5
    """The first alpha."""
    max_alpha: float = 1.0
    beta: float = 1.02
    """Factor by which alpha rises or falls, once per epoch."""
    delta_det: float = 0.4
    """The determinant of Lemma 4.4 may differ from 1 by this much."""
    delta_oorr: float = 0.75
    """Share of samples whose probability ratio may lie outside PPO's clip interval (Eq. 12)."""
    bias_test: str = "normalized"
    """"strict": the surrogate must not fall (paper); "normalized": its change, shifted and scaled
    by its running statistics, must not fall below -1 (the authors' runs)."""

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_positive("alpha.learning_rate", self.learning_rate)
        _check_positive("alpha.min_learning_rate", self.min_learning_rate)
        _check_integer("alpha.iterations", self.iterations, 1)
        _check_betas("alpha.betas", self.betas)
        _check_positive("alpha.max_grad_norm", self.max_grad_norm)
        _check_positive("alpha.max_alpha", self.max_alpha)
        _check_number("alpha.alpha_0", self.alpha_0, 0.0, self.max_alpha, open_low=True)
        _check_number("alpha.beta", self.beta, 1.0, open_low=True)
        _check_number("alpha.delta_det", self.delta_det, 0.0, 1.0, open_low=True)
        _check_number("alpha.delta_oorr", self.delta_oorr, 0.0, 1.0)
        _check_choice("alpha.bias_test", self.bias_test, ("strict", "normalized"))


@dataclass
class GIPPOConfig:
    """GI-PPO: the alpha-policy step, then PPO against the mean of old and alpha policy."""

    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)


@dataclass
class PEConfig:
    """PE, policy enhancement: PPO on a batch grown by samples extrapolated along gradients."""

    num_extrapolated: int = 1
    """New samples for each one of the window."""
    correlation: float = 0.9
    """Of a new sample's noise with the one it is extrapolated from: nearer 1, nearer to it."""
    ppo: PPOConfig = field(default_factory=PPOConfig)

    def __post_init__(self) -> None:
        """Raise ValueError naming a key out of range."""
        _check_integer("num_extrapolated", self.num_extrapolated, 1)
        _check_number("correlation", self.correlation, 0.0, 1.0, open_high=True)
