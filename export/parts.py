"""The networks of a mosaic in the graph (docs/format.md, section 2.1), one at a time.

Their numbers stand behind one another in a few tensors; a turn of a loop cuts those of its part out of them, with sizes that only then are known. So one
loop serves all networks of equal depth, whatever their widths, latents and scales, and a graph for many parts has no more nodes than one for two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod

import numpy as np

from doh import container
from doh.export import network, weights
from doh.export.expansion import expand_all
from doh.export.graph import Graph, Value
from doh.model import Mosaic, QuantModel, Scale


@dataclass(frozen=True)
class Family:
    """Parts whose networks have equally many layers, neighbours in the order of the turns."""

    first: int  # in that order
    models: list[QuantModel]
    known: list[list[np.ndarray]]  # their integer weights

    @property
    def depth(self) -> int:
        return self.models[0].target.depth

    def of(self, body: Graph, part: Value, number: Callable[[QuantModel], object]) -> Value:
        """number(model) of one part's model: (1, ..)."""
        return body.constant(np.array([number(model) for model in self.models])).gather(part)


class Networks:
    """All networks of a mosaic. `order`: the parts, by their row-major numbers, as the turns take them."""

    def __init__(self, g: Graph, mosaic: Mosaic, kind: str) -> None:
        self.g, self.kind = g, kind
        self.order = sorted(range(len(mosaic.models)), key=lambda i: (mosaic.models[i].target.depth, i))
        models = [mosaic.models[i] for i in self.order]
        known = [weights.integer_weights(container.pack_unsealed(m), m, container.NO_LIMITS) for m in models]  # the whole is within its limits
        groups = [list(group) for _, group in groupby(range(len(models)), key=lambda i: models[i].target.depth)]
        self.families = [Family(group[0], [models[i] for i in group], [known[i] for i in group]) for group in groups]
        self.starts = np.cumsum([0, *(m.target.weights for m in models)])[:-1]  # of each part's weights
        if kind == "exact-baked":
            self.weights = _joined(g, "weights", (w.astype(np.int16) for layers in known for w in layers))
        elif kind != "exact":
            layers = [network.float_layers(m, w, np.float16 if kind == "f16" else np.float32) for m, w in zip(models, known)]
            # layer 0 apart: its dtype may be another
            self.floats = [_joined(g, f"{name}_0", (own[0][i] for own in layers)) for i, name in enumerate(("weights", "bias"))]
            self.floats += [_joined(g, name, (layer[i] for own in layers for layer in own[1:])) for i, name in enumerate(("weights", "bias"))]

    def expand(self, counts: Value, many: Value) -> None:
        """Makes the weights of all parts that have points, where the graph holds codes; to be called before the loops. `counts`: points of each, (P,);
        `many`: see Value.untold."""
        if self.kind == "exact":
            self.weights, self.starts = expand_all(self.g, [model for family in self.families for model in family.models], counts, many)

    def samples(self, body: Graph, family: Family, part: Value, x: Value) -> Value:
        """Samples (points, channels) of a part, (1,), counted in its family, for coordinates x, int64 (dims, points)."""
        model = family.models[0]  # for all that the networks have alike
        if self.kind.startswith("exact"):
            layers, full = self._exact(body, family, part)
            return network.exact_network(body, model, layers, x, full)
        return network.float_network(body, model, self._floats(body, family, part), x)

    def _exact(self, body: Graph, family: Family, part: Value) -> tuple[list[network.Layer], Value]:
        """What network.exact_layers gives, of one part; and 2^-f of its output."""
        depth, (raw_columns, encoded) = family.depth, network.columns(family.models[0].target)
        bounds = (max(network.phase_bound(m, i, w[i]) for m, w in zip(family.models, family.known)) for i in range(depth))
        phases = [network.Phase(bound) for bound in bounds]
        pieces = [piece.cast(np.float64) for piece in self._cut(body, family, part, self.weights, self.starts, [_shapes(m) for m in family.models])]
        if self.kind == "exact":
            pieces = _scaled(body, family, part, pieces)
        biases = [_biases(model, phases) for model in family.models]
        starts = np.cumsum([0, *map(len, biases)])[:-1]
        bias0, *hidden_bias, bias1 = _cut(body, part, body.constant(np.concatenate(biases)), starts, [_shapes(m, False) for m in family.models])

        first, raw_scale = pieces[0], family.of(body, part, lambda m: 2.0 ** (1 - m.scale_of(0).q))
        raw = [first.columns(c) * 2.0**-16 for c in raw_columns]
        if encoded:
            first = first.columns(*encoded) * raw_scale
            bias0 = bias0 - first.sum(1) * network.LIFT
        layers = [network.Layer(first, bias0, phases[0], raw, raw_scale)]
        if hidden_bias:
            hidden = pieces[1] * family.of(body, part, lambda m: [2.0 ** (1 - m.scale_of(i).q) for i in range(1, depth)]).reshape(-1, 1, 1)
            lowered = hidden_bias[0] - hidden.sum(2) * network.LIFT
            layers += [network.Layer(_row(hidden, i - 1), _row(lowered, i - 1), phases[i], [], 1.0) for i in range(1, depth)]
        layers.append(network.Layer(pieces[-1], bias1 - pieces[-1].sum(1) * network.LIFT, None, [], 1.0))
        return layers, family.of(body, part, lambda m: 2.0 ** -(15 + m.scale_of(depth).q))

    def _floats(self, body: Graph, family: Family, part: Value) -> list[tuple[Value, Value]]:
        targets = [model.target for own in self.families for model in own.models]
        sizes = [[t.width * t.inputs for t in targets], [t.width for t in targets]]  # of layer 0: weights, biases
        sizes += [[t.weights - n for t, n in zip(targets, sizes[0])], [t.biases - n for t, n in zip(targets, sizes[1])]]
        pieces = []
        for flat, own, square, layers in zip(self.floats, sizes, (True, False) * 2, (slice(0, 1), slice(0, 1), slice(1, None), slice(1, None))):
            shapes = [_shapes(model, square)[layers] for model in family.models]
            pieces.append(self._cut(body, family, part, flat, np.cumsum([0, *own])[:-1], shapes))
        weights0, bias0, inner, bias = pieces
        hidden = [(_row(inner[0], i), _row(bias[0], i)) for i in range(family.depth - 1)]
        return [(weights0[0], bias0[0]), *hidden, (inner[-1], bias[-1])]

    @staticmethod
    def _cut(body: Graph, family: Family, part: Value, flat: Value, starts: np.ndarray, shapes: list[list[tuple[int, ...]]]) -> list[Value]:
        """As the function, with `starts` of all parts in the order of the turns."""
        return _cut(body, part, flat, starts[family.first : family.first + len(family.models)], shapes)


