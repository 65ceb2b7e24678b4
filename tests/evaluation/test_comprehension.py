# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Descriptions of Toyworld judged by attribute, and files of questions about videos."""

import dataclasses
import json
import types

import numpy as np
import pytest
from PIL import Image

from mimir_jax.config import INSTRUCTIONS
from mimir_jax.data.toyworld import captions, renderer, sampling
from mimir_jax.data.toyworld import source as source_lib
from mimir_jax.data.toyworld import stories as toyworld_stories
from mimir_jax.errors import InputError
from mimir_jax.evaluation import confidence
from mimir_jax.evaluation import config as config_lib
from mimir_jax.evaluation.suites import comprehension, questions, stories, toyworld, variances
from mimir_jax.sampling import reconstruction, video
from mimir_jax.sampling.request import Size
from mimir_jax.systems.divot_llm import video_files
from tests import commands
from tests.systems import agents

SCENES = 6


class Told:
    """An agent that knows the scenes: it tells every third of them wrong."""

    def __init__(self, config):
        self.config, self.asked = config, 0

    def describe(self, video, question=None, *, seed=0):
        texts = 1 + len(INSTRUCTIONS)
        index, place = divmod(self.asked, texts)
        self.asked += 1
        scene = sampling.sample(0, "heldout", index + (index % 3 == 2), "single")
        return captions.caption(scene, "long") if not place else captions.answers(scene)[place - 1]


