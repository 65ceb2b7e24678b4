# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The systems that exist: every folder of `mimir_jax.systems` with a `config.py` is one.

A new folder is enough: its class of `SystemConfig` is found by `kind`, its presets by the folder's
name.
"""

import abc
import dataclasses
import functools
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, ClassVar

import ml_collections

from mimir_jax.errors import InputError

# Imported by name: `config` is below the systems.
_SYSTEMS = "mimir_jax.systems"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemConfig(abc.ABC):
    """What a run trains: the section `system` of its config.

    Attributes:
        kind: Name of the system, fixed by the preset. A subclass gives it a `Literal` type.
    """

    companions: ClassVar[tuple[str, ...]] = ()
    """Fields that name folders which a released run takes along."""

    is_agent: ClassVar[bool] = False
    """Whether it describes videos and writes clips as tokens, by `agent.py` of its folder."""

    kind: str

    @property
    def makes_videos(self) -> bool:
        """Whether the network samples videos for prompts."""
        return False

    @property
    def reads_buckets(self) -> bool:
        """Whether it trains on clips of several shapes and lengths, with `data.buckets`."""
        return False

    @property
    def feature_settings(self) -> dict[str, Any]:
        """Fields that stored features of clips depend on, besides the data and frozen weights."""
        return {}

    @property
    def network_kind(self) -> str:
        """Kind of the weights of the network that trains, a key of `KINDS` where it is one."""
        return self.kind

    @property
    def network(self) -> Any:
        """Config of the network that trains."""
        return None

    def features_beside(self, other: "SystemConfig") -> "SystemConfig":
        """Returns the system whose precomputed features this one trains on beside another.

        Runs of both can share a store, where the features of one system are part of the other's.

        Args:
            other: A system of the same kind.
        """
        del other
        return self

    @abc.abstractmethod
    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the rest of the run, a `TrainConfig`, fits the system."""


def system_classes() -> dict[str, type[SystemConfig]]:
    """Returns the config class of every kind of system."""
    return _classes(tuple(importlib.import_module(_SYSTEMS).__path__))


@functools.cache
def _classes(path: tuple[str, ...]) -> dict[str, type[SystemConfig]]:
    """Returns the classes in the folders of `path`, which `folders` reads."""
    del path
    classes = {}
    for name in folders("config"):
        module = importlib.import_module(f"{_SYSTEMS}.{name}.config")
        for cls in vars(module).values():
            if (
                isinstance(cls, type)
                and issubclass(cls, SystemConfig)
                and cls.__module__ == module.__name__
            ):
                kinds = typing.get_args(typing.get_type_hints(cls)["kind"])
                classes |= dict.fromkeys(kinds, cls)
    return classes


def presets() -> dict[str, Mapping[str, Callable[[], Any]]]:
    """Returns the presets of every system by the name of its folder."""
    return {name: _presets(name).PRESETS for name in folders("presets")}


def find_config(name: str) -> ml_collections.ConfigDict:
    """Returns the run that `SYSTEM` or `SYSTEM:PRESET` names, such as `mimir:tiny/zeroconv`.

    Raises:
        InputError: for a name of none, listing the valid ones.
    """
    system, _, preset = name.partition(":")
    known = folders("presets")
    if system not in known:
        raise InputError(f"config must name one of {', '.join(known)}, got {system!r}")
    get_config = _presets(system).get_config
    return get_config(preset) if preset else get_config()


def folders(module: str) -> list[str]:
    """Returns the names of the system folders that hold a module, in alphabetical order.

    Args:
        module: Its name without suffix.
    """
    found = []
    for info in pkgutil.iter_modules(importlib.import_module(_SYSTEMS).__path__):
        if info.ispkg:
            package = importlib.import_module(f"{_SYSTEMS}.{info.name}")
            if any(m.name == module for m in pkgutil.iter_modules(package.__path__)):
                found.append(info.name)
    return sorted(found)


def _presets(name: str) -> ModuleType:
    return importlib.import_module(f"{_SYSTEMS}.{name}.presets")
