# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mimir_jax.data.toyworld import invented, vocabulary
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.errors import InputError
from mimir_jax.evaluation.judge import recognition
from mimir_jax.retrieval import documents, memory
from mimir_jax.retrieval.documents import Document
from tests import commands

DOCUMENTS = [Document(f"d{i}", f"text {i} ü", source=f"s{i // 2}") for i in range(11)]


def write_image(path, value=7):
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(path)


def test_documents_come_back_in_order(tmp_path):
    made = memory.create(tmp_path / "m")
    assert made.append(DOCUMENTS[:7], shard_size=3) == 7
    assert made.append(DOCUMENTS[7:], shard_size=3) == 4
    for opened in (made, memory.open_memory(tmp_path / "m")):
        assert len(opened) == 11 and [s.size for s in opened.shards] == [3, 3, 1, 3, 1]
        assert [opened[i] for i in range(11)] == DOCUMENTS
        assert [t for s in opened.shards for t in s.texts()] == [d.text for d in DOCUMENTS]
        opened.verify()
    with pytest.raises(IndexError, match="within 0..10, got 11"):
        made[11]


def test_the_checksum_is_that_of_the_documents(tmp_path):
    parts = memory.create(tmp_path / "parts")
    parts.append(DOCUMENTS[:4], shard_size=2)
    parts.append(DOCUMENTS[4:], shard_size=5)
    whole = memory.create(tmp_path / "whole")
    empty = whole.checksum
    whole.append(DOCUMENTS)
    assert parts.checksum == whole.checksum != empty
    other = memory.create(tmp_path / "other")
    other.append(DOCUMENTS[::-1])
    assert other.checksum != whole.checksum


@pytest.mark.parametrize("later", [[Document("d1", "again")], [Document("x", "a")] * 2])
def test_ids_are_unique(tmp_path, later):
    made = memory.create(tmp_path / "m")
    made.append(DOCUMENTS, shard_size=4)
    before = (tmp_path / "m" / "memory.json").read_text()
    with pytest.raises(InputError, match=f"ids of their own, got '{later[0].id}' twice"):
        made.append(later)
    assert len(made) == 11 and (tmp_path / "m" / "memory.json").read_text() == before


def test_a_stopped_append_leaves_the_memory_as_it_was(tmp_path):
    made = memory.create(tmp_path / "m")
    made.append(DOCUMENTS[:3])

    def broken():
        yield from DOCUMENTS[3:8]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.append(broken(), shard_size=2)
    opened = memory.open_memory(tmp_path / "m")
    assert len(opened) == 3
    opened.append(DOCUMENTS[3:], shard_size=4)
    assert [opened[i] for i in range(11)] == DOCUMENTS
    opened.verify()


def test_a_memory_has_one_writer_and_no_document_is_lost(tmp_path):
    first, second = memory.create(tmp_path / "m"), memory.create(tmp_path / "m")

    def interrupted():
        yield from DOCUMENTS[:3]
        with pytest.raises(InputError, match="memory .*m must have one writer, process .* is wri"):
            second.append(DOCUMENTS[5:])
        yield from DOCUMENTS[3:5]

    assert first.append(interrupted(), shard_size=2) == 5
    assert second.append(DOCUMENTS[5:], shard_size=4) == 6
    for opened in (second, memory.open_memory(tmp_path / "m")):
        assert [opened[i] for i in range(len(opened))] == DOCUMENTS
        opened.verify()


