# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
from mimir_jax import config as c
from mimir_jax.planning import dry_run

T5 = c.T5Config(vocab_size=896, width=16, num_layers=1, num_heads=2, head_dim=8, mlp_dim=16)


def test_a_dry_run_reads_compiles_and_writes_nothing(tmp_path):
    system = c.LanguageSystemConfig(model=T5, heldout_texts=8)
    lines = []
    dry_run.dry_run(c.TrainConfig(system=system, steps=2), tmp_path / "run", lines.append)
    text = "\n".join(lines)
    assert "memory of a device, estimated" in text and "training records" in text
    assert "8x64 int32" in text and "parameters; frozen networks: none" in text
    assert "train step: " in text
    assert list(tmp_path.iterdir()) == []
