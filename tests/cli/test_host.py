# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
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
    assert host._only_cpu() == quick
