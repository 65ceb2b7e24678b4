# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import pytest

from mimir_jax import files
from mimir_jax.data.sources import folder
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError


def test_a_file_replaces_the_old_one_or_leaves_it(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": "é"})
    assert json.loads(path.read_text()) == {"a": "é"} and path.read_text().endswith("\n")
    with pytest.raises(KeyError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError("stopped")
    assert json.loads(path.read_text()) == {"a": "é"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_is_complete_or_absent(tmp_path):
    folder = tmp_path / "new" / "folder"
    with pytest.raises(KeyError), files.atomic_directory(folder) as temporary:
        (temporary / "a").write_text("half")
        raise KeyError("stopped")
    assert list(folder.parent.iterdir()) == []
    with files.atomic_directory(folder) as temporary:
        (temporary / "a").write_text("whole")
        (temporary / "a").chmod(0o600)
    assert [file.name for file in folder.iterdir()] == ["a"]
    assert folder.stat().st_mode & 0o777 == 0o755 and (folder / "a").stat().st_mode & 0o777 == 0o644
    with pytest.raises(InputError, match="must not exist"), files.atomic_directory(folder):
        pass


def test_a_refusal_of_the_system_is_bad_input_and_another_file_s_error_is_not(tmp_path):
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "a"
    with pytest.raises(InputError, match="a could not be written: Not a directory"):
        files.write_text(below, "x")
    with pytest.raises(InputError, match="a could not be written: Not a directory"):
        with files.atomic_directory(below):
            pass
    for context in (files.atomic_file, files.atomic_directory):
        with pytest.raises(FileNotFoundError), context(tmp_path / "b"):
            (tmp_path / "other").read_text()
        with pytest.raises(InputError, match="could not be written: No space left"):
            with context(tmp_path / "b"):
                raise OSError(28, "No space left on device")


def test_hidden_files_are_not_listed(tmp_path):
    for name in ("b/a.TXT", "a.txt", "._a.txt", ".b/a.txt", "a.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c.txt").mkdir()
    assert files.list_below(tmp_path, (".txt",)) == [tmp_path / "a.txt", tmp_path / "b" / "a.TXT"]


def test_home_is_expanded():
    assert files.expand_path("~/a") == pathlib.Path.home() / "a"
    assert files.expand_path("a/~") == pathlib.Path("a/~")


def test_home_is_expanded_where_data_and_tokenizers_are(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clips").mkdir()
    with pytest.raises(ValueError, match="needs at least one video"):
        folder.VideoFolder("~/clips", frames=9, height=32, width=32, fps=8)
    with pytest.raises(InputError, match=f"folder {tmp_path}/clips must hold a Hugging Face tok"):
        tokenizers.load("~/clips")


def test_what_cannot_be_read_gives_one_line(tmp_path):
    path = tmp_path / "a"
    for content, message in (
        (b"\xff", "run config .*a must be UTF-8 text, got byte 0xff at 0"),
        (b"{", "run config .*a must be JSON: "),
        (b"[]", "run config .*a must be a JSON object, got a list"),
        (b'{"a": %s}' % (b"1" * 5000), "run config .*a must be JSON: Exceeds the limit"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            files.read_json(path, "run config")
    with pytest.raises(InputError, match="config .* must be readable: No such file or directory"):
        files.read_json(tmp_path / "none", "run config")
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(path, "run config") == {"a": 1}


def test_what_cannot_be_written_gives_one_line(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="workdir .* must be writable: Not a directory; free"):
        with files.writing(tmp_path / "a" / "b", "workdir"):
            (tmp_path / "a" / "b").mkdir()
