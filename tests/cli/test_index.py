# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

from mimir_jax.cli import main
from mimir_jax.retrieval import memory
from tests import commands


def test_a_memory_is_made_appended_to_and_searched(tmp_path, capsys):
    out = ["--out", str(tmp_path / "m")]
    main.main(["index", *out, "--scenes=12", "--query", "a red circle"])
    printed = capsys.readouterr().out
    assert "12 documents in" in printed and "train-0-0000" in printed
    rows = [{"text": "a zib"}, {"text": "a wug", "id": "wug"}]
    source = tmp_path / "more.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    main.main(["index", str(source), *out, "--query=the wug", "--top=1", "--verify"])
    printed = capsys.readouterr().out
    assert "2 documents in" in printed and "14 documents, checksum" in printed
    assert printed.splitlines()[-1].split()[1:] == ["wug", "a", "wug"]
    main.main(["index", *out])  # nothing to do
    assert "documents in" not in capsys.readouterr().out
    assert len(memory.open_memory(tmp_path / "m")) == 14
    assert len(list((tmp_path / "m").glob("index-*"))) == 1


def test_bad_input_is_one_line(tmp_path):
    out = ["--out", str(tmp_path / "m")]
    assert "must be a .jsonl file or a folder" in commands.error_of("index", "none.txt", *out)
    assert not (tmp_path / "m").exists()
    assert "--k1 must be at least 0, got -1.0; change it" in commands.error_of(
        "index", "--k1=-1", *out
    )
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a"}\n{"text": 3}\n')
    assert "a.jsonl line 2 must give text" in commands.error_of(
        "index", str(source), *out, "--shard_size=1"
    )
    assert not list((tmp_path / "m").glob("*"))
