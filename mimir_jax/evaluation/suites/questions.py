# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The questions suite: an LLM answers a user's questions about videos.

A file is JSON or JSON lines, an object for each question. With `candidates` it is multiple-choice,
as MVBench is: `answer` is one of them, or its number from 0. Others are open-ended, as MSVD-QA and
ActivityNet-QA are, whose answers may be in a file of their own, by `question_id`.

    video | video_name | video_id    file below --videos, with or without its suffix, and without
                                     the `v_` of ActivityNet's files or the `vid` of MSVD's; or a
                                     folder of numbered frames, as in TVQA (`data.frame_folder`)
    start  end                       seconds of the part of it that is asked about, as in MVBench
    question  answer  candidates  id | question_id

`answers.jsonl` has a line for each question; `predictions.json` is the list of `id`, `question`,
`answer` and `pred`, the format of LLM judges of open-ended answers.
"""

import json
import os
import pathlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mimir_jax import files, hashing, tables
from mimir_jax.data import frame_folder
from mimir_jax.errors import InputError, require
from mimir_jax.evaluation import checkpoints, confidence, generation, results
from mimir_jax.evaluation.config import QuestionsEvalConfig
from mimir_jax.parallel import distributed

ANSWERS, PREDICTIONS = "answers.jsonl", "predictions.json"
_VIDEO, _ID = ("video", "video_name", "video_id"), ("id", "question_id")
_PREFIXES = ("", "v_", "vid")
_SUFFIXES = ("", ".mp4", ".avi", ".mkv", ".webm", ".mov")
_LETTERS = string.ascii_uppercase


@runtime_checkable
class FileDescriber(generation.Describer, Protocol):
    """What describes videos, and reads their files."""

    def read(
        self, path: str | os.PathLike[str], span: tuple[float, float] | None = None
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
        """Reads a video file, or seconds `span` of it, and tells how it was resampled."""
        ...


def evaluate(
    config: QuestionsEvalConfig, agent: FileDescriber, progress: generation.Progress
) -> results.Report:
    """Answers the questions that the folder of results lacks; writes answers and scores.

    Raises:
        InputError: for a file or video that is missing or of another form, or results of another
            evaluation.
    """
    path, videos = (files.expand_path(str(p)) for p in (config.questions, config.videos))
    answers = files.expand_path(config.answers) if config.answers is not None else None
    asked = read_questions(path, videos, answers)
    step = checkpoints.find_step(config)
    settings = {
        "suite": "questions",
        "checkpoint": str(checkpoints.find_run(config)),
        "step": step,
        "questions": hashing.content_key(json.dumps(asked)).hex(),
    }
    folder = checkpoints.find_folder(config, f"questions-{path.stem}", step)
    with results.open_results(folder, settings):
        lines = _answer(asked, agent, folder, progress)
    if not distributed.is_first():
        return results.Report("")
    files.write_text(folder / PREDICTIONS, json.dumps([_prediction(x) for x in lines], indent=1))
    summary = summarise(lines)
    files.write_json(folder / results.RESULTS, {**settings, "kinds": summary})
    names = (results.RESULTS, ANSWERS, PREDICTIONS)
    return results.Report(format_table(summary), folder, names)


def read_questions(
    path: pathlib.Path, videos: pathlib.Path, answers: pathlib.Path | None = None
) -> list[dict[str, Any]]:
    """Reads a file of questions and finds their videos.

    Args:
        path: The questions.
        videos: Folder of the videos.
        answers: Answers by `question_id`; None where the questions have them.

    Returns:
        An entry for each with `id`, `video` (a path), `question`, `answer` and `candidates`, and
        `span` in seconds where it is about a part of its video.

    Raises:
        InputError: for an entry of another form, or a video that does not exist.
    """
    told = {}
    if answers is not None:
        told = {str(_field(e, _ID, answers, n)): e for n, e in enumerate(_entries(answers), 1)}
    asked = []
    for number, entry in enumerate(_entries(path), 1):
        name = str(_field(entry, _VIDEO, path, number))
        names = (f"{prefix}{name}{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES)
        found = next((file for n in names if (file := videos / n).is_file()), None)
        found = _frames(videos / name, path, number) if found is None else found
        require(
            found is not None,
            f"questions {path}, entry {number}: video must be a file or a folder of frames below "
            f"{videos}, got {name!r}; check --videos",
        )
        question = str(_field(entry, ("question",), path, number))
        key = next((str(entry[n]) for n in _ID if n in entry), str(number))
        source = {**entry, **told.get(key, {})}
        answer = _field(source, ("answer",), answers or path, number)
        listed = entry.get("candidates") or []
        require(
            isinstance(listed, list),
            f"questions {path}, entry {number}: candidates must be a list, got "
            f"{json.dumps(listed)[:40]}; correct the file",
        )
        candidates = list(map(str, listed))
        if candidates and isinstance(answer, int) and 0 <= answer < len(candidates):
            answer = candidates[answer]
        require(
            not candidates or (answer in candidates and len(candidates) <= len(_LETTERS)),
            f"questions {path}, entry {number}: answer must be one of at most {len(_LETTERS)} "
            f"candidates, got {answer!r}; correct the file",
        )
        asked.append(
            {"id": key, "video": str(found), "question": question, "answer": str(answer),
             "candidates": candidates, **_span(entry, path, number)}
        )  # fmt: skip
    require(bool(asked), f"questions {path} must hold a question, got none; name another file")
    return asked


def prompt(entry: Mapping[str, Any]) -> str:
    """Returns the question as it is asked, with its candidates as lettered options."""
    if not entry["candidates"]:
        return entry["question"]
    options = zip(_LETTERS, entry["candidates"], strict=False)
    return "\n".join([entry["question"], "Options:", *(f"({x}) {text}" for x, text in options)])


def is_right(entry: Mapping[str, Any], reply: str) -> bool:
    """Whether a reply is the answer: its letter or text of candidates, else all of its words."""
    if not entry["candidates"]:
        return _words(reply) == _words(entry["answer"])
    place = entry["candidates"].index(entry["answer"])
    letter = re.match(r"\s*(?:answer\s*:?\s*)?(?:\(([A-Z])\)|([A-Z])(?:[.:)]|\s*$))", reply, re.I)
    if letter:
        return (letter[1] or letter[2]).upper() == _LETTERS[place]
    said = f" {_words(reply)} "
    named = [c for c in entry["candidates"] if _words(c) and f" {_words(c)} " in said]
    return bool(named) and max(named, key=len) == entry["answer"]


def summarise(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns number, share right and its Wilson interval of each kind of question."""
    kinds: dict[str, list[bool]] = {}
    for line in lines:
        kind = "multiple-choice" if line["candidates"] else "open-ended"
        kinds.setdefault(kind, []).append(line["right"])
    return {
        kind: {
            "questions": len(right),
            "right": (share := sum(right) / len(right)),
            "interval": confidence.wilson_interval(share, len(right)),
        }
        for kind, right in kinds.items()
    }


