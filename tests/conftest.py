# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Test run settings: CPU, eight fake devices, strict numerics, quick compilation."""

import dataclasses
import gc
import importlib.metadata
import os
import pathlib
import shutil

# Most of a test is compilation. Code that is written the older way, which went with jaxlib 0.11,
# and that LLVM does not optimise takes a fifth of the time and differs by rounding alone. The
# launch scripts that tests start inherit it.
_quick = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",  # as many workers as cores compile at once
]
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _quick.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_quick])

# What one test compiled serves every later one, those of other workers, of the commands that tests
# start and of the next run of the suite.
_cache = pathlib.Path(__file__).parents[1] / ".pytest_cache/xla"
if "PYTEST_XDIST_WORKER" not in os.environ and _cache.is_dir():
    if sum(file.stat().st_size for file in _cache.iterdir()) > 2**31:
        shutil.rmtree(_cache)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_cache)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

gc.set_threshold(100_000)  # tracing makes many objects, which are rarely garbage

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Files that take longest; first, so that no worker is left alone with one at the end.
LONGEST = (
    "test_launch.py", "test_divot_llm.py", "test_cogvideox.py", "test_vae.py", "test_judge.py",
    "test_edits.py", "test_precompute.py", "test_agents.py", "test_loop.py",
    "test_vimi_system.py", "test_new_system.py", "test_toyworld.py", "test_open.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Puts the longest files first."""
    rank = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


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
def llava_folder(tmp_path_factory):
    """Folder of a random LLaVA, with its tokenizer."""
    from tests import runs

    folder = tmp_path_factory.mktemp("llava") / "llava"
    runs.write_llava(folder)
    return folder


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