def test_a_killed_writer_of_a_memory_is_none(tmp_path):
    code = """if True:
        import pathlib, sys
        from mimir_jax.retrieval import documents, memory

        def endless():
            yield documents.Document("one", "a text")
            print("writing", flush=True)
            input()

        memory.create(pathlib.Path(sys.argv[1])).append(endless(), shard_size=1)"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "m")], **pipes) as other:
        assert other.stdout.readline() == b"writing\n"
        with pytest.raises(InputError, match=f"one writer, process {other.pid} on"):
            memory.create(tmp_path / "m").append(DOCUMENTS)
        other.kill()
        other.wait()
        assert memory.create(tmp_path / "m").append(DOCUMENTS) == len(DOCUMENTS)
    opened = memory.open_memory(tmp_path / "m")
    assert [opened[i] for i in range(len(opened))] == DOCUMENTS
    opened.verify()


def test_damaged_memories_are_refused(tmp_path):
    with pytest.raises(InputError, match="must be a folder with a memory.json, found none"):
        memory.open_memory(tmp_path)
    made = memory.create(tmp_path / "m")
    made.append(DOCUMENTS)
    lines = tmp_path / "m" / "shard-00000" / "documents.jsonl"
    content = lines.read_bytes()
    lines.write_bytes(content.replace(b"text 1", b"text 2"))
    with pytest.raises(InputError, match="documents.jsonl must have its checksum, got another"):
        memory.open_memory(tmp_path / "m").verify()
    lines.write_bytes(content[:-5])
    with pytest.raises(InputError, match="must have .* bytes, got .*; copy the folder whole"):
        memory.open_memory(tmp_path / "m")
    lines.write_bytes(content.replace(b'"text"', b'"taxt"'))
    with pytest.raises(InputError, match="must be whole, reading it gave TypeError"):
        memory.open_memory(tmp_path / "m")[0]
    lines.write_bytes(content)
    header = tmp_path / "m" / "memory.json"
    stated = header.read_text()
    for name in ("shards", "checksum", "documents"):
        header.write_text(stated.replace(f'"{name}"', '"other"'))
        with pytest.raises(InputError, match=f"memory.json must be whole, .* KeyError: '{name}'"):
            memory.open_memory(tmp_path / "m")
    header.write_text(stated.replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="must have version 1, got 2"):
        memory.open_memory(tmp_path / "m")


def test_jsonl_is_read(tmp_path):
    write_image(tmp_path / "cat.png")
    rows = [{"text": "a cat", "image": "cat.png"}, {"text": "a dog", "id": "dog", "source": "v7"}]
    path = tmp_path / "pets.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = list(documents.from_path(path))
    assert found == [
        Document("pets:1", "a cat", str(tmp_path / "cat.png")),
        Document("dog", "a dog", source="v7"),
    ]
    made = memory.create(tmp_path / "m")
    made.append(found)
    assert made.read_image(made[0]).shape == (4, 5, 3) and made.read_image(made[1]) is None


def test_folders_are_read(tmp_path):
    (tmp_path / "more").mkdir()
    for name, text in (("b.png", "two\nlines"), ("a.jpg", "first"), ("more/c.PNG", "third")):
        write_image(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(text)
    found = list(documents.from_path(tmp_path))
    assert [(d.id, d.text) for d in found] == [
        ("a.jpg", "first"), ("b.png", "two lines"), ("more/c.PNG", "third"),
    ]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "named"}\n')
    assert list(documents.from_path(tmp_path)) == [
        Document("b.png", "named", str(tmp_path / "b.png"))
    ]


def test_scenes_are_rendered(tmp_path):
    source = ToyworldSource("train", seed=3, height=16, width=24)
    made = memory.create(tmp_path / "m")
    made.append(documents.from_toyworld(made.folder, source, range(2, 5)))
    assert [made[i].id for i in range(3)] == [f"train-3-00000{i}" for i in (2, 3, 4)]
    assert made[0].text == source.text(2) and made[0].source == made[0].id
    video = ToyworldSource("train", seed=3, frames=9, height=16, width=24)[2]["video"]
    assert np.array_equal(made.read_image(made[0]), video[0])


def test_each_unseen_name_has_an_image(tmp_path):
    made = memory.create(tmp_path / "m")
    made.append(documents.from_invented_names(made.folder))
    assert len(made) == 60 == len({made[i].text for i in range(60)})
    assert not {made[i].text.split()[1] for i in range(60)} & set(invented.NAMES["train"])
    still = np.repeat(made.read_image(made[3])[None], 17, axis=0)
    (seen,) = recognition.observe(still).groups
    assert seen.shape == list(vocabulary.SHAPES)[3]


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 1 must be JSON"),
        ("[1]", "line 1 must be a JSON object"),
        ('{"id": "x"}', "line 1 must give text as text, got None"),
        ('{"text": "..."}', "line 1: document 'a:1' must have a text with a word, got '...'"),
        ('{"text": "a", "id": 3}', "line 1 must give id as text, got 3"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        list(documents.from_path(tmp_path / "a.jsonl"))


def test_bad_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match="must be a .jsonl file or a folder.*got nothing there"):
        documents.from_path(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="must hold images, found none"):
        list(documents.from_path(tmp_path))
    write_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png must have its text in a.txt beside it"):
        list(documents.from_path(tmp_path))
    (tmp_path / "metadata.jsonl").write_text('{"text": "a"}')
    with pytest.raises(InputError, match="metadata.jsonl line 1 must give file_name, got None"):
        list(documents.from_path(tmp_path))


def test_several_sources_are_appended_together_or_not_at_all(tmp_path):
    for name, text in (("a", '{"text": "a cat"}'), ("b", '{"text": "a dog"}'), ("bad", "{")):
        (tmp_path / f"{name}.jsonl").write_text(text + "\n")
    out = tmp_path / "memory"
    line = commands.error_of("index", tmp_path / "a.jsonl", tmp_path / "bad.jsonl", f"--out={out}")
    assert "bad.jsonl line 1 must be JSON" in line
    assert not len(memory.create(out))
    code, printed, _ = commands.call(
        "index", tmp_path / "a.jsonl", tmp_path / "b.jsonl", f"--out={out}"
    )
    assert code == 0 and "2 documents" in printed
