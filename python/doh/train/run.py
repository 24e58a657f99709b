"""The state of one training, and one step of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np
import torch
from torch import Tensor

from doh.config import Config
from doh.container import pack_unsealed
from doh.errors import EncodeError, warn
from doh.model import QuantModel
from doh.signal import Signal
from doh.train.ademamix import AdEMAMix, mixing, steady_rate
from doh.train.compiled import CompiledStep
from doh.train.engine import device_of, steps_for
from doh.train.gradient import BatchGradient, Workers, backpropagate, stored_samples
from doh.train.importance import ErrorSampler, squared_errors
from doh.train.plan import bits_of, learning_rate, plan
from doh.train.projection import KINDS, Projection, Shapes, TiedProjection, initial_latents
from doh.train.quantise import Quantiser, Steps
from doh.train.result import finished
from doh.train.sampling import sampler_of
from doh.train.siren import Encoding, initial_gains
from doh.train.steering import SETTLE_STEERINGS, STEERINGS, steer
from doh.train.trellis import Settling, portion

#: Every so many steps the course is judged. A training has diverged where its loss is so many times the smallest that it had *and* its latents are so many
#: times as large as at first (where latents settle: or as when they began to). It begins anew with its learning rates times this factor, at most so often.
JUDGED_EVERY, FALLEN_BACK, WILD_LATENTS, SLOWER, RESTARTS = 100, 1.4, 2.0, 0.5, 4


class Diverged(EncodeError):
    """Training went out of bounds. It may begin anew with smaller learning rates (Run.restart)."""


def new_projection(generator: str, seed: int, n: int, shapes: Shapes, device: torch.device) -> Projection:
    """The projection of this kind on a device; it does not change in training, so that several runs may share one."""
    return KINDS[generator](seed, n, shapes).to(device)


@dataclass(frozen=True)
class Start:
    """Where a training begins, if not at the seed's latents. The biases are those inside sin(omega (W x + b))."""

    latents: Tensor  # (n,), at unit scale
    biases: Tensor  # (depth, width)
    output_bias: Tensor  # (channels,)


