# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import av
import numpy as np
import pytest
from PIL import Image

from mimir_jax.sampling import gallery as gallery_lib
from mimir_jax.sampling import prompts
from tests import browser

SETTINGS = {"steps": 4, "batch_size": 1}


def clip(seed):
    return np.random.default_rng(seed).integers(0, 255, (9, 32, 48, 3)).astype(np.uint8)


def write(folder, videos, *, settings=SETTINGS, answers=(), until=None):
    """Writes clips for `videos`, as many as `until`, and finishes if it has all."""
    with gallery_lib.Gallery(folder) as gallery:
        missing = gallery.begin(videos, settings)
        for index in missing[:until]:
            gallery.add(index, clip(index), fps=8.0, answers=answers)
        if until is None:
            gallery.finish()
    return missing


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_gallery_holds_everything_word_for_word(tmp_path):
    prompts = ['<b>"0" & more', "{{count}} of {% raw %}"]
    videos = [{"prompt": prompt, "seed": i} for i, prompt in enumerate(prompts)]
    videos[1]["negative_prompt"] = "<i>blur"
    write(tmp_path / "out", videos, answers=["it <is>", "<it>"])
    with av.open(str(tmp_path / "out" / "001.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 9 and (frames[0].height, frames[0].width) == (256, 384)
    record = json.loads((tmp_path / "out" / "001.json").read_text())
    assert record == {
        **{"video": "001.mp4", "prompt": prompts[1], "seed": 1, "negative_prompt": "<i>blur"},
        **SETTINGS,
        **{"answer": "it <is>", "other_answers": ["<it>"]},
    }
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size[1] > 256
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<video ") == 2 and "<b>" not in page and "<i>" not in page
    assert "<p>&lt;b&gt;&#34;0&#34; &amp; more</p>" in page and f"<p>{prompts[1]}</p>" in page
    assert page.count("away from: &lt;i&gt;blur") == 1
    assert "http" not in page.replace("data:video/mp4", "") and "it &lt;is&gt;" in page
    assert page.index("it &lt;is&gt;</p>") < page.index("not used") < page.index("<li>&lt;it&gt;")


def test_a_folder_may_have_a_colon_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(pathlib.Path("run:2"), [{"prompt": "a", "seed": 0}])
    assert (tmp_path / "run:2" / "000.mp4").is_file()


def test_a_page_of_large_videos_plays_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_lib, "EMBEDDED_BYTES", 0)
    write(tmp_path / "out", [{"prompt": "a", "seed": 0}])
    assert 'src="000.mp4"' in (tmp_path / "out" / "index.html").read_text()


def test_a_stopped_gallery_goes_on_to_the_same_files(tmp_path):
    videos = [{"prompt": f"prompt {i}", "seed": 0} for i in range(3)]
    folder = tmp_path / "out"
    write(folder, videos, until=0)
    assert not folder.exists()  # nothing was made
    write(folder, videos, until=2)
    assert {"000.mp4", "001.json", ".unfinished"} <= {path.name for path in folder.iterdir()}
    for change, message in (
        ({"settings": SETTINGS | {"steps": 5}}, "steps is 4 there and 5 here; delete it or"),
        ({"videos": videos[:2]}, "of another command: prompts or seeds differ"),
    ):
        with pytest.raises(ValueError, match=message):
            write(folder, **({"videos": videos} | change))
    assert write(folder, videos) == [2]
    write(tmp_path / "whole", videos)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_finished_gallery_is_left_as_it_is(tmp_path):
    videos = [{"prompt": f"prompt {i}", "seed": 0} for i in range(3)]
    folder = tmp_path / "out"
    write(folder, videos)
    (folder / ".unfinished").mkdir()  # killed while it was removed
    (folder / ".unfinished/002.png").touch()
    before = contents(tmp_path / "out")
    assert write(folder, videos) == [] and contents(folder) == before
    for change, message in (
        ({"settings": SETTINGS | {"steps": 5}}, "steps is 4 there and 5 here; delete it or"),
        ({"videos": videos[:2]}, "of another command: prompts or seeds differ"),
        ({"videos": [*videos, videos[0]]}, "of another command: prompts or seeds differ"),
        ({"videos": [*videos[1:], videos[0]]}, "of another command: prompts or seeds differ"),
    ):
        with pytest.raises(ValueError, match=message):
            write(folder, **({"videos": videos} | change))
    (folder / "index.html").unlink()
    with pytest.raises(ValueError, match="destination .*out must not exist; delete it"):
        gallery_lib.Gallery(folder)


@pytest.mark.parametrize("kind", ["videos", "settings"])
def test_a_finished_gallery_differs_from_one_without_an_option(tmp_path, kind):
    videos, more = [{"prompt": "a", "seed": 0}], {"strength": 0.5}
    one = {"videos": [videos[0] | more]} if kind == "videos" else {"settings": SETTINGS | more}
    write(tmp_path / "out", **({"videos": videos} | one))
    with pytest.raises(ValueError, match="of another command: prompts or seeds differ"):
        write(tmp_path / "out", videos)


def test_a_finished_gallery_of_many_videos_is_known(tmp_path):
    videos = [{"prompt": f"prompt {i}", "seed": 0} for i in range(1002)]
    write(tmp_path / "out", videos[:1])
    record = json.loads((tmp_path / "out/000.json").read_text())
    for index, video in enumerate(videos):
        (tmp_path / f"out/{index:03d}.json").write_text(json.dumps(record | video))
    assert write(tmp_path / "out", videos) == []


def test_a_command_killed_before_its_plan_starts_again(tmp_path):
    (tmp_path / "out/.unfinished").mkdir(parents=True)
    with gallery_lib.Gallery(tmp_path / "out") as begun:
        assert begun.begin([{"prompt": "a"}], {"steps": 2}) == [0]
    (tmp_path / "other/.unfinished").mkdir(parents=True)
    (tmp_path / "other/mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="must not exist"):
        gallery_lib.Gallery(tmp_path / "other")


@pytest.mark.skipif(
    not (browser.CHROMIUM and browser.CHROMEDRIVER), reason="needs Chromium and chromedriver"
)
def test_a_gallery_plays_in_a_browser(tmp_path):
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 255, 9, dtype=np.uint8)[:, None, None]
    folder = tmp_path / "out"
    with gallery_lib.Gallery(folder) as gallery:
        gallery.begin([{"prompt": "a red wall", "seed": seed} for seed in (3, 4)], SETTINGS)
        for index in range(2):
            gallery.add(index, frames, fps=8.0, answers=["one wall", "two"])
        gallery.finish()
    with browser.start(tmp_path) as window:
        window.open(folder / "index.html")
        plays = (
            "return [...document.querySelectorAll('video')].map(v => [v.videoWidth, v.currentTime])"
        )
        browser.wait(lambda: all(time > 0 for _, time in window.run(plays)))
        assert [width for width, _ in window.run(plays)] == [256, 256]
        assert window.text("figcaption p") == "a red wall"
        assert not window.shown("figcaption details p")
        window.click("summary")
        assert window.text("figcaption details p") == "one wall"
        assert window.text("figcaption li") == "two"
        assert window.complaints() == []


def test_prompt_files(tmp_path):
    (tmp_path / "p.txt").write_text("a red ball\n\n  two boxes \n")
    assert prompts.read(tmp_path / "p.txt") == ["a red ball", "two boxes"]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red ball", "id": 3}\n')
    assert prompts.read(tmp_path / "p.jsonl") == ["a red ball"]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(ValueError, match="line 2 must be JSON such as"):
        prompts.read(tmp_path / "p.jsonl")
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="must be UTF-8 text, got byte 0xff at 0"):
        prompts.read(tmp_path / "p.txt")
    with pytest.raises(ValueError, match="at least one prompt"):
        prompts.check([])
    with pytest.raises(ValueError, match="prompt 2 must be printable text, got 'a.x00'"):
        prompts.check(["a", "a\x00"])
    # White space as it comes from a web page or a shell.
    assert prompts.check([" a\u00a0red\u2003ball\n\n rolls "]) == ["a red ball rolls"]


def test_instruction_files_are_called_so(tmp_path):
    path = tmp_path / "i.txt"
    with pytest.raises(ValueError, match="instruction file .*i.txt must be readable: No such"):
        prompts.read(path, "instruction")
    path.write_text("")
    with pytest.raises(ValueError, match="one instruction must be given; use --instructions FILE"):
        prompts.check(prompts.read(path, "instruction"), "instruction")
    with pytest.raises(ValueError, match="instruction 1 must be printable text, got 'a.x00'"):
        prompts.check(["a\x00"], "instruction")
    path = tmp_path / "i.jsonl"
    path.write_text('{"instruction": "Count."}\n{"prompt": "b"}\n')
    with pytest.raises(ValueError, match="instruction file .* line 2 must be JSON such as"):
        prompts.read(path, "instruction")