def silent(*_):
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on disk, of which the suites read the config alone."""
    root = tmp_path_factory.mktemp("run")
    config = agents.run("none", form="instruct", max_length=160)
    return agents.write_run(root / "run", config, {"none": np.zeros(1)}), config


def test_attributes_are_counted_with_intervals_and_a_stopped_evaluation_goes_on(run):
    folder, config = run
    cfg = config_lib.ComprehensionEvalConfig(checkpoint=str(folder), scenes=SCENES)
    report = comprehension.evaluate(cfg, Told(config), silent)
    found = json.loads((report.folder / "results.json").read_text())
    cells = found["categories"]["colour"]
    assert set(cells) == {"all", "description", "answers"}
    assert cells["description"]["passed"] >= 4 / 6 and cells["description"]["scenes"] == SCENES
    assert found["told"]["colour"] == {"description": 1.0, "answers": 1.0}
    assert 0 < found["chance"]["colour"] < 1
    assert "colour" in report.text and "chance %" in report.text
    wrong = [sampling.sample(0, "heldout", i, "single").groups[0].colour for i in (2, 3, 5, 6)]
    expected = (SCENES - (wrong[0] != wrong[1]) - (wrong[2] != wrong[3])) / SCENES
    assert cells["answers"]["passed"] == pytest.approx(expected)
    clips = report.folder / "clips.jsonl"
    clips.write_text("".join(clips.read_text().splitlines(keepends=True)[:4]) + '{"name')
    rest = Told(config)
    rest.asked = 2 * 5  # the two scenes that are kept
    comprehension.evaluate(cfg, rest, silent)
    assert json.loads((report.folder / "results.json").read_text()) == found


ENTRIES = [
    {
        "video": "a.mp4",
        "question": "What moves?",
        "answer": "A red star.",
        "id": 7,
        "candidates": None,
    },
    {"video_name": "a", "question": "Which?", "candidates": ["ring", "red ring"], "answer": 1},
    {"video": "a.mp4", "question": "Which?", "candidates": ["ring", "star"], "answer": "ring"},
]


def write(folder, entries):
    (folder / "videos").mkdir(exist_ok=True)
    frames = np.zeros((9, 16, 16, 3), np.uint8)
    video.write_mp4(folder / "videos/a.mp4", frames, fps=8.0)
    (folder / "q.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    return folder / "q.jsonl"


def test_questions_of_both_kinds_are_answered_and_exported(run, tmp_path):
    folder, config = run
    path = write(tmp_path, ENTRIES)
    prompts = []

    def describe(video, question):
        prompts.append(question)
        return ["a red star", "(B) red ring", "star, not"][len(prompts) - 1]

    def read(path, span=None):
        return video_files.read_video(path, config, span=span)

    agent = types.SimpleNamespace(config=config, describe=describe, read=read)
    cfg = config_lib.QuestionsEvalConfig(
        checkpoint=str(folder), questions=str(path), videos=str(tmp_path / "videos"),
        out=str(tmp_path / "out"),
    )  # fmt: skip
    report = questions.evaluate(cfg, agent, silent)
    assert prompts[1] == "Which?\nOptions:\n(A) ring\n(B) red ring"
    kinds = json.loads((tmp_path / "out/results.json").read_text())["kinds"]
    assert kinds["open-ended"]["right"] == 1.0
    assert kinds["multiple-choice"] | {"interval": None} == {
        "questions": 2, "right": 0.5, "interval": None
    }  # fmt: skip
    exported = json.loads((tmp_path / "out/predictions.json").read_text())
    assert exported[0] == {
        "id": "7", "question": "What moves?", "answer": "A red star.", "pred": "a red star"
    }  # fmt: skip
    assert "multiple-choice" in report.text
    questions.evaluate(cfg, agent, silent)
    assert len(prompts) == 3  # nothing is asked again


@pytest.mark.parametrize(
    "file, name", [("v_ab-C.mp4", {"video_name": "ab-C"}), ("vid7.avi", {"video_id": 7})]
)
def test_files_of_activitynet_and_msvd_are_found(file, name, tmp_path):
    path = write(tmp_path, [{**name, "question": "Who?", "answer": "a man"}])
    (tmp_path / "videos" / file).write_bytes(b"")
    (asked,) = questions.read_questions(path, tmp_path / "videos")
    assert asked["video"].endswith(file) and "span" not in asked


def test_a_part_of_a_video_may_be_asked_about(tmp_path):
    path = write(tmp_path, [ENTRIES[0] | {"start": 0.5, "end": 2}])
    (asked,) = questions.read_questions(path, tmp_path / "videos")
    assert asked["span"] == [0.5, 2.0]
    assert "span" not in questions.read_questions(write(tmp_path, ENTRIES), tmp_path / "videos")[0]


def test_a_video_may_be_a_folder_of_frames(run, tmp_path):
    """As those of TVQA, three frames per second."""
    entry = {"video": "castle_seg02.clip", "question": "Who?", "answer": "a man"}
    path = write(tmp_path, [entry | {"start": 1, "end": 2}])
    place = tmp_path / "videos" / entry["video"]
    place.mkdir()
    for number in range(9):
        frame = Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8))
        frame.save(place / f"{number + 1:05d}.png")
    with pytest.raises(InputError, match="entry 1: video .* it has no frames per second; write"):
        questions.read_questions(path, tmp_path / "videos")
    (tmp_path / "videos/fps.txt").write_text("3")
    (asked,) = questions.read_questions(path, tmp_path / "videos")
    assert asked["video"] == str(place)
    frames, note = video_files.read_video(asked["video"], run[1], span=tuple(asked["span"]))
    assert sorted(set((frames[..., 0, 0, 0] // 20).tolist())) == [3, 4, 5]
    assert "3 fps read at 8" in note
    assert reconstruction.find([str(place)])[0].path == place
    clip, _ = reconstruction.read_clip(place, Size(9, 16, 16), 3.0)
    assert (clip[:, 0, 0, 0] // 20).tolist() == list(range(9))
    (place / "00004.png").unlink()
    with pytest.raises(InputError, match="it lacks frame 4, between 00003.png and 00005.png; rep"):
        questions.read_questions(path, tmp_path / "videos")


def test_answers_may_be_in_a_file_of_their_own(tmp_path):
    entries = [{"video_name": "a", "question": "How many?", "question_id": "a_1"}]
    path = write(tmp_path, entries)
    (tmp_path / "a.json").write_text(json.dumps([{"question_id": "a_1", "answer": "two"}]))
    asked = questions.read_questions(path, tmp_path / "videos", tmp_path / "a.json")
    assert asked[0]["answer"] == "two" and asked[0]["video"].endswith("a.mp4")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"video": "b"}, "video must be a file or a folder of frames below .* got 'b'"),
        ({"start": 2, "end": 1}, "start and end must be seconds from 0, .* got 2 and 1; correct"),
        ({"start": 2}, "start and end must be seconds from 0, .* got 2 and null; correct"),
        ({"question": None}, "must have question, a text or a number, got null"),
        ({"candidates": ["x"]}, "answer must be one of at most 26 candidates, got 'A red star.'"),
    ],
    ids=["video", "times", "start", "question", "candidates"],
)
def test_questions_of_another_form_are_one_line(tmp_path, change, message):
    path = write(tmp_path, [ENTRIES[0] | change])
    with pytest.raises(InputError, match=message):
        questions.read_questions(path, tmp_path / "videos")


@pytest.mark.parametrize(
    "reply, right",
    [("B", True), ("(b)", True), ("Answer: B.", True), ("A", False), ("It is a red ring", True),
     ("the ring", False), ("Both", False)],
)  # fmt: skip
def test_a_reply_is_read_as_letter_or_candidate(reply, right):
    entry = {"candidates": ["ring", "red ring"], "answer": "red ring"}
    assert questions.is_right(entry, reply) is right


def test_a_candidate_inside_another_word_is_not_named():
    entry = {"candidates": ["man", "child"], "answer": "man"}
    assert not questions.is_right(entry, "a woman") and questions.is_right(entry, "the man.")


def test_flags_that_lack_are_one_line(run):
    folder, _ = run
    line = commands.error_of("evaluate", "questions", "--checkpoint", folder)
    assert "--questions must name the file of questions" in line
    line = commands.error_of("evaluate", "comprehension", "--checkpoint", folder, "--start")
    assert "--start must be left out" in line


class Writes:
    """Draws the scenes of prompts, of other colours with large variances."""

    batch_multiple, fps, settings = 4, 8.0, {"step": 3}

    def __init__(self, config, var_scale=0.1):
        self.config, self.made, self._scale = config, [], var_scale

    def with_var_scale(self, var_scale):
        other = Writes(self.config, var_scale)
        other.made = self.made
        return other

    def log_likelihood(self, video, caption):
        assert video.shape == (9, 16, 16, 3)
        return -0.5

    def generate(self, requests, *, batch_size):
        self.made += [(r.prompt, self._scale) for r in requests]
        planned = toyworld.plan_samples(
            split="heldout", variety="single", scenes=1, styles=("short",)
        )
        scenes = {sample.prompt: sample.scene for sample in planned}
        return np.stack([self._draw(scenes[r.prompt]) for r in requests])

    def truncated_text(self, request):
        return ""

    def _draw(self, scene):
        clip = renderer.render(scene, 17, 64, 64)
        return clip[..., ::-1] if self._scale > 0.1 else clip


def test_variances_are_swept_and_true_clips_have_a_likelihood(run):
    folder, config = run
    cfg = config_lib.VariancesEvalConfig(checkpoint=str(folder), scenes=1)
    writing = Writes(config)
    report = variances.evaluate(cfg, writing, silent)
    found = json.loads((report.folder / "results.json").read_text())
    cells = found["categories"]["colour"]
    assert list(cells) == ["0", "0.1", "0.3", "1"]
    assert cells["0"]["passed"] == cells["0.1"]["passed"] == 1.0
    assert cells["0.3"]["passed"] == cells["1"]["passed"] < 0.7
    scenes = cells["0"]["scenes"]
    assert cells["0"]["interval"] == list(confidence.wilson_interval(1.0, scenes))
    assert found["negative_log_likelihood"]["mean"] == 0.5
    assert "variances x 0.3" in report.text and "true clips: 0.5000" in report.text
    made = len(writing.made)
    assert made == 4 * found["negative_log_likelihood"]["clips"]
    variances.evaluate(cfg, writing, silent)
    assert len(writing.made) == made


class Tells:
    """Shows stories of Toyworld: the second in another colour, the last in changing places."""

    fps, settings = 8.0, {"step": 3}

    def __init__(self):
        self.told = 0

    def tell(self, request, *, pages, seed):
        scenes = source_lib.ToyworldSource("heldout", scenery="single")
        source = toyworld_stories.ToyworldStories(scenes, pages)
        story = source.story(seed)
        self.told += 1
        assert request == story.request
        shown = story.pages
        if seed == 1:
            (group,) = shown[0].groups
            other = "red" if group.colour != "red" else "blue"
            group = dataclasses.replace(group, colour=other)
            shown = [dataclasses.replace(page, groups=(group,)) for page in shown]
        if seed == 3:  # where objects of this colour are seen too
            mine, others = shown[0], (source.story(n).pages[0] for n in range(4, 200))
            other = next(
                page for page in others
                if page.groups[0].colour == mine.groups[0].colour
                and page.background != mine.background
            )  # fmt: skip
            shown = [*shown[:2], dataclasses.replace(shown[2], background=other.background)]
        clips = [renderer.render(page, 17, 64, 64) for page in shown]
        if seed == 2:
            return [*story.texts[:2], "nothing"], clips
        return list(story.texts), clips


def test_stories_are_judged_by_their_texts_and_their_request(run):
    folder, _ = run
    cfg = config_lib.StoriesEvalConfig(checkpoint=str(folder), stories=4)
    teller = Tells()
    report = stories.evaluate(cfg, teller, silent)
    lines = [
        json.loads(line) for line in (report.folder / "stories.jsonl").read_text().splitlines()
    ]
    assert [line["passed"]["told"] for line in lines] == [True, True, False, True]
    assert [line["passed"]["whole"] for line in lines] == [True, False, False, False]
    assert lines[3]["passed"]["shown"] and not lines[3]["passed"]["constant"]
    assert not lines[1]["passed"]["shown"] and not lines[1]["passed"]["constant"]
    found = json.loads((report.folder / "results.json").read_text())["questions"]
    assert found["told"]["passed"] == 0.75 and "whole" in report.text
    assert len(list((report.folder / "videos").glob("*.mp4"))) == 4
    stories.evaluate(cfg, teller, silent)
    assert teller.told == 4
