# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Quantised kernels of the linear layers of any network, for inference.

What is quantised: the kernels of linear layers in repeated blocks, so those of attention and
feed-forward. Everything else stays as it is: biases, norms and the modulation that follows them,
embeddings, whatever stands before or after the blocks (patches, text and time projections, output
projections), convolutions.

A kernel at `x/kernel` becomes `x/kernel/values` in 8 bits and `x/kernel/scale`, a float32 per layer
and output channel, such that `kernel` is about `values * scale`. The arithmetic is that of qwix
(extra `quantize`), which is imported when a network is quantised. Its own interception of modules
does not see ours, which are scanned over stacked layers and called as pure functions.
"""

import dataclasses
import functools
import importlib
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mimir_jax.config import Quantization
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional, layers
from mimir_jax.models import params as params_lib

PARTS = VALUES, SCALE = "values", "scale"
"""Names of the parts of a quantised kernel."""

_DTYPES = {
    "int8": jnp.int8,
    "int8_activations": jnp.int8,
    "fp8": jnp.float8_e4m3fn,
}
_MODULATION = re.compile(r"(^|/)norm[^/]*/")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantizedKernel:
    """Stands for a kernel where a linear layer computes `x @ kernel`.

    Attributes:
        values: (..., i, o) in 8 bits, the leading axis over layers if there is one.
        scale: (..., 1, o).
        activations: Whether `x` is quantised too, each row by its largest value, so that products
            are those of integers.
    """

    values: Any  # an array, or whatever else a transformation puts into the leaves of a tree
    scale: Any
    activations: bool = dataclasses.field(default=False, metadata={"static": True})

    def __getitem__(self, index: Any) -> "QuantizedKernel":
        """Returns itself, as a linear layer reads its kernel by `kernel[...]`."""
        if index is not Ellipsis:
            raise TypeError(f"a quantised kernel is read whole, got index {index!r}")
        return self

    def astype(self, dtype: jax.typing.DTypeLike) -> "QuantizedKernel":
        """Returns itself: the product has the dtype of what it is multiplied with."""
        del dtype
        return self

    def __rmatmul__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Returns `x @ kernel`, summed in float32 or, with quantised activations, exactly.

        The scale is applied to the sums: 8-bit values are exact in every compute dtype, scaled ones
        would be rounded.
        """
        dims = (((x.ndim - 1,), (0,)), ((), ()))
        if self.activations:
            qwix = library()
            rows = quantize_rows(x)
            y = qwix.dot_general(rows, qwix.QArray(self.values, self.scale), dims)
        else:
            values = self.values.astype(x.dtype)
            y = jax.lax.dot_general(x, values, dims, preferred_element_type=jnp.float32)
            y = y * layers.along_last(self.scale[0], y)
        return y.astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Quantized(functional.Model):
    """A network with quantised kernels; a `Model` in everything, for inference.

    It computes with the parameters of the plain network too, wherever they are not quantised.

    Attributes:
        plain: The network with floating-point kernels.
        how: How they are quantised.
    """

    plain: functional.Model
    how: Quantization

    @functools.cached_property
    def targets(self) -> tuple[str, ...]:
        """Paths of the kernels that are quantised."""
        linear = {f"{path}/kernel" for path in self.plain.paths_of(layers.Linear)}
        return tuple(
            path
            for path, axes in params_lib.flatten(self.plain.axes).items()
            if path in linear and axes[0] == "layers" and not _MODULATION.search(path)
        )

    @functools.cached_property
    def abstract_params(self) -> functional.Params:
        """Shapes and dtypes of the parameters."""
        return jax.eval_shape(self.quantize, self.plain.abstract_params)

    @functools.cached_property
    def axes(self) -> dict[str, Any]:
        """Logical axes; values have those of their kernel."""
        axes = params_lib.flatten(self.plain.axes)
        for target in self.targets:
            *layer, rows, columns = axes.pop(target)
            axes[f"{target}/{VALUES}"] = (*layer, rows, columns)
            axes[f"{target}/{SCALE}"] = (*layer, None, columns)
        return params_lib.unflatten(axes)

    def init(self, key: jax.Array) -> functional.Params:
        """Draws parameters and quantises them."""
        return self.quantize(self.plain.init(key))

    def quantize(self, params: functional.Params) -> functional.Params:
        """Returns parameters of the plain network with quantised kernels."""
        flat = params_lib.flatten(params)
        for target in self.targets:
            flat[target] = quantize(flat[target], self.how)
        return params_lib.unflatten(flat)

    def _bind(self, params: functional.Params) -> Any:
        flat = params_lib.flatten(params)
        for target in self.targets:
            if f"{target}/{VALUES}" in flat:
                values, scale = (flat.pop(f"{target}/{part}") for part in PARTS)
                flat[target] = QuantizedKernel(values, scale, self.how == "int8_activations")
        return self.plain._bind(params_lib.unflatten(flat))


@functools.cache
def quantized(model: functional.Model, how: Quantization) -> functional.Model:
    """Returns a network with quantised kernels; itself for `off`.

    Args:
        model: Any network; adapters stay in floating point beside the kernels.
        how: `int8` and `fp8` (e4m3) have 8-bit kernels; with `int8_activations` linear layers
            multiply integers alone.

    Raises:
        InputError: without qwix, or for a network without linear layers in repeated blocks.
    """
    if how == "off":
        return model
    library()
    made = Quantized(config=model.config, module=model.module, plain=model, how=how)
    require(
        bool(made.targets),
        f"quantize must be off for {model.module.__name__}, which has no linear layers in repeated "
        f"blocks, got {how}; leave it out",
    )
    return made


@functools.partial(jax.jit, static_argnames=("how", "shardings"))
def quantize(
    kernel: Float[Array, "*layers i o"],
    how: Quantization,
    shardings: tuple[NamedSharding, NamedSharding] | None = None,
) -> dict[str, Array]:
    """Returns `values` and `scale` of a kernel; traceable.

    The scale of an output channel maps its largest absolute value to the largest of 8 bits, so an
    int8 value is off by at most half a step, and an fp8 one by a sixteenth of itself.

    Args:
        kernel: The kernel.
        how: Not `off`.
        shardings: Of values and scale; None leaves them to the compiler.
    """
    columns = [axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2]
    array = library().quantize(
        kernel.astype(jnp.float32), _DTYPES[how], channelwise_axes=tuple(columns)
    )
    parts = array.qvalue, array.scale
    if shardings is not None:
        parts = jax.lax.with_sharding_constraint(parts, shardings)
    return {VALUES: parts[0], SCALE: parts[1]}


def quantize_rows(x: Float[Array, "*b i"]) -> Any:
    """Returns activations as a `QArray` of int8 with a float32 scale per row."""
    rows = tuple(range(x.ndim - 1))
    return library().quantize(x.astype(jnp.float32), jnp.int8, channelwise_axes=rows)


def is_quantized(params: functional.Params) -> bool:
    """Whether any kernel of a nested dict of parameters is quantised."""
    return any(path.endswith(f"/kernel/{VALUES}") for path in params_lib.flatten(params))


def library() -> types.ModuleType:
    """Returns qwix.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module("qwix")
    except ImportError:
        raise InputError(
            "quantize needs qwix, which is not installed; pip install 'mimir-jax[quantize]', or "
            "leave quantize out"
        ) from None
