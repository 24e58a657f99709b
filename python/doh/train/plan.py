"""How large a network and how many latents a signal and a rate ask for. No torch, no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, log2, pi, prod, sqrt

from doh.config import Config
from doh.errors import EncodeError
from doh.model import Target, scale_count
from doh.signal import Signal
from doh.train.spectrum import strong_waves

#: Latents where no rate is given, and the share of the samples' number that they may not exceed.
DEFAULT_LATENTS, DEFAULT_SHARE = 4500, 1 / 8
#: The best bits of a latent: of those that settle, but for occupancy (docs/training-experiments.md, "Rounding"); of others.
SETTLED_BITS, ROUNDED_BITS = 4.7, 5.5
#: A bias costs about this many bits more than a latent.
BIAS_EXTRA_BITS = 1.5
#: Longest dimensions for which 16 powers of 1.4, up to 155 waves, are preferred to octaves: they are denser, and lose less to rounding. Larger
#: images have them too, as they need no faster waves.
LADDER_1_4 = range(256, 1025)
MIN_WIDTH, MAX_WIDTH = 4, 1024
#: Weights of the target network for each latent of a signal of up to so many points.
SMALL_SIGNAL, SMALL_WEIGHTS_PER_LATENT = 1 << 16, 2.5
#: The same for larger signals: so many, but no more weights than these, beyond which they cost more time than they bring; never fewer than the last number.
WEIGHTS_PER_LATENT, ENOUGH_WEIGHTS, LEAST_WEIGHTS_PER_LATENT = 3.25, 17500, 1.15
#: Sine layers of a network of so many weights, at most so many: the depth grows with the cube root of the weights.
DEPTH, DEPTH_WEIGHTS, MAX_DEPTH = 4, 4800, 6
#: The same for networks of twice as many weights as latents, where depth costs no bytes but those of biases. The last number of weights is for large
#: signals that are no images. With more weights than this share of the points, MAX_DEPTH is the most: what comes close to noise learns no better by more.
SHARED, SHARED_DEPTH, SHARED_DEPTH_WEIGHTS, SHARED_MAX_DEPTH = 2, 9, 5000, 9
LARGE_DEPTH_WEIGHTS, MANY_WEIGHTS = 15000, 0.75
#: Learning rate of the latents of a network of up to so many weights in batches of so many points, and an exponent for both beyond. At a rate that a small
#: network takes a large one diverges, or is held up until the rate has fallen: the busier the picture, the sooner; larger batches bear more.
LEARNING_RATE, STEADY_WEIGHTS, STEADY_BATCH, LEARNING_RATE_POWER = 0.08, 16000, 4096, 0.7
#: The slow mean's weight in the training of an image; it harms sounds (docs/training-experiments.md).
IMAGE_ALPHA = 8.0
MAX_WEIGHTS = 1 << 20  # what decoders take by default
#: A file must fill its budget to this share.
FILL = 0.97
MAX_DENSE_BYTES = 1 << 33


@dataclass(frozen=True)
class Plan:
    target: Target
    latents: int
    budget: int  # bytes; 0 = none
    omega: float  # of the sine layers after the first
    first_omega: float
    lr_latents: float
    alpha: float  # weight of the slow mean in the optimiser

    @property
    def omegas(self) -> list[float]:
        """The frequency factor of each sine layer."""
        return [self.first_omega] + [self.omega] * (self.target.depth - 1)


def plan(signal: Signal, config: Config) -> Plan:
    """The target network, the number of latents and the budget. Raises EncodeError for a budget that no network fits or fills."""
    config = with_encoding(signal, config)
    points, budget, n = signal.samples.size // signal.channels, budget_of(signal, config), latents_for(signal, config)
    target, omega = target_for(signal, config, n), config.omega or omega_for(points)
    if config.generator == "plain":
        n = target.weights
    if target.weights > MAX_WEIGHTS:
        raise EncodeError(f"a network of {target.weights} weights is too large, {MAX_WEIGHTS} are the most: make width or depth smaller")
    if config.generator == "dense" and n * target.weights > MAX_DENSE_BYTES:
        raise EncodeError(f"dense matrices of {n} x {target.weights} bytes are too large: use fewer latents, or generator = 'tied'")
    most = most_bytes(signal, target, config.seed, n)
    if budget * FILL > most:
        advice = "give it a larger width, or none" if config.width else "ask for fewer"
        raise EncodeError(f"{budget} bytes are more than this network can use (at most {most} bytes): {advice}")
    rate = config.lr_latents or learning_rate_for(target.weights, config.batch)
    alpha = config.alpha if config.alpha >= 0 else IMAGE_ALPHA if signal.kind == "image" else 0.0
    return Plan(target, n, budget, omega, config.first_omega or omega, rate, alpha)


def budget_of(signal: Signal, config: Config) -> int:
    """Bytes of the file; 0 = no budget."""
    budget = config.bytes or int(config.bpp * (signal.samples.size // signal.channels) / 8)
    return max(1, budget) if config.bpp else budget


def latents_for(signal: Signal, config: Config) -> int:
    """The number of latents of one network for the whole signal. Raises EncodeError for a budget that is too small."""
    if config.latents:
        return config.latents
    budget = budget_of(signal, config)
    if not budget:
        return max(16, min(DEFAULT_LATENTS, int(signal.samples.size * DEFAULT_SHARE)))
    if config.generator == "plain" and config.width:
        return 1  # the settings fix the network; the quantisation step alone is to meet the budget
    smallest = estimate(signal, config, 1)
    if budget < smallest:
        raise EncodeError(f"{budget} bytes are too few for this signal: the smallest file is about {smallest} bytes")
    low, high = 1, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if estimate(signal, config, middle) <= budget else (low, middle)
    # a latent without a weight would be wasted; what is left of the budget goes into finer steps
    return min(low, target_for(signal, config, low).weights)


def target_for(signal: Signal, config: Config, n: int) -> Target:
    """The target network for n latents: what the settings fix; else as many weights as they say, deeper the more there are."""
    dims, channels = len(signal.shape), signal.channels
    frequencies, ladder = encoding_for(signal, config)
    points = prod(signal.shape)
    small = points <= SMALL_SIGNAL
    usual = SMALL_WEIGHTS_PER_LATENT if small else max(LEAST_WEIGHTS_PER_LATENT, min(WEIGHTS_PER_LATENT, ENOUGH_WEIGHTS / n))
    weights = n * (config.weights_per_latent or usual)
    shared = config.generator != "plain" and weights >= SHARED * n
    most = SHARED_MAX_DEPTH if weights <= MANY_WEIGHTS * points else MAX_DEPTH
    depth = config.depth or (_shared_depth(weights, signal.kind == "image" or small, most) if shared else _depth(weights))
    width = config.width or _width(dims * (1 + 2 * frequencies) + channels, depth, weights)
    target = Target(dims, channels, width, depth, frequencies, ladder if frequencies else "octaves")
    if not config.width and target.weights > MAX_WEIGHTS:
        width = int(_exact_width(dims * (1 + 2 * frequencies) + channels, depth, MAX_WEIGHTS))
        target = Target(dims, channels, width, depth, frequencies, target.ladder)
    return target


def encoding_for(signal: Signal, config: Config) -> tuple[int, str]:
    """Frequencies and ladder of the positional encoding: what the settings fix; else as many as the longest dimension carries."""
    longest = max(signal.shape)
    dense = longest in LADDER_1_4 or (signal.kind == "image" and longest >= LADDER_1_4.stop)
    ladder = config.ladder if config.ladder != "auto" else "1.4" if dense else "octaves"
    return config.frequencies if config.frequencies >= 0 else frequencies_below(carried_waves(longest), ladder), ladder


def with_encoding(signal: Signal, config: Config, parts: Sequence[Signal] = ()) -> Config:
    """The settings with frequencies and ladder fixed for a signal, or for the parts that it is cut into, which are of about one size. An image has no
    more frequencies than its strongest waves ask for (doh.train.spectrum). Raises EncodeError for a budget that is too small."""
    if config.frequencies >= 0 and config.ladder != "auto":
        return config
    pieces = parts or [signal]
    longest = max(pieces, key=lambda piece: max(piece.shape))
    frequencies, ladder = encoding_for(longest, config)
    if config.frequencies < 0 and signal.kind == "image":
        budget = budget_of(signal, config)
        waves = strong_waves(pieces, int(8 * budget / bits_of(signal, config)) if budget else latents_for(signal, config))
        frequencies = min(frequencies, frequencies_below(waves, ladder))
    return config.replace(frequencies=frequencies, ladder=ladder)


def carried_waves(points: int) -> float:
    """Waves across [-1, 1] that so many points hold to the signal: points/4. A grid could tell points/2 waves apart, but between its points nothing holds such
    a wave to the signal: a zoom shows it as noise."""
    return max(points, 4) / 4


def frequencies_below(waves: float, ladder: str) -> int:
    """Frequencies up to so many waves across [-1, 1], 1 to 16: the first one is a single wave."""
    return min(16, 1 + int(log2(max(waves, 1.0)) / (1 if ladder == "octaves" else log2(1.4))))


def omega_for(points: int) -> float:
    """The frequency factor for a signal of so many points: 20 for a photograph of 400,000, less for less, down to 10."""
    return min(20.0, max(10.0, 20 * float(points / 4e5) ** 0.125))


def learning_rate_for(weights: int, batch: int) -> float:
    """Adam's learning rate for latents at unit scale that make so many weights, by gradients of so many points."""
    steady = STEADY_WEIGHTS * (batch / STEADY_BATCH) ** LEARNING_RATE_POWER
    return LEARNING_RATE * min(1.0, steady / weights) ** LEARNING_RATE_POWER


