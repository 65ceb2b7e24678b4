# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Modules as pure functions: `build`, `init`, `apply`, and the scanned layer stack.

This is the only file that splits or merges NNX modules. Outside `models/`, parameters are a plain
nested dict of arrays.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_policies

from mimir_jax.config import Remat
from mimir_jax.errors import InputError
from mimir_jax.models import params as params_lib
from mimir_jax.models.rngs import Rngs

Params = params_lib.Params

ATTENTION_OUTPUT = "attention_output"
"""Checkpoint name that the `attention` remat policy keeps."""

FUSED_ATTENTION = "fused_attention"
"""Name of the jitted function around every attention kernel, `(q, k, v, ...) -> y`."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions over a nested dict of parameters.

    Every public method of the module class is reachable as `model.method(params, ...)`;
    `model.apply` is its `__call__`.

    Attributes:
        config: The frozen dataclass the module was built from.
        axes: Logical axis names of every parameter, a nested dict of tuples.
        frozen: Regular expressions of the paths of parameters that never train.
    """

    config: Any
    module: type[nnx.Module]
    frozen: ClassVar[tuple[str, ...]] = ()

    @functools.cached_property
    def _abstract(self) -> tuple[Any, nnx.State]:
        return nnx.split(self.module(self.config, rngs=Rngs(params=None)))

    @functools.cached_property
    def abstract_params(self) -> Params:
        """Shapes and dtypes of the parameters, as `jax.ShapeDtypeStruct`s."""
        return nnx.to_pure_dict(self._abstract[1])

    @functools.cached_property
    def axes(self) -> dict[str, Any]:
        """Logical axes of every parameter, in the structure of the parameters."""
        flat = nnx.to_flat_state(self._abstract[1])
        return params_lib.unflatten({"/".join(path): _axes(v, path) for path, v in flat})

    @property
    def num_params(self) -> int:
        """Number of scalar parameters."""
        return sum(x.size for x in jax.tree.leaves(self.abstract_params))

    def paths_of(self, kind: type[nnx.Module]) -> tuple[str, ...]:
        """Returns the `/`-joined paths of the modules of class `kind`."""
        modules = nnx.iter_modules(nnx.merge(*self._abstract))
        return tuple("/".join(map(str, path)) for path, m in modules if isinstance(m, kind))

    def init(self, key: jax.Array) -> Params:
        """Draws parameters; pure, so `jax.jit` it with `out_shardings` for large models."""
        module = self.module(self.config, rngs=Rngs(params=key))
        return nnx.to_pure_dict(nnx.split(module)[1])

    def apply(self, params: Params, *args, **kwargs) -> Any:
        """Calls the module with `params`; numpy arguments become JAX arrays."""
        args, kwargs = _as_jax((args, kwargs))
        return self._bind(params)(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Returns the module method `name` as a function of `(params, ...)`."""
        if name.startswith("_") or not callable(getattr(self.module, name, None)):
            raise AttributeError(f"{self.module.__name__} has no public method {name!r}")

        def call(params: Params, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = _as_jax((args, kwargs))
            return getattr(self._bind(params), name)(*args, **kwargs)

        return call

    def _bind(self, params: Params) -> nnx.Module:
        graphdef, abstract = self._abstract
        return nnx.merge(graphdef, _fill(abstract, params))


@functools.cache
def build(module: type[nnx.Module], config: Any) -> Model:
    """Returns `module(config, rngs=...)` as pure functions; allocates nothing.

    Equal arguments give the same object, so that its shapes are traced once.
    """
    return Model(config=config, module=module)


class Stack(nnx.Module):
    """Equal blocks with parameters stacked on a leading `layers` axis, run by `lax.scan`.

    Args:
        make: Builds one block, called as `make(rngs=rngs)`.
        num_layers: Number of blocks.
        remat: Which activations the backward pass reads instead of recomputing them: `none` keeps
            all, `full` block inputs only. `attention` also keeps activations tagged with
            `ATTENTION_OUTPUT` and the results of fused attention kernels with their softmax
            statistics; `dots` adds the results of all linear maps.
        unroll: Number of blocks in one iteration of the scan.
    """

    def __init__(
        self,
        make: Callable[..., nnx.Module],
        num_layers: int,
        remat: Remat,
        *,
        rngs: Rngs,
        unroll: int = 1,
    ):
        graphdef, one = nnx.split(make(rngs=Rngs(params=None)))
        key = rngs.params()
        if key is None:
            stacked = lambda x: jax.ShapeDtypeStruct((num_layers, *x.shape), x.dtype)  # noqa: E731
            state = jax.tree.map(stacked, one)
        else:
            draw = jax.vmap(lambda key: nnx.split(make(rngs=Rngs(params=key)))[1])
            state = draw(jax.random.split(key, num_layers))
        for path, param in nnx.to_flat_state(state):
            param.set_metadata(axes=("layers", *_axes(param, path)))
        self.block = nnx.merge(graphdef, state)
        self.remat = remat
        self.unroll = unroll

    def __call__(self, body: Callable, carry: Any, xs: Any = None) -> tuple[Any, Any]:
        """Scans `carry, y = body(block, carry, x)` over the blocks.

        Args:
            body: Called with each block, the running carry and that layer's slice of `xs`.
            carry: State that each block passes to the next.
            xs: Optional pytree with a leading layer axis (a KV cache, say).

        Returns:
            The last carry and the stacked `y`.
        """
        graphdef, state = nnx.split(self.block)

        def step(carry, layer):
            layer_state, x = layer
            return body(nnx.merge(graphdef, layer_state), carry, x)

        step = checkpointed(step, self.remat, prevent_cse=False)  # a scan prevents it
        return jax.lax.scan(step, carry, (state, xs), unroll=self.unroll)


def checkpointed(function: Callable, remat: Remat, *, prevent_cse: bool = True) -> Callable:
    """Returns `function` with the activations that its gradient keeps chosen as in `Stack`.

    Args:
        function: Any function of arrays.
        remat: Which activations are kept.
        prevent_cse: Whether the compiler must be kept from merging both forward passes; it is by
            itself inside a scan.
    """
    if remat == "none":
        return function
    policy = {"attention": _keeps_attention, "dots": _keeps_dots, "full": None}[remat]
    return jax.checkpoint(function, policy=policy, prevent_cse=prevent_cse)


def named(modules: Iterable[nnx.Module]) -> nnx.Dict:
    """Returns modules under the names "0", "1", ..., as parameter paths of string keys."""
    return nnx.Dict({str(i): module for i, module in enumerate(modules)})


def layer_index(layer: int, num_layers: int) -> int:
    """Returns the number of blocks before the states of `layer`.

    Layers count as the `hidden_states` of transformers do: 0 is what the first block reads, `i` the
    output of block `i`, and -1 that of the last.

    Raises:
        InputError: if there is no such layer.
    """
    if not -num_layers - 1 <= layer <= num_layers:
        raise InputError(
            f"layer must lie between {-num_layers - 1} and {num_layers} (0 is the embedding, "
            f"-1 the final states), got {layer}"
        )
    return layer % (num_layers + 1)


def _keeps_attention(primitive: Any, *args: Any, **params: Any) -> bool:
    """Checkpoint policy `attention`.

    A tag on the output of a fused kernel does not reach the residuals of the kernel's own gradient
    rule, so the policy recognises the kernel by its name (`dot_product_attention_fwd...`, cuDNN).
    """
    tagged = checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT)
    fused = primitive.name.startswith("dot_product_attention_fwd")
    return fused or tagged(primitive, *args, **params)


def _keeps_dots(primitive: Any, *args: Any, **params: Any) -> bool:
    """Checkpoint policy `dots`; products of two activations have batch dimensions."""
    linear = checkpoint_policies.dots_with_no_batch_dims_saveable
    return linear(primitive, *args, **params) or _keeps_attention(primitive, *args, **params)


def _as_jax(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)


def _axes(param: nnx.Variable, path: tuple) -> tuple[str | None, ...]:
    axes = param.get_metadata().get("axes")
    if axes is None or not isinstance(param, nnx.Param):
        raise TypeError(f"every leaf of a model must be an nnx.Param with axes, got {path}")
    return axes


def _fill(abstract: nnx.State, params: Params) -> nnx.State:
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return state
