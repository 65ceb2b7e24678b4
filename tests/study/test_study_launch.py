# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from mimir_jax.study import form
from tests.study import studies
from tests.test_launch import errors, run


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
    code, text, err = run("study.py", *flags(systems, "ours", "base"), "--out", out, "--seed", 1)
    assert code == 0, err
    assert "left out of ours, no partner for 1: 02.mp4" in text
    assert "left out of base, no partner for 1: 02.mp4" in text
    assert "2 pairs, 2 systems, 2 prompts" in text and str(out / "page") in text

    key = form.read_key(out / "key.json")
    files = [
        studies.write_answers(tmp_path / f"{name}.json", key, studies.prefer(name))
        for name in ("ours", "base")
    ]
    code, text, err = run("study.py", "--tally", *files, "--key", out / "key.json")
    assert code == 0, err
    assert "2 raters" in text and "50.00 (" in text and str(out / "results.json") in text
    result = json.loads((out / "results.json").read_text())
    assert result["axes"]["visual_quality"]["systems"]["ours"]["win_rate"] == 50

    code, _, err = run("study.py", "--tally", files[0], files[0], "--key", out / "key.json")
    assert code == 1 and f"{files[0]} repeats the session" in errors(err)[0]
    code, _, err = run("study.py", "--tally", *files, "--key", files[0])
    assert code == 1 and "must be a study key, found a study answers" in errors(err)[0]


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
    code, _, err = run("study.py", *flags(systems, *names), "--out", tmp_path / "out", *more)
    assert code == 1 and "Traceback" not in err
    assert len(errors(err)) == 1 and message in errors(err)[0]
    assert not list(tmp_path.iterdir())


def test_bad_destination_is_one_line_and_writes_nothing(systems, tmp_path):
    common = ["study.py", *flags(systems, "ours", "base"), "--out"]
    code, _, err = run(*common, tmp_path)
    assert code == 1 and "must not exist" in errors(err)[0]
    (tmp_path / "file").touch()
    code, _, err = run(*common, tmp_path / "file" / "out")
    assert code == 1 and "could not be written" in errors(err)[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
