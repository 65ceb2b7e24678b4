# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions of a folder of videos, in our layouts and those of other trainers."""

import json
import os
import shutil

import numpy as np
import pytest
import video_files

from mimir_jax.data.sources import folder

SIZE = dict(height=12, width=16)


def test_folder_reads_text_beside_clips_in_subfolders(tmp_path):
    (tmp_path / "cats").mkdir()
    for name in ("b.mp4", "cats/a.v1.webm"):
        video_files.write_clip(tmp_path / name, 4)
    (tmp_path / "b.txt").write_text("a dog\n", encoding="utf-8-sig")
    (tmp_path / "cats/a.v1.txt").write_text("a cät", encoding="utf-8")
    (tmp_path / "._b.mp4").write_bytes(b"resource fork")
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["b.mp4", "cats/a.v1.webm"]
    assert [source[i]["caption"] for i in range(2)] == ["a dog", "a cät"]


def _names(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


LAYOUTS = {
    "metadata.jsonl": lambda p: _names(
        p / "metadata.jsonl", '{"file_name": "videos/b.mp4", "text": "b"}\n'
        '{"file_name": "./videos/a.mp4", "text": "a"}\n'
    ),
    "metadata.csv": lambda p: _names(
        p / "metadata.csv", '\ufefffile_name,caption\nvideos/a.mp4,"a"\r\nvideos/b.mp4,b\r\n'
    ),
    "videos2caption.json": lambda p: _names(
        p / "videos2caption.json",
        '[{"path": "b.mp4", "cap": ["b"]}, {"path": "a.mp4", "cap": "a"}]',
    ),
    "videos.txt": lambda p: [
        _names(p / "videos.txt", "videos/a.mp4\nvideos\\b.mp4\n"),
        _names(p / "prompts.txt", "a\nb"),
    ],
    "labels": lambda p: [_names(p / f"labels/{n}.txt", n) for n in "ab"],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_reads_the_layouts_of_other_trainers(tmp_path, layout):
    for name in "ab":
        _names(tmp_path / f"videos/{name}.mp4", "never opened")
    LAYOUTS[layout](tmp_path)
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["videos/a.mp4", "videos/b.mp4"] and source.captions == [("a",), ("b",)]


@pytest.mark.parametrize(
    "stored, written",
    [
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),
        ("a.mp4", "./a.mp4"),
        ("sub/a.mp4", "sub\\a.mp4"),
        ("sub/a.mp4", "{folder}/sub/a.mp4"),
    ],
)
def test_folder_compares_names_in_one_form(tmp_path, stored, written):
    _names(tmp_path / stored, "never opened")
    video_files.write_captions(tmp_path, {written.format(folder=tmp_path): " a\n\u200dcat "})
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == [stored] and source.captions == [("a \u200dcat",)]


def test_folder_reads_a_name_that_is_not_utf8(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    os.rename(tmp_path / "a.mp4", name + b".mp4")
    with open(name + b".txt", "w") as file:
        file.write("coffee")
    record = folder.VideoFolder(tmp_path, frames=2, **SIZE)[0]
    assert record["caption"] == "coffee" and not record["skipped"]


def test_folder_draws_among_several_captions(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    video_files.write_captions(tmp_path, {"a.mp4": ["one", "two", "three"]})
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    drawn = {source.read(0, np.random.default_rng(i))["caption"] for i in range(20)}
    assert drawn == {"one", "two", "three"}
    fixed = folder.VideoFolder(tmp_path, frames=2, start="first", **SIZE)
    assert {fixed.read(0, np.random.default_rng(i))["caption"] for i in range(9)} == {"one"}


TALKS = [
    {"id": 1, "video": "a.mp4", "conversations": [
        {"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Where\nto?"}, {"from": "gpt", "value": " Left. "},
    ]},
    {"id": 2, "video": "a.mp4", "conversations": [
        {"from": "human", "value": "Which?\n<image>"}, {"from": "gpt", "value": "The\nred one."},
    ]},
    {"id": 3, "video": "b.mp4", "conversations": [
        {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["conversations.json", "conversations.jsonl"])
def test_folder_reads_conversations_without_marks(tmp_path, name):
    for file in ("a.mp4", "b.mp4"):
        video_files.write_clip(tmp_path / file, 4)
    lines = "\n".join(map(json.dumps, TALKS))
    (tmp_path / name).write_text(lines if name.endswith("l") else json.dumps(TALKS))
    source = folder.VideoFolder(tmp_path, frames=2, start="first", **SIZE)
    assert source.has_conversations
    assert source.conversations(0) == (
        (("What moves?", "A cat."), ("Where\nto?", "Left.")), (("Which?", "The\nred one."),)
    )  # fmt: skip
    assert source.conversations(1) == ((("Why?", "So."),),)
    assert [source[i]["caption"] for i in range(2)] == ["A cat.", "So."]
    video_files.write_captions(tmp_path, {"a.mp4": "a", "b.mp4": "b"})
    both = folder.VideoFolder(tmp_path, frames=2, start="first", **SIZE)
    assert both[0]["caption"] == "a" and both.conversations(1) == source.conversations(1)
    assert repr(both) != repr(source)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"video": "c.mp4"}, "needs its clip, found none for 'c.mp4'"),
        ({"conversations": []}, "a video and conversations from human and gpt in turn"),
        ({"conversations": TALKS[2]["conversations"][:1]}, "human and gpt in turn, got"),
        ({"conversations": [{"from": "human", "value": "<video>"},
                            {"from": "gpt", "value": "So."}]}, "entry 3 must be printable text"),
    ],
    ids=["orphan", "empty", "question", "blank"],
)  # fmt: skip
def test_conversations_of_another_form_are_one_line(tmp_path, change, message):
    for file in ("a.mp4", "b.mp4"):
        (tmp_path / file).write_bytes(b"never opened")
    entries = [*TALKS[:2], {**TALKS[2], **change}]
    (tmp_path / "conversations.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=message) as error:
        folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert "\n" not in str(error.value)


def line_error(text):
    def make(path):
        (path / "captions.jsonl").write_text(text)

    return make


def csv_error(text):
    def make(path):
        (path / "captions.jsonl").unlink()
        (path / "metadata.csv").write_text(text)

    return make


def remove(name):
    return lambda path: (path / name).unlink()


@pytest.mark.parametrize(
    "damage, rule",
    [
        (shutil.rmtree, "VideoFolder needs an existing folder, got"),
        (lambda p: [f.unlink() for f in p.glob("*.mp4")], "VideoFolder needs at least one video"),
        (remove("b.mp4"), r"needs its clip, found none for 'b.mp4' \(line 2\); add the clip"),
        (line_error(""), r"needs a caption, found none for 'a.mp4' and 1 more; add a line"),
        (line_error('\n{"file": "a.mp4"'), r"got '{\"file\": \"a.mp4\"' in .*jsonl' line 2; write"),
        (line_error('["a.mp4", "x"]'), "must be an object with a file and a non-empty caption"),
        (line_error('{"file": "a.mp4", "caption": " "}'), "a non-empty caption, got .* line 1;"),
        (
            line_error('{"file": "a.mp4", "id": %s}' % ("1" * 5000)),
            "non-empty caption, got .* line 1",
        ),
        (line_error('{"file": "a.mp4", "caption": []}'), "a non-empty caption, got .* line 1;"),
        (line_error('{"file": "a.mp4", "caption": "x"}\n' * 2), r"'a.mp4' again in .* line 2"),
        (remove("captions.jsonl"), "found none for 'a.mp4' and 1 more; write captions.jsonl"),
        (csv_error("file_name;caption\na.mp4;x\n"), "a header that names file_name and caption, "),
        (csv_error("file_name, caption\na.mp4, x\n"), "got 'file_name, caption'; write it"),
        (csv_error("file,text\na.mp4,a cat, asleep\n"), "2 cells .* got 1 more in line 2; put"),
        (
            lambda p: (p / "captions.jsonl").write_bytes(b"\xff{}"),
            "must be UTF-8 text, got byte 0xff",
        ),
    ],
    ids=lambda value: None if callable(value) else value[:30],
)
def test_folder_names_what_is_wrong(tmp_path, damage, rule):
    path = tmp_path / "clips"
    path.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (path / name).write_bytes(b"never opened")
    video_files.write_captions(path, {"a.mp4": "a", "b.mp4": "b"})
    damage(path)
    with pytest.raises(ValueError, match=rule) as error:
        folder.VideoFolder(path, frames=2, **SIZE)
    assert "\n" not in str(error.value)


def test_a_text_captions_all_clips_of_its_name(tmp_path):
    for name in ("a.mp4", "a.webm", "b.MP4"):
        (tmp_path / name).write_bytes(b"never opened")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "b.TXT").write_text("a dog")
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["a.mp4", "a.webm", "b.MP4"]
    assert source.captions == [("a cat",), ("a cat",), ("a dog",)]


def test_folder_refuses_text_without_a_clip(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 2)
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match="needs its clip, found none for 'c.txt'; add"):
        folder.VideoFolder(tmp_path, frames=2, **SIZE)
