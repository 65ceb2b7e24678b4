# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Other commands than training, killed at random moments; the same command makes the rest."""

import hashlib
import json
import os
import time

import numpy as np
import pytest

from tests.faults import program

pytestmark = pytest.mark.faults

FULL_KILLS = 10

PROMPTS = ("a large red circle", "two small blue squares", "a green heart moves up")


def features(out):
    return (
        *("precompute", "--config", "mimir", "--config.data.toyworld.num_scenes=24"),
        *("--shard_size=2", "--out", out),
    )


def samples(out):
    out.parent.mkdir(exist_ok=True)
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    return ("sample", "--prompts", prompts, "--steps=3", "--batch_size=1", "--out", out)


def judging(out):
    return (
        *("evaluate", "toyworld", "--checkpoint", "package:tiny/mimir", "--scenes=3"),
        *("--steps=2", "--batch_size=2", "--out", out),
    )


def contents(folder):
    """Digests of what a command made, without what tells times and processes, or was begun."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".mp4", ".array_record", ".npz", ".jsonl") and path.name[0] != "."
    }


@pytest.mark.parametrize("command", [features, samples, judging])
def test_kills_leave_what_the_same_command_completes(tmp_path, tried, rng, command):
    begun = time.monotonic()
    code, _, err = program.run(*command(tmp_path / "whole/out"))
    assert code == 0, err
    seconds = time.monotonic() - begun
    expected = contents(tmp_path / "whole/out")
    assert expected
    for number in range(program.count(FULL_KILLS)):
        out = tmp_path / str(number) / "out"
        with program.Command(*command(out)) as begun_command:
            time.sleep(rng.uniform(0, seconds))
            begun_command.process.kill()
        code, _, err = program.run(*command(out))
        assert code == 0, err
        assert contents(out) == expected
        tried(f"SIGKILL of {command(out)[0]}")


def test_a_long_run_needs_no_more_memory_threads_and_files(tmp_path, tried):
    steps = max(400, int(3000 * program.SCALE))
    seen = []
    flags = (f"--config.steps={steps}", "--config.log_every=20")  # a pipe holds what it prints
    with program.Training(tmp_path / "run", *flags) as training:
        while training.process.poll() is None:
            step = max(program.losses(tmp_path / "run"), default=0)
            if step and (facts := usage(training.process.pid)):
                seen.append((step, *facts))
            time.sleep(0.5)
        code, _, err = training.end()
    assert code == 0, err
    later = [row[1:] for row in seen if steps // 4 <= row[0] < steps]
    assert len(later) >= 8, seen
    early, late = later[: len(later) // 4], later[-len(later) // 4 :]
    for place, slack in enumerate((24_000, 2, 6)):  # kilobytes, threads, files
        first, last = (float(np.median([row[place] for row in part])) for part in (early, late))
        assert last <= first + slack, (place, first, last, json.dumps(seen))
    tried(f"soak of {steps} steps: memory, threads and files stay")


def usage(pid):
    """Returns resident kilobytes, threads and open files of a process; None once it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        files = len(os.listdir(f"/proc/{pid}/fd"))
        return int(fields["VmRSS"].split()[0]), int(fields["Threads"]), files
    except (OSError, KeyError):
        return None
