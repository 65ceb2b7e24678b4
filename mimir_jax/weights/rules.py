# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion tables and the engine that runs them, strict in both directions.

A table is a list of rules, one per parameter of ours: the path, the tensors of the published
checkpoint that fill it, and how their layouts differ. Reading and writing follow the same table, so
export is the inverse of import, tensor for tensor and byte for byte.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mimir_jax.errors import InputError, listed
from mimir_jax.weights import copying
from mimir_jax.weights.tensors import Tensor, Tensors, is_floating

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a published tensor becomes ours and back; both are views where that is possible."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


SAME = Layout(_same, _same)
LINEAR = Layout(np.transpose, np.transpose)
"""[out, in] to [in, out]."""
CONV = Layout(
    lambda x: np.moveaxis(x, (0, 1), (-1, -2)), lambda x: np.moveaxis(x, (-1, -2), (0, 1))
)
"""[out, in, *kernel] to [*kernel, in, out]."""
BATCHED = Layout(lambda x: x[0], lambda x: x[None])
"""A leading axis of size one, dropped."""


def patch(channels: int, size: int) -> Layout:
    """A strided convolution [out, channels, size, size] as a linear over flattened patches."""
    return Layout(
        lambda x: x.reshape(x.shape[0], -1).T,
        lambda x: x.T.reshape(x.shape[1], channels, size, size),
    )


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter of ours.

    Attributes:
        path: Its `/`-joined path.
        names: The tensors it is made of, joined along their first axis; `{i}` counts the layers of
            a parameter stacked over them.
        layout: How (joined) tensors become the parameter.
        rows: Rows of each of several joined tensors.
    """

    path: str
    names: tuple[str, ...]
    layout: Layout = SAME
    rows: tuple[int, ...] = ()

    @property
    def stacked(self) -> bool:
        """Whether the parameter has a leading axis over layers."""
        return "{i}" in self.names[0]

    def tensors(self, layer: int) -> list[str]:
        """Returns the names of the tensors of one layer."""
        return [name.replace("{i}", str(layer)) for name in self.names]

    def import_layer(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Turns the tensors of one layer into ours."""
        return self.layout.ours(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def export_layer(self, ours: np.ndarray) -> list[np.ndarray]:
        """Turns one layer of ours into its tensors."""
        theirs = self.layout.theirs(ours)
        if len(self.names) == 1:
            return [theirs]
        return np.split(theirs, np.cumsum(self.rows)[:-1])


Abstract = Mapping[str, jax.ShapeDtypeStruct]
"""Flat shapes of our parameters by path."""


def linear(path: str, *names: str, bias: bool = False, rows: tuple[int, ...] = ()) -> list[Rule]:
    """Returns the rules of a linear layer at `path` from the layers `names`."""
    weights = tuple(f"{name}.weight" for name in names)
    rules = [Rule(f"{path}/kernel", weights, LINEAR, rows)]
    if bias:
        rules.append(Rule(f"{path}/bias", tuple(f"{name}.bias" for name in names), SAME, rows))
    return rules


def norm(path: str, name: str, *, bias: bool = False) -> list[Rule]:
    """Returns the rules of a norm at `path` from the layer `name`."""
    rules = [Rule(f"{path}/scale", (f"{name}.weight",))]
    return [*rules, Rule(f"{path}/bias", (f"{name}.bias",))] if bias else rules


def in_blocks(rules: Sequence[Rule]) -> list[Rule]:
    """Moves the rules of one block below the scanned stack."""
    return [dataclasses.replace(rule, path=f"blocks/block/{rule.path}") for rule in rules]


def inside(rules: Sequence[Rule], path: str, prefix: str) -> list[Rule]:
    """Moves the rules of a network below `path`, its tensors behind `prefix`."""
    return [
        dataclasses.replace(
            rule, path=f"{path}/{rule.path}", names=tuple(f"{prefix}{name}" for name in rule.names)
        )
        for rule in rules
    ]


def expected_shapes(rules: Sequence[Rule], abstract: Abstract) -> dict[str, Shape]:
    """Returns the shape of every tensor that the table asks for.

    Raises:
        KeyError: if table and model disagree on the parameters, which is a mistake in the table.
    """
    if odd := {rule.path for rule in rules} ^ set(abstract):
        raise KeyError(f"table and model disagree on {sorted(odd)}")
    shapes: dict[str, Shape] = {}
    for rule in rules:
        for layer, ours in enumerate(_layers(rule, abstract[rule.path].shape)):
            # A zero spread over the shape: layouts act on it without memory.
            parts = rule.export_layer(np.broadcast_to(np.zeros((), np.int8), ours))
            shapes |= {
                name: part.shape for name, part in zip(rule.tensors(layer), parts, strict=True)
            }
    return shapes


def check(
    rules: Sequence[Rule],
    abstract: Abstract,
    tensors: Mapping[str, Tensor],
    *,
    ignored: Sequence[str] = (),
    reports_extra: bool = False,
    source: str,
) -> None:
    """Checks that tensors and table match, all problems in one error.

    Args:
        rules: The table.
        abstract: Shapes of our parameters.
        tensors: What the checkpoint holds.
        ignored: Regular expressions of tensors that are known not to matter.
        reports_extra: Whether extra tensors are logged instead of refused.
        source: Names the checkpoint in the error.

    Raises:
        ValueError: listing missing, refused extra and misshaped tensors.
    """
    shapes = expected_shapes(rules, abstract)
    missing = [name for name in shapes if name not in tensors]
    extra = [
        name
        for name in tensors
        if name not in shapes and not any(re.fullmatch(p, name) for p in ignored)
    ]
    misshaped = [
        f"{name} {tensors[name].shape} for {shape}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if extra and reports_extra:
        logging.warning("weights %s: %d tensors not read: %s", source, len(extra), ", ".join(extra))
        extra = []
    integers = [
        f"{name} of {tensors[name].dtype}"
        for name in shapes
        if name in tensors and not is_floating(tensors[name].dtype)
    ]
    kinds = {"missing": missing, "extra": extra, "misshaped": misshaped}
    kinds["quantised, in a way that is not read"] = integers
    problems = [f"{len(names)} {what}: {listed(names)}" for what, names in kinds.items() if names]
    if problems:
        raise InputError(
            f"weights {source} must hold the tensors of its config, "
            f"{'; '.join(problems)}; use the config.json that belongs to them"
        )


def import_params(
    rules: Sequence[Rule], abstract: Abstract, tensors: Mapping[str, Tensor]
) -> Tensors:
    """Returns our parameters by path, each read when it is asked for.

    A parameter has a dtype that holds the values of all its tensors.
    """
    return {rule.path: _import_one(rule, abstract[rule.path].shape, tensors) for rule in rules}


def _import_one(rule: Rule, shape: Shape, tensors: Mapping[str, Tensor]) -> Tensor:
    names = [rule.tensors(layer) for layer in range(len(_layers(rule, shape)))]
    dtype = functools.reduce(
        jnp.promote_types, {tensors[name].dtype for layer in names for name in layer}
    )

    def read() -> np.ndarray:
        if not rule.stacked:
            return copying.contiguous(_read_layer(names[0])).astype(dtype, copy=False)
        out = np.empty(shape, dtype)

        def fill(layer: int) -> None:
            copying.copy_into(out[layer], _read_layer(names[layer]), threads=1)

        for _ in copying.in_order(fill, range(len(out))):
            pass
        return out

    def _read_layer(layer: Sequence[str]) -> np.ndarray:
        return rule.import_layer([tensors[name].read() for name in layer])

    if not rule.stacked:
        return Tensor(shape, dtype, read)
    layers = [sum(tensors[name].peak for name in layer) for layer in names]
    return Tensor(shape, dtype, read, scratch=copying.WORKERS * max(layers, default=0))


def export_shapes(
    rules: Sequence[Rule], params: Mapping[str, Tensor], dtypes: Mapping[str, np.dtype]
) -> dict[str, tuple[Shape, np.dtype]]:
    """Returns shape and dtype of every tensor that `export_tensors` gives.

    Args:
        rules: The table.
        params: Our parameters by path.
        dtypes: Dtypes of tensors that differ from those of their parameters.
    """
    shapes = expected_shapes(rules, {p: jax.ShapeDtypeStruct(x.shape, x.dtype)
                                     for p, x in params.items()})  # fmt: skip
    kinds = {
        name: params[rule.path].dtype
        for rule in rules
        for layer in range(len(_layers(rule, params[rule.path].shape)))
        for name in rule.tensors(layer)
    }
    return {name: (shape, dtypes.get(name, kinds[name])) for name, shape in shapes.items()}


def export_tensors(
    rules: Sequence[Rule], params: Mapping[str, Tensor], dtypes: Mapping[str, np.dtype]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor of the published layout.

    One parameter of ours is in memory at a time, and the next where both fit in twice the largest.
    """

    def read(rule: Rule, tensor: Tensor) -> tuple[Rule, list[np.ndarray]]:
        value = tensor.read()
        return rule, list(value) if rule.stacked else [value]

    found = [(rule, params[rule.path]) for rule in rules]
    jobs = [copying.Job(x.nbytes, x.peak, functools.partial(read, r, x)) for r, x in found]
    layer = max((x.nbytes // (x.shape[0] if r.stacked else 1) for r, x in found), default=0)
    budget = 2 * max((job.size for job in jobs), default=0) + copying.SLACK
    budget -= (copying.WORKERS + 1) * layer  # in order, before they are written
    for rule, layers in copying.ahead(jobs, budget):
        export = functools.partial(_export_layer, rule, layers, dtypes)
        for named in copying.in_order(export, range(len(layers))):
            yield from named
        del layers, export  # before the next parameter is read


def _export_layer(
    rule: Rule, layers: Sequence[np.ndarray], dtypes: Mapping[str, np.dtype], layer: int
) -> list[tuple[str, np.ndarray]]:
    """Returns the tensors of one layer, their elements in order."""
    threads = 1 if rule.stacked else copying.WORKERS
    named = zip(rule.tensors(layer), rule.export_layer(layers[layer]), strict=True)
    return [
        (n, copying.contiguous(x, threads=threads).astype(dtypes.get(n, x.dtype), copy=False))
        for n, x in named
    ]


def _layers(rule: Rule, shape: Shape) -> list[Shape]:
    return [shape[1:]] * shape[0] if rule.stacked else [shape]
