# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Test run settings: CPU, eight fake devices, strict numerics, quick compilation."""

import dataclasses
import importlib.metadata
import os
import tempfile

# Most of a test is compilation. Code that is written the older way, which went with jaxlib 0.11,
# and that LLVM does not optimise takes a fifth of the time and differs by rounding alone. The
# launch scripts that tests start inherit it.
_quick = ["--xla_backend_optimization_level=0"]
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _quick.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_quick])

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# What one test compiled serves the next, which often builds the same program again.
_cache = tempfile.TemporaryDirectory()
jax.config.update("jax_compilation_cache_dir", _cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_collection_modifyitems(items):
    """Puts the longest files first, so that no worker is left alone with one at the end."""
    longest = ("test_loop.py", "test_launch.py", "test_aot.py")
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture(autouse=True)
def nothing_goes_on():
    """Waits for what a test left compiling, which would slow down or end the next one."""
    yield
    from mimir_jax import threads  # only now, so that jaxtyping has seen to the package

    threads.wait()


@pytest.fixture
def strict_dtypes():
    """Refuses implicit dtype promotion inside a model test."""
    with jax.numpy_dtype_promotion("strict"):
        yield


# What imports the package does so inside the fixtures: jaxtyping must see to it first.


@pytest.fixture(scope="session")
def frozen(tmp_path_factory):
    """Folders of random VAE, T5 and LLM, with tokenizers."""
    from tests import runs

    root = tmp_path_factory.mktemp("frozen")
    runs.write_frozen(root)
    return root


@pytest.fixture(scope="session")
def mimir_run(frozen):
    """Returns the config of a Mimir run of six steps."""
    from tests import runs

    return runs.mimir_run(frozen)


@pytest.fixture(scope="session")
def vae_run():
    """Returns the config of a VAE run of two steps."""
    from tests import runs

    return runs.vae_run()


@pytest.fixture(scope="session")
def replace():
    """Returns `dataclasses.replace`, for nested edits in one line."""
    return dataclasses.replace
