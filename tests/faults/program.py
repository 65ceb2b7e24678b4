# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The real program on a small text model, started, watched and ended in many ways."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
SCALE = float(os.environ.get("FAULTS_SCALE", "0.1"))
"""Share of the full counts that is tried; 1 takes about an hour."""

STEPS = 60
SMALL = (
    *("--config", "language:t5", f"--config.steps={STEPS}", "--config.batch_size=4"),
    *("--config.log_every=1", "--config.system.heldout_texts=4", "--config.checkpoint_every=10"),
    *("--config.eval_every=20", "--config.keep_checkpoints=3", "--config.system.model.width=16"),
    *("--config.optimizer.warmup_steps=2", "--config.data.toyworld.num_scenes=16"),
)


def count(full):
    """Returns how many of `full` tries to make, at least one."""
    return max(1, round(SCALE * full))


class Command:
    """A command of `mimir-jax` in a process of its own; killed at the end of the block."""

    def __init__(self, verb, *flags, **popen):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mimir_jax.cli.main", verb, *map(str, flags)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def end(self, seconds=600):
        """Returns exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


class Training(Command):
    """A run of `mimir-jax train` on the small text model."""

    def __init__(self, workdir, *flags):
        self.workdir = pathlib.Path(workdir)
        super().__init__("train", *SMALL, "--workdir", workdir, *flags)

    def until_step(self, step, seconds=300):
        """Returns once `metrics.jsonl` has a step, or the program has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if max(losses(self.workdir), default=0) >= step:
                return
            time.sleep(0.05)


def run(verb, *flags):
    """Runs a command to its end; returns exit code, stdout and stderr."""
    with Command(verb, *flags) as command:
        return command.end()


def train(workdir, *flags):
    """Runs the training to its end; returns exit code, stdout and stderr."""
    with Training(workdir, *flags) as training:
        return training.end()


def losses(workdir):
    """Returns the loss by step, from a file that may be being written."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if "loss" in record:
                    assert record["step"] not in found, f"step {record['step']} is there twice"
                    found[record["step"]] = record["loss"]
    return found


def error_of(outcome):
    """Returns the one line with which the program has failed."""
    code, _, err = outcome
    lines = err.strip().splitlines()
    assert code == 1 and len(lines) == 1 and lines[0].startswith("error: "), outcome
    return lines[0]