def _joined(g: Graph, name: str, arrays: Iterable[np.ndarray]) -> Value:
    return g.constant(np.concatenate([a.reshape(-1) for a in arrays]), name)


def _row(stack: Value, index: int) -> Value:
    return stack.gather(stack.graph.constant(np.array(index, np.int64)))


def _shapes(model: QuantModel, square: bool = True) -> list[tuple[int, ...]]:
    """Shapes of layer 0, of all layers between, where there are any, and of the output layer; not `square`: those of columns, as biases are."""
    t = model.target
    between: list[tuple[int, ...]] = [(t.depth - 1, t.width, t.width if square else 1)] if t.depth > 1 else []
    return [(t.width, t.inputs if square else 1), *between, (t.channels, t.width if square else 1)]


def _cut(body: Graph, part: Value, flat: Value, starts: np.ndarray, shapes: list[list[tuple[int, ...]]]) -> list[Value]:
    """Pieces of one part, (1,), that stand behind one another in `flat`. `starts`, `shapes`: of all parts that `part` counts."""
    sizes = np.array([[prod(shape) for shape in own] for own in shapes])
    ends = starts.reshape(-1, 1) + np.concatenate([np.zeros((len(sizes), 1), np.int64), np.cumsum(sizes, axis=1)], axis=1)
    bounds = [body.constant(column).gather(part) for column in ends.T]
    pieces = [body.here(flat).slice(start, end, 0) for start, end in pairwise(bounds)]
    return [piece.reshape_to(body.constant(np.array(each)).gather(part).reshape(-1)) for piece, each in zip(pieces, zip(*shapes))]


def _scaled(body: Graph, family: Family, part: Value, sums: list[Value]) -> list[Value]:
    """Sums to weights (section 6), float64."""
    depth = family.depth

    def weights_of(sums: Value, number: Callable[[Callable[[Scale], float]], Value]) -> Value:
        factor, half, unit = number(lambda s: 2048.0 + s.m), number(lambda s: float((1 << s.r) >> 1)), number(lambda s: 2.0**-s.r)
        return ((sums * factor + half) * unit).floor().clip(-32767, 32767)  # an integer below 2^49, and its exact quotient

    def one(layer: int) -> Callable[[Callable[[Scale], float]], Value]:
        return lambda of: family.of(body, part, lambda m: of(m.scale_of(layer)))

    def between(of: Callable[[Scale], float]) -> Value:
        return family.of(body, part, lambda m: [of(m.scale_of(i)) for i in range(1, depth)]).reshape(-1, 1, 1)

    return [weights_of(sums[0], one(0)), *(weights_of(stack, between) for stack in sums[1:-1]), weights_of(sums[-1], one(depth))]


def _biases(model: QuantModel, phases: list[network.Phase]) -> np.ndarray:
    """All of a model's biases, layer by layer, as network.floored has them."""
    own = network.biases(model)
    return np.concatenate([network.floored(b, model.scale_of(i).q, phases[i] if i < len(phases) else None) for i, b in enumerate(own)])