def format_table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats a summary: a row for each kind of question."""
    rows = [["kind", "questions", "right, %"]]
    for kind, cell in summary.items():
        low, high = (100 * x for x in cell["interval"])
        rows.append(
            [kind, str(cell["questions"]), f"{100 * cell['right']:.1f} ({low:.0f} to {high:.0f})"]
        )
    return tables.align(rows)


def _answer(
    asked: Sequence[Mapping[str, Any]],
    agent: FileDescriber,
    folder: pathlib.Path,
    progress: generation.Progress,
) -> list[dict[str, Any]]:
    path = folder / ANSWERS
    lines = distributed.from_first(lambda: results.recover_lines(path))
    for number in range(len(lines), len(asked)):
        progress(number, len(asked))
        entry = asked[number]
        video, _ = agent.read(entry["video"], tuple(entry["span"]) if "span" in entry else None)
        reply = agent.describe(video, prompt(entry))
        lines.append({**entry, "prediction": reply, "right": is_right(entry, reply)})
        if distributed.is_first():
            results.append_line(path, lines[-1])
    progress(len(asked), len(asked))
    return lines


def _prediction(line: Mapping[str, Any]) -> dict[str, Any]:
    names = {"id": "id", "question": "question", "answer": "answer", "pred": "prediction"}
    return {name: line[field] for name, field in names.items()}


def _entries(path: pathlib.Path) -> list[dict[str, Any]]:
    text = files.read_text(path, "file of questions")
    try:
        parsed = json.loads(text) if text.lstrip().startswith("[") else None
        found = [json.loads(x) for x in text.split("\n") if x.strip()] if parsed is None else parsed
        if not all(isinstance(entry, dict) for entry in found):
            raise ValueError("an entry is no object")
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"questions {path} must be a JSON list of objects, or an object per line: {error}"
        ) from None
    return found


def _field(entry: Mapping[str, Any], names: Sequence[str], path: pathlib.Path, number: int) -> Any:
    value = next((entry[name] for name in names if entry.get(name) is not None), None)
    require(
        isinstance(value, str | int),
        f"questions {path}, entry {number} must have {' or '.join(names)}, a text or a number, got "
        f"{json.dumps(value)[:40]}; add it",
    )
    return value


def _frames(folder: pathlib.Path, path: pathlib.Path, number: int) -> pathlib.Path | None:
    """Returns a folder of frames, checked before anything is loaded; None if there is none."""
    if not folder.is_dir():
        return None
    try:
        frame_folder.list_frames(folder)
    except InputError as error:
        raise InputError(
            f"questions {path}, entry {number}: video {folder} must be a folder of numbered "
            f"frames with a rate: it {error}; repair the folder"
        ) from None
    return folder


def _span(entry: Mapping[str, Any], path: pathlib.Path, number: int) -> dict[str, list[float]]:
    """Returns the part of the video that an entry is about, {} for all of it."""
    ends = [entry.get(name) for name in ("start", "end")]
    if ends == [None, None]:
        return {}
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in ends)
    require(
        numbers and 0 <= ends[0] < ends[1],
        f"questions {path}, entry {number}: start and end must be seconds from 0, the end after "
        f"the start, got {json.dumps(ends[0])[:40]} and {json.dumps(ends[1])[:40]}; correct them",
    )
    return {"span": [float(x) for x in ends]}


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
