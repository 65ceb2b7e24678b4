# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the converter knows of a kind of network: its published configs and its table."""

import abc
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from flax import nnx

from mimir_jax.errors import InputError
from mimir_jax.models import functional, params
from mimir_jax.weights.rules import Rule
from mimir_jax.weights.tensors import Tensor, Tensors

Raw = dict[str, Any]
"""A published `config.json`."""

Library = Literal["transformers", "diffusers", "divot"]


class Family:
    """One kind of network.

    Attributes:
        kind: Key of `config.KINDS`.
        module: The network.
        classes: Published classes it reads, the one it writes first; none for our own.
        holders: Published classes of whole models that hold one, read where this kind is asked for.
    """

    kind: ClassVar[str]
    module: ClassVar[type[nnx.Module]]
    classes: ClassVar[tuple[str, ...]] = ()
    holders: ClassVar[tuple[str, ...]] = ()

    def build(self, config: Any) -> functional.Model:
        """Returns the network."""
        return functional.build(self.module, config)

    def abstract(self, config: Any) -> dict[str, Any]:
        """Returns the shapes of our parameters by path."""
        return params.flatten(self.build(config).abstract_params)

    def with_dtype(self, config: Any, dtype: str) -> Any:
        """Returns the config with another compute dtype."""
        return dataclasses.replace(config, dtype=dtype)


class Published(Family, abc.ABC):
    """A kind of network that others publish weights of.

    Attributes:
        library: Where the published form belongs.
        stem: Name of the published weight file without suffix.
        ignored: Regular expressions of published tensors that do not matter.
        anchor: Regular expression of the name of a tensor that every checkpoint of the kind has;
            what stands before it is the name of a wrapper.
        stems: What the names of other classes of the network contain, in lower case.
        reports_extra: Whether tensors that are not known are reported, where others are refused.
        compute: Dtype of the computation; None takes the one that most tensors are stored in.
    """

    library: ClassVar[Library]
    stem: ClassVar[str]
    ignored: ClassVar[tuple[str, ...]] = ()
    anchor: ClassVar[str] = ""
    stems: ClassVar[tuple[str, ...]] = ()
    reports_extra: ClassVar[bool] = False
    compute: ClassVar[str | None] = None

    def matches(self, tensors: Tensors) -> bool:
        """Whether tensors that come without a config are of this kind; False for most."""
        del tensors
        return False

    @abc.abstractmethod
    def read_config(self, raw: Raw, tensors: Mapping[str, Tensor]) -> Any:
        """Returns our config for a published one; tensors decide where configs are known to lie.

        Raises:
            ValueError: for settings that the network does not have.
        """

    @abc.abstractmethod
    def write_config(self, config: Any, name: str) -> Raw:
        """Returns the published config of class `name`."""

    @abc.abstractmethod
    def rules(self, config: Any, name: str) -> list[Rule]:
        """Returns the table of class `name`."""

    def find_class(self, name: str, raw: Raw, tensors: Mapping[str, Tensor]) -> str | None:
        """Returns the class, one of `classes`, that has these tensors under another name.

        Args:
            name: Class that the config names.
            raw: The config.
            tensors: The tensors.

        Returns:
            None if the network is another one.
        """
        del raw
        akin = not name or any(stem in name.lower() for stem in self.stems)
        return self.classes[0] if self.stems and akin and has_anchor(tensors, self.anchor) else None

    def table(self, config: Any, name: str, raw: Raw) -> list[Rule]:
        """Returns the table of class `name` with the published config `raw`.

        That of the class alone for most; a class may come in layouts that its config tells apart.
        """
        del raw
        return self.rules(config, name)

    def part(self, raw: Raw) -> Raw:
        """Returns the config of the network out of that of a whole model; the same for most."""
        return raw

    def prepare(self, raw: Raw, tensors: Tensors) -> Tensors:
        """Renames tensors that go by several names; the identity for most."""
        del raw
        return tensors

    def export_class(self, config: Any, name: str | None) -> str:
        """Returns the class to write what was read from class `name`, None for our own."""
        del config
        return name or self.classes[0]

    def architecture(self, config: Any, name: str) -> str:
        """Returns the class of its library that opens what the table of class `name` writes."""
        del config
        return name

    @abc.abstractmethod
    def licence(self, config: Any) -> str:
        """Returns what is known of the licence of published weights of this kind."""


class Sizes:
    """Sizes of a network that its tensors tell.

    Args:
        tensors: A checkpoint.
        prefix: Beginning of the names that are asked for.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = ""):
        self._shapes = {
            name.removeprefix(prefix): tensor.shape
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        self._prefix = prefix

    def any(self, start: str) -> bool:
        """Whether the name of a tensor begins with `start`."""
        return any(name.startswith(start) for name in self._shapes)

    def last(self, start: str) -> int:
        """Returns the largest index behind `start`, -1 without any."""
        rest = (name.removeprefix(start) for name in self._shapes if name.startswith(start))
        return max((int(x.partition(".")[0]) for x in rest if x[:1].isdigit()), default=-1)

    def of(self, *places: tuple[str, int]) -> int:
        """Returns the size of the first tensor that is there, each given with an axis.

        Raises:
            InputError: if none is there.
        """
        for name, axis in places:
            if len(shape := self._shapes.get(name, ())) > axis:
                return shape[axis]
        raise InputError(
            f"tensors must include {self._prefix}{places[0][0]}, which tells a size, it is "
            "missing; download the file again"
        )


def has_anchor(tensors: Mapping[str, Tensor], anchor: str) -> bool:
    """Whether a name is `anchor`, a regular expression, or ends in it after a dot."""
    return any(re.fullmatch(rf"(?:.*\.)?{anchor}", name) for name in tensors)


def field(raw: Raw, name: str, kind: type = int) -> Any:
    """Returns a required field of a published config.

    Raises:
        ValueError: if it is missing or of another type.
    """
    value = raw.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"config.json must give {name} as {kind.__name__}, got {value!r}")
    return value


def demand(raw: Raw, **values: Any) -> None:
    """Checks settings that the network has in one form only; absent ones count as that form.

    Raises:
        ValueError: naming the first that differs.
    """
    for name, value in values.items():
        accepted = value if isinstance(value, tuple) else (value,)
        if raw.get(name, accepted[0]) not in accepted:
            raise InputError(
                f"config.json must have {name} {' or '.join(map(repr, accepted))}, got "
                f"{raw[name]!r}, which this network does not implement"
            )