class Run:
    """Everything that a checkpoint holds, and what follows from signal and settings. Raises EncodeError for what cannot be encoded.

    axes: the coordinates of the signal's points, float64 in [-1, 1) for each dimension, where they are not those of a grid of its own (doh.train.mosaic).
    """

    def __init__(
        self,
        signal: Signal,
        config: Config,
        projection: Callable[..., Projection] = new_projection,
        start: Start | None = None,
        axes: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.signal, self.config = signal, config
        self.device = device_of(config.device)
        self.plan = plan(signal, config)
        target, n = self.plan.target, self.plan.latents
        self.bits = bits_of(signal, config)
        self.points = int(np.prod(signal.shape, dtype=np.int64))
        self.batch = min(config.batch, self.points)
        self.pass_steps = ceil(self.points / self.batch)
        self.steps = config.epochs * self.pass_steps or config.steps
        self.finish = config.finish  # share of the training in which numbers are rounded
        self.finish_from = self.steps - int(self.steps * self.finish)
        self.steerings = SETTLE_STEERINGS if config.rounding == "trellis" else STEERINGS  # with a budget; about
        self.share: float | None = None  # of a training that ends by the clock: how much is over
        self.elapsed = 0.0  # seconds spent on it, up to the last checkpoint

        omegas = self.plan.omegas
        self.omegas = torch.tensor(omegas, device=self.device)[:, None]
        kind = "tied" if config.generator == "plain" else config.generator
        self.projection = projection(kind, config.seed, n, target.layer_shapes, self.device)
        self._unrounded()
        self.l1 = config.l1 / self.projection.spread([*omegas, 1.0]).to(self.device) if config.l1 else None  # (D,), for weights in radians
        self.encoding = Encoding(axes or signal.shape, target.frequencies, target.ladder, self.device)
        self.samples, low, top = stored_samples(signal, self.device)
        self.gradient = BatchGradient(target, self.encoding, self.samples, low, top, self.batch, steps_for(config.engine, self.device, target))

        self.start, self.restarts, self.name = start, 0, ""
        self.latents, self.biases, self.output_bias = self._beginning(start)
        self.known_size, self.best_loss = self.latents_size(), inf
        per_latent = n if config.latent_scale == "paper" else 1
        groups = [
            {"params": [self.latents], "eps": config.adam_eps / per_latent},
            {"params": [self.biases, self.output_bias], "eps": config.adam_eps},
        ]
        self.optimiser = AdEMAMix(groups)
        self.first_rates = [self.plan.lr_latents * per_latent, config.lr_biases]
        self.generator = torch.Generator().manual_seed(config.seed % (1 << 63))
        self.sampler = sampler_of(signal, config.sampling, self.generator, self.batch < self.points)
        self.every: Tensor | None = None  # all points, where a batch is that
        self.order = torch.empty(0, dtype=torch.int64)  # what is left of the present pass when sampling without replacement
        self.compiled = CompiledStep(self) if CompiledStep.fits(self) else None
        self.loss = torch.zeros((), device=self.device)  # of recent batches
        self.step = 0
        self.whole = True  # False while a step is under way

    def _unrounded(self) -> None:
        """What belongs to the scale and the rounding of weights, as it is at the beginning."""
        config, target = self.config, self.plan.target
        self.gains = initial_gains(target, self.plan.omega, config.gains)
        self.quantiser = self._quantiser(self.gains)
        self.gain = self.projection.spread(self.quantiser.radians).to(self.device)
        #: What a latent of unit scale is worth among the trained ones, (n,); None: they are the same.
        self.worth = self._of_weights(self.gains) if config.latent_scale == "weights" else None
        self.settled = False  # whether each layer has a gain of its own that comes from its weights (settle_layers)
        self.quantisation: Steps | None = None
        self.settling: Settling | None = None  # with rounding = trellis, while `quantisation` is set
        self.fitting: list[Tensor] | None = None  # latents, biases and output bias whose file meets the budget at that quantisation (doh.train.steering)

    def _quantiser(self, gains: Sequence[float], per_layer: bool = False) -> Quantiser:
        on_trellis = self.config.rounding == "trellis"
        return Quantiser(self.plan.target, self.projection, gains, self.plan.omegas, self.config.bias_step, per_layer, on_trellis)

    def _beginning(self, start: Start | None) -> tuple[Tensor, Tensor, Tensor]:
        """What is trained, before the first step. Raises EncodeError for a start that belongs to something else."""
        target, n, seed = self.plan.target, self.plan.latents, self.config.seed
        if start is None:
            biases = torch.zeros(target.depth, target.width)
            if self.config.initial_biases == "uniform":
                biases.uniform_(-1, 1, generator=torch.Generator().manual_seed(seed % (1 << 63))).mul_(torch.tensor(self.gains[:-1])[:, None])
            start = Start(initial_latents(seed, n), biases, torch.full((target.channels,), 0.5))
        shapes = {"latents": (n,), "biases": (target.depth, target.width), "output_bias": (target.channels,)}
        for name, shape in shapes.items():
            tensor = getattr(start, name)
            if tensor.shape != shape or not torch.isfinite(tensor).all():
                raise EncodeError(f"a training begins at {name} of the shape {shape}, all finite; these, {tuple(tensor.shape)}, belong to something else")
        latents, biases, output_bias = (t.detach().to(self.device, torch.float32, copy=True) for t in (start.latents, start.biases, start.output_bias))
        if self.worth is not None:
            latents = latents * self.worth
        return latents.requires_grad_(), biases.requires_grad_(), output_bias.requires_grad_()

    def _of_weights(self, gains: Sequence[float]) -> Tensor:
        """(n,): for each latent of a plain network the gain of its weight's layer."""
        assert isinstance(self.projection, TiedProjection)
        worth = torch.empty(self.plan.latents, device=self.device)
        worth[self.projection.index] = self.projection.spread(gains).to(self.device)
        return worth

    @property
    def unit_latents(self) -> Tensor:
        """The latents at unit scale (n,), which the projection and the file take."""
        return self.latents if self.worth is None else self.latents / self.worth

    @property
    def weights(self) -> list[Tensor]:
        """The network's weights, one tensor (fan_out, fan_in) for each layer, those inside sin(omega (W x + b)): unrounded, without gradient."""
        with torch.no_grad():
            flat = self.projection.flat(self.unit_latents) * self.projection.spread(self.gains).to(self.device)
        return self.projection.split(flat)

    # its course

    @property
    def runs(self) -> list[Run]:
        """The networks in training: one, of which this is the run."""
        return [self]

    @property
    def budget(self) -> int:
        """Bytes of the file; 0 = no budget."""
        return self.plan.budget

    @property
    def rounding(self) -> bool:
        """Whether it is in the finish, in which numbers are rounded."""
        return self.quantisation is not None

    @property
    def finish_over(self) -> float:
        """How much of the finish is over, 0 to 1: of its steps or, of a training that ends by the clock, of its time."""
        if self.share is None:
            return (self.step - self.finish_from) / (self.steps - self.finish_from)
        return max(0.0, 1 - (1 - self.share) / self.finish)

    @property
    def base_rates(self) -> list[float]:
        """The learning rates of latents and of biases, before the schedule's factor."""
        return [rate * SLOWER**self.restarts for rate in self.first_rates]

    def latents_size(self) -> float:
        """Root mean square of the latents at unit scale."""
        return self.unit_latents.detach().square().mean().sqrt().item()

    def judge(self) -> None:
        """Raises Diverged where the loss has grown and the latents are wild: gradients are noise there, and training does not come back."""
        loss = self.loss.item()
        worse, self.best_loss = loss > FALLEN_BACK * self.best_loss, min(loss, self.best_loss)
        if not isfinite(loss) or (worse and not self.latents_size() <= WILD_LATENTS * self.known_size):
            raise Diverged(f"training went out of bounds before step {self.step}: use a smaller lr_latents or lr_biases")

    def judge_end(self) -> None:
        """judge(), of a course that comes to its end."""
        self.check_finite()
        self.judge()

    def ends_well(self) -> bool:
        """To be asked after the last step: judges the course once more. A training that has diverged begins anew, and is to take all its steps again; one
        that ends by the clock has no time for that, and is what it is, after a warning. Raises Diverged where there is nothing to be done."""
        try:
            self.judge_end()
        except Diverged:
            if self.share is None:
                self.restart()
                return False
            if not self.finite:
                raise
            warn(f"{self.name}training diverged before its end, with no time left to begin anew: use a smaller lr_latents or lr_biases")
        return True

    def call(self, name: str) -> None:
        """What warnings call it. Without a name they do not."""
        self.name = f"{name}: " if name else ""

    def restart(self) -> None:
        """Begins anew after a warning; one that ends by the clock has what time is left. Raises Diverged where that was done often enough."""
        if self.restarts >= RESTARTS:
            raise Diverged(f"training went out of bounds {RESTARTS + 1} times, with smaller and smaller learning rates: use a smaller lr_latents or lr_biases")
        rates = f"{SLOWER ** (self.restarts + 1):g} times as large as at first"
        warn(f"{self.name}training diverged before step {self.step:,}: it begins anew with learning rates {rates}")
        self.begin_anew()

    def begin_anew(self) -> None:
        """From the start, with smaller learning rates."""
        self.restarts += 1
        self._unrounded()
        with torch.no_grad():
            for now, first in zip((self.latents, self.biases, self.output_bias), self._beginning(self.start)):
                now.copy_(first)
        self.optimiser.state.clear()
        self.generator.manual_seed(self.config.seed % (1 << 63))
        self.order = self.order[:0]
        if isinstance(self.sampler, ErrorSampler):
            self.sampler.reset()
        self.loss.zero_()
        self.step, self.whole, self.best_loss, self.known_size = 0, True, inf, self.latents_size()
        self.share = None if self.share is None else 0.0

    # one step

    def begin(self) -> None:
        """What comes before the gradient of a step: learning rates and, in the finish, quantisation steps. Raises EncodeError, Diverged."""
        self.whole = False
        config = self.config
        length = self.steps if self.share is None else self.step / self.share if self.share else inf
        factor = learning_rate(self.step, length, self.pass_steps, config)
        beta3, alpha = mixing(self.step, length, config.beta1, config.beta3, self.plan.alpha)
        of_latents, of_biases = self.base_rates
        for group, rate in zip(self.optimiser.param_groups, (steady_rate(of_latents, alpha), of_biases)):
            group.update(lr=rate * factor, betas=(config.beta1, config.beta2, beta3), alpha=alpha)
        if self.step and (self.step == 1 or self.step % JUDGED_EVERY == 0 or self.step == self.finish_from):
            self.judge()
        if self.step >= self.finish_from:
            steer(self)
            if self.settling:
                self.settling.go_on(self.latents, portion(self.finish_over, len(self.latents)))
        if isinstance(self.sampler, ErrorSampler):
            self.sampler.follow(self.step, lambda points: squared_errors(self, points))

    def train(self, workers: Workers) -> None:
        """One step of the optimiser. Raises EncodeError."""
        try:
            self.begin()
        except Diverged:
            self.restart()
            self.begin()

        loss = self.compiled(self, workers) if self.compiled else self._by_torch(workers)
        self.hold()
        self.loss.lerp_(loss, max(0.02, 1 / (1 + self.step)))
        self.step += 1
        self.whole = True

    def hold(self) -> None:
        """After a step of the optimiser: latents that have settled stay."""
        if self.settling:
            self.settling.hold(self.latents)

    def _by_torch(self, workers: Workers) -> Tensor:
        """The step by calls of torch, any projection and any device. Returns the loss."""

        def gradient(flat: Tensor, biases: Tensor, output_bias: Tensor) -> tuple[Tensor, list[Tensor]]:
            points, importance = self.draw()
            return self.gradient(points, self.projection.split(flat), biases, output_bias, workers, importance)

        self.optimiser.zero_grad()
        steps = self.quantisation
        rounding = (None if self.settling else steps.latent, steps.bias) if steps else None
        loss = backpropagate(self, rounding, gradient)
        self.optimiser.step()
        return loss

    def pace(self, share: float) -> None:
        """To be called before each step of a training that ends by the clock: says how much of it is over, from 0 at first up to 1, never less than before.

        The schedule is stretched to as many steps as are to be expected; the finish keeps the length that it begins with.
        """
        self.share = share
        if self.quantisation is None:
            self.steps = max(self.step + 1, round(self.step / share)) if share else 1 << 40
            self.finish_from = self.step if share and share >= 1 - self.finish < 1 else self.steps

    def draw(self) -> tuple[Tensor, Tensor | None]:
        """Row-major numbers of this step's grid points, int64 (batch,), and their importance, float32 (batch,), where that is not 1 for all."""
        if self.batch == self.points:
            if self.every is None:
                self.every = torch.arange(self.points, device=self.device)
            return self.every, None
        if self.sampler:
            return self.sampler.draw(self.batch)
        if self.config.sampling != "epochs":
            return torch.randint(self.points, (self.batch,), generator=self.generator), None
        if not len(self.order):
            self.order = torch.randperm(self.points, generator=self.generator)
        batch, self.order = self.order[: self.batch], self.order[self.batch :]
        return batch, None

    # rounding

    def settle_layers(self) -> None:
        """A plain network with step_rule = range: from here on 2^bits levels span each layer's weights, as they are now, from the lowest to the highest."""
        if self.settled or self.config.generator != "plain" or self.config.step_rule != "range":
            return
        most = max(1.0, (2**self.bits - 1) * self.quantiser.apart / self.quantiser.most)  # a latent has 16 bits with its sign
        self.scale_layers([max((w.max() - w.min()).item(), w.abs().max().item() * most, 1e-6) / 2 for w in self.weights])

    def scale_layers(self, gains: list[float]) -> None:
        """Gives every layer a gain, and in the file a scale, of its own. The weights stay; the latents at unit scale change."""
        worth = self._of_weights(gains)
        self.worth = worth / self._of_weights(self.gains) if self.worth is None else self.worth * worth / self._of_weights(self.gains)
        self.gains, self.settled = gains, True
        self.quantiser = self._quantiser(gains, per_layer=True)
        self.gain = self.projection.spread(self.quantiser.radians).to(self.device)

    def quantise_at(self, step: float, settled: int = 0) -> None:
        """From here on training sees latents rounded to multiples of `step`, and the weights that a file's scales give. On the trellis latents settle
        instead, of which so many have."""
        self.quantisation, self.fitting = self.quantiser.steps(step), None
        self.settling = Settling(self.latents, self.worth, step, settled) if self.quantiser.on_trellis else None
        self.gain = self.projection.spread(self.quantiser.gains(self.quantisation)).to(self.device)

    def round_adaptively(self) -> None:
        """With rounding = adaround the latents become multiples of the step, which rounding to the nearest will not change."""
        if self.config.rounding == "adaround" and self.quantisation:
            from doh.train.adaround import rounded

            latents = rounded(self, self.quantisation, self.gain)
            with torch.no_grad():
                self.latents.copy_(latents if self.worth is None else latents * self.worth)

    def preferred_step(self) -> float:
        if self.settled:
            return max(2 / (2**self.bits - 1) / self.quantiser.apart, self.quantiser.finest(self.unit_latents))
        return self.quantiser.step_of_bits(self.unit_latents, self.bits, self.config.step_rule)

    def fitting_step(self, budget: int, start: float) -> float:
        return self.quantiser.step_of_bytes(self.size, budget, start, self.quantiser.finest(self.unit_latents))

    def size(self, step: float) -> int:
        """Bytes of the file with this step."""
        return len(pack_unsealed(self.model(self.quantiser.steps(step), exact=False)))

    # the result

    def model(self, steps: Steps, exact: bool = True) -> QuantModel:
        return self.quantiser.model(self.signal, self.unit_latents, self.biases * self.omegas, self.output_bias, steps, exact)

    def finished(self, another: Callable[[], bool] = lambda: True) -> QuantModel:
        """The model to be packed (doh.train.result). Raises EncodeError. another: whether there is time to measure another step."""
        return finished(self, another)

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.loss) and torch.isfinite(self.latents).all())

    def check_finite(self) -> None:
        if not self.finite:
            raise Diverged(f"training went out of bounds before step {self.step}: use a smaller lr_latents or lr_biases")
