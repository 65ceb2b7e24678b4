# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from mimir_jax.study import form
from tests import commands
from tests.study import studies


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    base = tmp_path_factory.mktemp("videos")
    studies.write_folder(base / "ours", how="json")
    studies.write_folder(base / "base", [*studies.PROMPTS[:2], "another"])
    studies.write_folder(base / "alien", ["elsewhere"])
    (base / "empty").mkdir()
    return base


def flags(base, *names):
    return [part for name in names for part in ("--system", f"{name}={base / name}")]


def test_study_builds_and_tallies(systems, tmp_path):
    out = tmp_path / "new" / "study"
    code, text, err = commands.call(
        "study", *flags(systems, "ours", "base"), "--out", out, "--seed", 1
    )
    assert code == 0, err
    assert "left out of ours, no partner for 1: 02.mp4" in text
    assert "left out of base, no partner for 1: 02.mp4" in text
    assert "2 pairs, 2 systems, 2 prompts" in text and str(out / "page") in text

    key = form.read_key(out / "key.json")
    files = [
        studies.write_answers(tmp_path / f"{name}.json", key, studies.prefer(name))
        for name in ("ours", "base")
    ]
    code, text, err = commands.call("study", "--tally", *files, "--key", out / "key.json")
    assert code == 0, err
    assert "2 raters" in text and "50.00 (" in text and str(out / "results.json") in text
    result = json.loads((out / "results.json").read_text())
    assert result["axes"]["visual_quality"]["systems"]["ours"]["win_rate"] == 50

    line = commands.error_of("study", "--tally", files[0], files[0], "--key", out / "key.json")
    assert f"{files[0]} repeats the session" in line
    line = commands.error_of("study", "--tally", *files, "--key", files[0])
    assert "must be a study key, found a study answers" in line


@pytest.mark.parametrize(
    "names, more, message",
    [
        (["ours"], [], "at least two systems, got 1"),
        (["ours", "ours"], [], "must name each system once, got 'ours' twice"),
        (["ours", "empty"], [], "needs at least one video"),
        (["ours", "nowhere"], [], "needs an existing folder"),
        (["ours", "alien"], [], "need a common prompt, they share none"),
        (["ours", "base"], ["--pairs", 3], "pairs must be 1 to 2"),
        (["ours", "base"], ["--system", "third"], "--system must be NAME=FOLDER, got 'third'"),
        (["ours", "base"], ["stray"], "study takes --system"),
        ([], [], "study takes --system"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(systems, tmp_path, names, more, message):
    out = tmp_path / "out"
    assert message in commands.error_of("study", *flags(systems, *names), "--out", out, *more)
    assert not list(tmp_path.iterdir())


def test_bad_destination_is_one_line_and_writes_nothing(systems, tmp_path):
    common = ["study", *flags(systems, "ours", "base"), "--out"]
    assert "must not exist" in commands.error_of(*common, tmp_path)
    (tmp_path / "file").touch()
    assert "could not be written" in commands.error_of(*common, tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
