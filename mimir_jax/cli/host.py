# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that make JAX start and run faster on its host."""

import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import os
import pathlib

_SETTINGS = {  # what a shell may ask of other programs, and would change results or end a command
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_ENABLE_X64": "0",
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_THREEFRY_PARTITIONABLE": "1",
}


def prepare_host() -> None:
    """Tunes compilation, garbage collection and memory allocation; call before importing JAX.

    - JAX computes in 32 bits, promotes dtypes and draws random numbers in one way, whatever the
      shell asks for: a seed gives one result. Only training guards transfers, around its loop.
    - Compiled programs are cached on disk for the next run.
    - Python collects cyclic garbage less often: tracing creates so many objects that the
      collector takes an eighth of the start-up time otherwise.
    - glibc keeps freed memory. XLA on a CPU allocates and frees large buffers in every step; by
      default glibc returns them to the kernel, which zeroes each page again, and that is a fifth
      of a small model's step. One arena per core: with fewer, compiling threads wait for each
      other; with more, each arena holds memory that the others could use.
    """
    gc.set_threshold(100_000)
    fix_results()
    cache_programs()
    if only_cpu():
        os.environ["XLA_FLAGS"] = f"{_quick_compilation()} {os.environ.get('XLA_FLAGS', '')}"
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # only glibc has it
        trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
        mallopt(arena_max, os.cpu_count())
        mallopt(top_pad, 2**26)  # the size of an arena's heap, so that none is returned
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def fix_results() -> None:
    """Takes back what the shell asks of JAX that would change results; call before importing it."""
    for name in [name for name in os.environ if name.startswith("JAX_TRANSFER_GUARD")]:
        del os.environ[name]
    os.environ |= _SETTINGS


def cache_programs() -> None:
    """Stores compiled programs below the home folder, unless the environment names another one.

    A user without a home folder has no store.
    """
    with contextlib.suppress(RuntimeError):  # of a user without a home folder, as in containers
        cache = pathlib.Path.home() / ".cache" / "mimir_jax" / "xla"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def only_cpu() -> bool:
    """Returns whether JAX will use CPUs alone: by JAX_PLATFORMS, or for lack of a plugin."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))


def _quick_compilation() -> str:
    """Returns XLA flags that compile a train step for a CPU in two thirds of the time.

    The step spends its time in matrix products, which a library computes. The code that XLA
    generates around them runs as fast when LLVM optimises at level 1 and when XLA uses the older
    emitters, which jaxlib 0.11 removed.
    """
    flags = ["--xla_backend_optimization_level=1"]
    if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)
