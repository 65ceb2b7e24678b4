# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
from unittest import mock

import pytest

from mimir_jax.cli import host


@pytest.mark.parametrize(
    ("platforms", "plugin", "quick"),
    [("", False, True), ("", True, False), ("cpu", True, True), ("cuda,cpu", False, False)],
)
def test_only_what_runs_on_cpus_alone_is_compiled_the_quicker_way(
    platforms, plugin, quick, monkeypatch, tmp_path
):
    monkeypatch.setattr(host.importlib.metadata, "entry_points", lambda group: ())
    if plugin:
        (tmp_path / "jax_plugins").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert host.only_cpu() == quick


def test_results_do_not_depend_on_what_a_shell_asks_of_jax(monkeypatch):
    asked = {
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "disallow",
    }
    with mock.patch.dict(os.environ, asked):
        host.fix_results()
        assert not [name for name in os.environ if name.startswith("JAX_TRANSFER_GUARD")]
        assert not {name for name, value in asked.items() if os.environ.get(name) == value}


def test_a_user_without_a_home_folder_has_no_cache(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", home)
    with mock.patch.dict(os.environ):
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        host.cache_programs()
        assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
