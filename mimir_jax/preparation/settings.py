# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder of prepared data was made by: its config, and the networks that this names."""

import dataclasses
import operator
import pathlib
import time
from collections.abc import Iterator
from typing import Any

from mimir_jax import files, hashing, weights
from mimir_jax.config import bridge
from mimir_jax.errors import InputError
from mimir_jax.preparation import claims as claims_lib

FILE = "work/settings.json"
CLAIMS = "work/claims"

_NETWORK = "folder"  # field of a plug-in's section that names its network
_ENDS = 1 << 20  # bytes at both ends of a network's file that tell it from another of its size


def check(out: pathlib.Path, config: Any, what: str) -> None:
    """Checks that a folder is new, or was made by the same settings.

    Args:
        out: The folder.
        config: What it is to be made by.
        what: What an earlier command has made there, for the message.

    Raises:
        InputError: if it was made by other settings or networks, or is of something else.
    """
    if not (out / FILE).is_file():
        if _is_of_something_else(out):
            raise InputError(
                f"OUT must be new, empty or of {what}, got {out} with other files; choose another"
            )
        return
    found = files.read_json(out / FILE, "settings")
    if not {"config", "networks"} <= found.keys():
        raise InputError(f"OUT {out} must be of this version, {FILE} is not; choose another folder")
    there = bridge.from_values(type(config), found["config"])
    if names := bridge.differences(there, config):
        one, other = map(operator.attrgetter(names[0]), (there, config))
        raise InputError(
            f"OUT {out} must be of the same settings, {names[0]} is {one!r} there and {other!r} "
            f"here; choose another folder or leave --config.{names[0]} as it was"
        )
    for name, stamp in _networks(config).items():
        if found["networks"].get(name) != stamp:
            path = operator.attrgetter(name)(config)
            raise InputError(
                f"OUT {out} must be of the same networks, {name} {path} has changed since; choose "
                "another folder"
            )


def create(out: pathlib.Path, config: Any, what: str, claims: claims_lib.Claims) -> None:
    """Writes the settings of a new folder, by the process that is first; see `check`.

    Args:
        out: The folder, in which that of the claims exists.
        config: What it is made by.
        what: As for `check`.
        claims: Its claims.
    """
    while not (out / FILE).is_file():
        with claims.claim("settings-all") as ended:
            if ended is not None and not (out / FILE).is_file():
                values = {"config": dataclasses.asdict(config), "networks": _networks(config)}
                files.write_json(out / FILE, values)
        time.sleep(0.0 if ended is not None else 0.1)
    check(out, config, what)  # another process may have been faster


def _is_of_something_else(out: pathlib.Path) -> bool:
    """Whether the folder holds files, and no process has begun to make it."""
    if out.is_file():
        return True
    places = [place for place in (out, out / "work") if place.exists()]
    found = [path for place in places for path in place.iterdir() if path != out / "work"]
    return bool(found) and not (out / CLAIMS).is_dir()  # which is made first


def _networks(config: Any) -> dict[str, str]:
    """Returns a digest of each network that a section names: names, sizes and ends of its files."""
    stamps = {}
    for section, path in _folders(config):
        root = weights.resolve(path)
        parts: list[str | bytes] = []
        with files.reading(root, f"{section}.{_NETWORK}"):
            found = [root] if root.is_file() else sorted(root.rglob("*"))
            for file in (path for path in found if path.is_file()):
                size = file.stat().st_size
                parts += [file.relative_to(root).as_posix(), str(size)]
                with file.open("rb") as content:
                    parts.append(content.read(_ENDS))
                    content.seek(max(size - _ENDS, 0))
                    parts.append(content.read())
        stamps[f"{section}.{_NETWORK}"] = hashing.content_key(*parts).hex()
    return stamps


def _folders(config: Any) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(config):
        section = getattr(config, field.name)
        if (path := getattr(section, _NETWORK, None)) is not None:
            yield field.name, path
