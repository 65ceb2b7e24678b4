# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a run that nothing happened to, and the table of what was tried."""

import os
import pathlib
import platform
import re
import time

import numpy as np
import pytest

from tests.faults import program

_TABLE = {}
_ROW = re.compile(r"^\| (?!fault |-)(.+?) \| (\d+) \| (\S+) \|$", re.MULTILINE)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Workdir of an undisturbed run, and the seconds that it took."""
    workdir = tmp_path_factory.mktemp("faults") / "whole"
    begun = time.monotonic()
    code, _, err = program.train(workdir)
    assert code == 0, err
    return workdir, time.monotonic() - begun


@pytest.fixture
def tried():
    """Notes a fault that was survived: `tried(kind)`, once for each."""

    def note(kind):
        _TABLE[kind] = _TABLE.get(kind, 0) + 1

    return note


@pytest.fixture
def rng():
    """Draws moments and places; another seed by FAULTS_SEED."""
    return np.random.default_rng(int(os.environ.get("FAULTS_SEED", "0")))


def pytest_sessionfinish(session, exitstatus):
    """Puts what was tried into the file named by FAULTS_RESULTS; rows of other tests stay there."""
    del session, exitstatus
    path = os.environ.get("FAULTS_RESULTS")
    if not path or not _TABLE:
        return
    file = pathlib.Path(path)
    before = _ROW.findall(file.read_text()) if file.is_file() else []
    rows = {kind: (times, scale) for kind, times, scale in before}
    rows |= {kind: (str(n), f"{program.SCALE:g}") for kind, n in _TABLE.items()}
    lines = "\n".join(f"| {kind} | {' | '.join(row)} |" for kind, row in sorted(rows.items()))
    file.write_text(
        "# Reliability\n\n"
        "Written by `FAULTS_RESULTS=docs/results/reliability.md pytest -m faults -n 0`, which runs "
        "`mimir-jax train` on a small\ntext model in processes of its own. `FAULTS_SCALE` sets the "
        "share of the full counts; a row is of the latest run of its\n"
        "test, up to where it failed if it did. Machine: "
        f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, {platform.system()}.\n\n"
        "A fault is counted once the run has survived it: the end state equals that of an "
        "undisturbed run to the bit, or the\nprogram has refused with one line and left what was "
        "there whole.\n\n"
        f"| fault | tried and survived | scale |\n|---|---|---|\n{lines}\n"
    )