def learning_rate(step: int, steps: float, pass_steps: int, config: Config) -> float:
    """The factor on both learning rates at a step."""
    warm = min(1.0, (step + 1) / max(1.0, config.warmup * steps))
    if config.schedule == "exponential":
        return warm * config.decay ** (step // pass_steps)
    return warm * (1 + cos(pi * step / steps)) / 2


def bits_of(signal: Signal, config: Config) -> float:
    """Bits of a latent, about: what the quantisation step is chosen for, and the number of latents where there is a budget."""
    return config.bits or (SETTLED_BITS if config.settles and signal.kind != "occupancy" else ROUNDED_BITS)


def estimate(signal: Signal, config: Config, n: int) -> int:
    """About how many bytes a file with n latents takes."""
    t = target_for(signal, config, n)
    latents = t.weights if config.generator == "plain" else min(n, t.weights)
    one = bits_of(signal, config)
    bits = latents * one + t.depth * t.width * (one + BIAS_EXTRA_BITS) + t.channels * 12
    return header_bytes(signal, t, config.seed, n) + int(bits / 8)


def most_bytes(signal: Signal, target: Target, seed: int, n: int) -> int:
    """More bytes than a file of this network takes at any quantisation step: codes have 16 bits, and the coder, which learns how often each comes, few more."""
    codes = n + target.biases
    return header_bytes(signal, target, seed, n) + 3 * target.depth + 2 * codes + codes // 1024 + 64


def header_bytes(signal: Signal, target: Target, seed: int, n: int) -> int:
    """Everything but the payload (docs/format.md, sections 1 and 2)."""
    varints = sum(max(1, -(-x.bit_length() // 7)) for x in (*signal.shape, target.width, seed, n))
    return 5 + 2 + varints + 3 + 1 + 3 * scale_count(target.depth, False) + 2 + 1 + 8


def _depth(weights: float) -> int:
    """Sine layers for so many weights."""
    return min(MAX_DEPTH, max(1, round(DEPTH * (weights / DEPTH_WEIGHTS) ** (1 / 3))))


def _shared_depth(weights: float, image_or_small: bool, most: int) -> int:
    """The same where weights share latents."""
    of = SHARED_DEPTH_WEIGHTS if image_or_small else LARGE_DEPTH_WEIGHTS
    return min(most, max(1, round(SHARED_DEPTH * (weights / of) ** (1 / 3))))


def _exact_width(ends: int, depth: int, weights: float) -> float:
    """w with (depth - 1) w^2 + ends w = weights."""
    if depth == 1:
        return weights / ends
    return (sqrt(ends * ends + 4 * (depth - 1) * weights) - ends) / (2 * (depth - 1))


def _width(ends: int, depth: int, weights: float) -> int:
    """The nearest width for so many weights; even from 24 on, which decoders like."""
    width = _exact_width(ends, depth, weights)
    width = 2 * round(width / 2) if width >= 24 else round(width)
    return min(max(width, MIN_WIDTH), MAX_WIDTH)
