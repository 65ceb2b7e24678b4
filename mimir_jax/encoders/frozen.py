# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen networks: a description that needs no weights, and loading by it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax import weights
from mimir_jax.config import KINDS, Quantization, flag
from mimir_jax.errors import InputError
from mimir_jax.models import functional, quantization
from mimir_jax.weights import opening


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """A network that a system runs and does not train.

    Attributes:
        kind: Kind of its weights, a key of `config.KINDS`.
        path: Folder of its weights; None where the run names none.
        field: Config field that names the folder, relative to the system's section.
        config: The network's config where the run states it; None takes that of the folder.
        dtype: Dtype of parameters and compute; None takes that of `config`, or of the folder.
        split: Whether its parameters are split over the devices of a process, not kept whole on the
            first one.
        quantize: How its kernels are quantised.
    """

    kind: str
    path: str | None
    field: str
    config: Any = None
    dtype: str | None = None
    split: bool = False
    quantize: Quantization = "off"

    def require_path(self) -> str:
        """Returns `path`.

        Raises:
            InputError: if it is None or does not exist.
        """
        if self.path is None:
            raise InputError(
                f"system.{self.field} must name a folder of {self.kind} weights, got None; set it "
                f"with {flag(f'system.{self.field}')}=FOLDER"
            )
        weights.resolve(self.path)
        return self.path

    def load(self, mesh: Mesh | None = None) -> tuple[functional.Model, functional.Params]:
        """Loads the network.

        Args:
            mesh: Devices to split the parameters over; None keeps them on the first device.

        Raises:
            InputError: for a missing folder, one whose config is not the stated one, or a network
                that cannot be quantised.
        """
        path, dtype = self.require_path(), self._dtype(None)
        options = {"kind": self.kind, "dtype": dtype, "mesh": mesh, "quantize": self.quantize}
        model, params = weights.load(path, **options)
        if self.config is not None and model.config != self.config:
            name = f"system.{self.field.removesuffix('_path')}"
            raise InputError(
                f"{name} must be the config of {self.path}, got {self.config} and {model.config}; "
                f"set {name} to the sizes of the weights"
            )
        return model, params

    def describe(self) -> tuple[functional.Model, functional.Params]:
        """Returns the network with shapes and dtypes of its parameters; reads no weights.

        Where the folder is absent, the published default of the kind in 16 bits stands in for it.
        """
        family = opening.FAMILIES[self.kind]
        if self.config is not None:
            config, stored = self.config, self.config.dtype
        elif self._exists():
            config = weights.open_weights(self.path, kind=self.kind).config
            stored = config.dtype
        else:
            config, stored = KINDS[self.kind](), "bfloat16"
        plain = family.build(config)
        model, spec = plain, param_spec(plain, self._dtype(stored))
        if self.quantize != "off":
            model = quantization.quantized(plain, self.quantize)
            spec = jax.eval_shape(model.quantize, spec)
        return model, spec

    def _dtype(self, stored: str | None) -> str | None:
        """Returns the stated dtype, `stored` if there is none."""
        stated = stored if self.config is None else self.config.dtype
        return self.dtype or stated

    def _exists(self) -> bool:
        try:
            self.require_path()
        except InputError:
            return False
        return True


def param_spec(model: functional.Model, dtype: DTypeLike) -> functional.Params:
    """Returns shape and dtype of every parameter of a network stored in `dtype`."""
    dtype = jnp.dtype(dtype)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), model.abstract_params)
