# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import pathlib

import mimir_jax
from mimir_jax.parallel import jax_internals


def test_one_process_has_no_store_and_no_scheduler(monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert jax_internals.key_value_client() is None
    assert jax_internals.detect_cluster(1) == (None, None, None)


def test_no_other_file_imports_private_jax():
    root = pathlib.Path(mimir_jax.__file__).parent
    found = {path.name for path in root.rglob("*.py") if "jax._src" in path.read_text()}
    assert found == {"jax_internals.py"}
