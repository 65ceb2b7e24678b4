# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are complete or absent, and one line where the system refuses one."""

import contextlib
import json
import os
import pathlib
import posixpath
import secrets
import shutil
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any

from mimir_jax import remote
from mimir_jax.errors import InputError

_MARK = "\ufeff"  # a byte order mark, also inside a text, where files were joined


def expand_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns `path` with a leading `~` replaced by the home folder.

    Raises:
        InputError: for the address of remote storage, or an unknown home.
    """
    if remote.is_address(text := os.fspath(path)):
        raise InputError(
            f"path {text} must be of a file system here, got an address of remote storage; mount "
            "the storage, or use a local folder and copy it"
        )
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"path {text} must be of a user with a home folder, got none") from None


def free_name(path: pathlib.Path) -> pathlib.Path:
    """Returns `path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def plain_name(name: str) -> str:
    """Returns a name of a file in the form in which names are compared.

    That is with composed characters and forward slashes, and without `./`.
    """
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


def list_below(folder: pathlib.Path, suffixes: Collection[str]) -> list[pathlib.Path]:
    """Returns the files below a folder that end in `suffixes`, in lower case, in their order.

    Hidden ones are passed over: a Mac leaves `._a.mp4` beside `a.mp4` in other file systems.
    """
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p for p in found if not any(x[0] == "." for x in p.relative_to(folder).parts))


def read_text(path: pathlib.Path, subject: str) -> str:
    """Reads UTF-8 text, without a byte order mark.

    Args:
        path: The file.
        subject: What a message calls it, such as "prompt file".

    Raises:
        InputError: if it cannot be read or is not UTF-8.
    """
    with reading(path, subject):
        return path.read_bytes().decode("utf-8-sig")


def read_lines(path: pathlib.Path, subject: str) -> Iterator[tuple[int, str]]:
    """Yields number, from 1, and text of every line that is not blank; see `read_text`.

    A line ends at a line feed alone: other breaks may be part of a text.
    """
    for number, line in enumerate(read_text(path, subject).split("\n"), 1):
        line = line.replace(_MARK, "").strip()
        if line:
            yield number, line


def clean_text(text: str, subject: str) -> str:
    """Returns a caption or prompt with single spaces where it has white space of any sort.

    Format characters stay: joiners are part of words in Persian and Hindi, and of emoji.

    Args:
        text: The text.
        subject: What a message calls it, such as "prompt 3".

    Raises:
        InputError: if nothing visible is left, or it holds controls or halves of characters.
    """
    spaced = " ".join(text.replace(_MARK, "").split())
    kinds = {unicodedata.category(c) for c in spaced if c != " "}
    if kinds <= {"Cf"} or kinds & {"Cc", "Cs"}:
        what = repr(spaced[:40]) if spaced else "an empty one"
        raise InputError(f"{subject} must be printable text, got {what}; rewrite it")
    return spaced


def read_json(path: pathlib.Path, subject: str) -> dict[str, Any]:
    """Reads a JSON object; see `read_text`."""
    text = read_text(path, subject)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InputError(f"{subject} {path} must be JSON: {error}; write it again") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InputError(f"{subject} {path} must be a JSON object, got a {kind}; write it again")
    return content


@contextlib.contextmanager
def reading(path: pathlib.Path, subject: str) -> Iterator[None]:
    """Turns a refusal of the system to read `path` into an `InputError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"{subject} {path} must be UTF-8 text, got byte {error.object[error.start]:#04x} at "
            f"{error.start}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{subject} {path} must be readable: {reason(error)}") from error


@contextlib.contextmanager
def writing(path: pathlib.Path, subject: str) -> Iterator[None]:
    """Turns a refusal of the system to write to `path` into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{subject} {path} must be writable: {reason(error)}; free space or choose another"
        ) from error


def write_json(
    path: pathlib.Path, content: Any, *, indent: int = 2, ensure_ascii: bool = True
) -> None:
    """Writes JSON and a line end to `path` atomically; see `atomic_file`."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=ensure_ascii) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes UTF-8 text to `path` atomically; see `atomic_file`."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes bytes to `path` atomically; see `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def atomic_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a hidden path in the same folder; what the caller writes there replaces `path`.

    A reader sees the old file or the new one, never a part. Several processes may write the same
    `path`: each has a temporary file of its own, and the last one stays.

    Raises:
        InputError: if the file cannot be written; `path` is unchanged.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        _require_own(error, temporary)
        raise InputError(
            f"file {path} could not be written: {reason(error)}; choose another place or free space"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder beside `folder`, which takes its name at the end.

    After an exception neither of the two is left.

    Raises:
        InputError: if `folder` exists or cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(f"destination {folder} must not exist; delete it or choose another")
    temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in (temporary, *temporary.rglob("*")):
            file.chmod(0o755 if file.is_dir() else 0o644)  # copies may have narrower modes
        os.rename(temporary, folder)
    except OSError as error:
        _require_own(error, temporary)
        raise InputError(
            f"destination {folder} could not be written: {reason(error)}; nothing is left"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def reason(error: OSError) -> str:
    """Returns why the system refused, without the path that a message names anyway."""
    return error.strerror or " ".join(str(error).split())


def _require_own(error: OSError, temporary: pathlib.Path) -> None:
    """Raises `error` again if it names a file that has nothing to do with `temporary`."""
    if isinstance(error.filename, str | bytes):  # else a descriptor, or none
        named, own = (pathlib.Path(os.fsdecode(p)).absolute() for p in (error.filename, temporary))
        if not (named.is_relative_to(own) or own.is_relative_to(named)):
            raise error
