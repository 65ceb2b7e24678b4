# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (LoRA, arXiv 2106.09685) on the linear layers of any network.

An adapted network has the parameters of the plain one, its adapted part frozen, and below `lora`
the two factors of every target: for `dit/x/kernel`, `lora/dit/x/a` and `lora/dit/x/b`. Activations
are multiplied by the factors one after the other. The sum of kernel and product is never formed, so
a step needs neither a merged kernel nor the gradient of one.

In training, adapters may drop part of what they read. The key of the draws is put among the
parameters for one step (`Adapted.with_dropout`) and is split over adapters and layers.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mimir_jax import noise
from mimir_jax.config import LoraConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, layers
from mimir_jax.models import params as params_lib

NAME = "lora"
"""Top-level name of the adapters."""

DROPOUT = "lora_dropout"
"""Name of the key that draws what adapters drop, beside the parameters of a step."""

_KERNEL = "/kernel"
_STREAM = 0x10A  # of the key of a step, apart from what the loss draws


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankKernel:
    """Stands for `kernel + scale * a @ b` where a linear layer computes `x @ kernel`.

    Attributes:
        kernel: (..., i, o), the leading axis over layers if there is one.
        a: (..., i, rank).
        b: (..., rank, o).
        scale: Alpha over rank.
        key: Draws what the factors do not read, with the leading axis of the others; None drops
            nothing.
        dropout: Share of it.
    """

    kernel: Any  # an array, or whatever else a transformation puts into the leaves of a tree
    a: Any
    b: Any
    scale: float = dataclasses.field(metadata={"static": True})
    key: Any = None
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __getitem__(self, index: Any) -> "LowRankKernel":
        """Returns itself, as a linear layer reads its kernel by `kernel[...]`."""
        if index is not Ellipsis:
            raise TypeError(f"an adapted kernel is read whole, got index {index!r}")
        return self

    def astype(self, dtype: jax.typing.DTypeLike) -> "LowRankKernel":
        """Casts kernel and factors."""
        cast = {name: getattr(self, name).astype(dtype) for name in ("kernel", "a", "b")}
        return dataclasses.replace(self, **cast)

    def __rmatmul__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Returns `x @ kernel + scale * (x @ a) @ b`, with numbers of the second `x` dropped."""
        read = x
        if self.key is not None:
            kept = noise.keep(self.key, 1 - self.dropout, x.shape)
            read = jnp.where(kept, x / (1 - self.dropout), 0)
        return x @ self.kernel + self.scale * ((read @ self.a) @ self.b)


@dataclasses.dataclass(frozen=True)
class Adapted(functional.Model):
    """A network with adapters; a `Model` in everything.

    Attributes:
        lora: Rank, scale and targets.
        base: Top-level name of the adapted part; "" adapts the whole network. The parameters of
            this part are frozen, but for those that `lora.train` names.
    """

    lora: LoraConfig
    base: str

    @property
    def frozen(self) -> tuple[str, ...]:
        """Regular expressions of the paths of parameters that never train."""
        spared = "".join(f"(?!.*(?:{pattern}))" for pattern in self.lora.train)
        return (f"^{spared}{self.base}/" if self.base else f"^(?!{NAME}/){spared}",)

    @functools.cached_property
    def plain(self) -> functional.Model:
        """The network without adapters."""
        return functional.build(self.module, self.config)

    @functools.cached_property
    def abstract_params(self) -> functional.Params:
        """Shapes and dtypes of base and adapters."""
        return jax.eval_shape(self.init, jax.random.key(0))

    @functools.cached_property
    def axes(self) -> dict[str, Any]:
        """Logical axes; those of a kernel are split between its factors."""
        axes = params_lib.flatten(self.plain.axes)
        for target in self.targets:
            *layers, rows, columns = axes[target]
            a, b = factor_paths(target)
            axes |= {a: (*layers, rows, None), b: (*layers, None, columns)}
        return params_lib.unflatten(axes)

    @functools.cached_property
    def targets(self) -> tuple[str, ...]:
        """Paths of the adapted kernels, all of linear layers.

        Raises:
            InputError: if a pattern matches none.
        """
        linear = {f"{path}{_KERNEL}" for path in self.plain.paths_of(layers.Linear)}
        part = f"{self.base}/" if self.base else ""
        paths = params_lib.flatten(self.plain.abstract_params)
        kernels = [path for path in paths if path in linear and path.startswith(part)]
        for pattern in self.lora.targets:
            if not any(re.search(pattern, path) for path in kernels):
                raise InputError(
                    f"lora.targets pattern {pattern!r} must match the kernel of a linear layer of "
                    f"{self.base or 'the network'}, got none of {len(kernels)}"
                    f"{f' such as {kernels[0]!r}' if kernels else ''}; name others"
                )
        return tuple(p for p in kernels if any(re.search(t, p) for t in self.lora.targets))

    def init(self, key: jax.Array) -> functional.Params:
        """Draws base and adapters; `b` is zero, so that the network begins as its base."""
        flat = params_lib.flatten(self.plain.init(key))
        for path in flat:
            if re.search(self.frozen[0], path):
                flat[path] = flat[path].astype(self.lora.base_dtype)
        keys = jax.random.split(jax.random.fold_in(key, 1), len(self.targets))
        for target, key in zip(self.targets, keys, strict=True):
            *layers, rows, columns = flat[target].shape
            a, b = factor_paths(target)
            flat[a] = jax.random.normal(key, (*layers, rows, self.lora.rank)) * rows**-0.5
            flat[b] = jnp.zeros((*layers, self.lora.rank, columns))
        return params_lib.unflatten(flat)

    def with_dropout(self, params: functional.Params, key: jax.Array) -> functional.Params:
        """Returns parameters whose adapters drop what `key` draws; the same without dropout."""
        return {**params, DROPOUT: key} if self.lora.dropout else params

    def _bind(self, params: functional.Params) -> Any:
        return super()._bind(attach(params, self.lora))


def dropping(loss: Callable[..., Any], model: functional.Model) -> Callable[..., Any]:
    """Returns a loss `(params, batch, key, ...)` whose adapters drop what the key draws.

    Args:
        loss: The loss, which drops nothing.
        model: Its network; one without adapters leaves it as it is.
    """
    if not isinstance(model, Adapted):
        return loss

    def dropped(params: functional.Params, batch: Any, key: jax.Array, *factors: Any) -> Any:
        params = model.with_dropout(params, jax.random.fold_in(key, _STREAM))
        return loss(params, batch, key, *factors)

    return dropped


def adapt(model: functional.Model, config: LoraConfig, *, base: str) -> functional.Model:
    """Returns `model` with adapters; unchanged if `config.rank` is 0.

    Args:
        model: Any network.
        config: Rank, scale and targets, patterns of the paths of kernels.
        base: Top-level name of the part to adapt and freeze; "" takes the whole network.
    """
    if config.rank == 0:
        return model
    return Adapted(config=model.config, module=model.module, lora=config, base=base)


def attach(params: functional.Params, config: LoraConfig) -> functional.Params:
    """Returns parameters for the plain network, with a `LowRankKernel` at every target."""
    flat = params_lib.flatten(params)
    key = flat.pop(DROPOUT, None)
    for index, target in enumerate(targets(flat)):
        a, b = (flat.pop(path) for path in factor_paths(target))
        own = None if key is None else jax.random.fold_in(key, index)
        if own is not None and a.ndim > 2:
            own = jax.random.split(own, a.shape[:-2])  # one for each layer
        flat[target] = LowRankKernel(
            flat[target], a, b, config.scale, own, 0.0 if own is None else config.dropout
        )
    return params_lib.unflatten(flat)


def targets(paths: Iterable[str]) -> list[str]:
    """Returns the kernels whose adapters are among `paths`."""
    inner = (path.removeprefix(f"{NAME}/") for path in paths if path.startswith(f"{NAME}/"))
    return [f"{path.removesuffix('/a')}{_KERNEL}" for path in inner if path.endswith("/a")]


def factor_paths(target: str) -> tuple[str, str]:
    """Returns the paths of the factors of the kernel at `target`."""
    place = f"{NAME}/{target.removesuffix(_KERNEL)}"
    return f"{place}/a", f"{place}/b"


def merged(
    kernel: np.ndarray, a: np.ndarray, b: np.ndarray, config: LoraConfig
) -> Float[np.ndarray, "*layers i o"]:
    """Returns `kernel + scale * a @ b` in float32."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    return kernel.astype(np.float32) + np.float32(config.scale) * (a @ b)
