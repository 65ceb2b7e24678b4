# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import av
import numpy as np
import pytest
from PIL import Image

from mimir_jax.sampling import gallery, prompts
from tests import browser


def test_a_gallery_holds_everything(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        gallery.Sample(
            rng.integers(0, 255, (9, 32, 48, 3)).astype(np.uint8),
            {
                "prompt": f'<b>"{i}" & more',
                "seed": i,
                "answer": "it <is>",
                "other_answers": ["<it>"],
            },
        )
        for i in range(2)
    ]
    gallery.write(tmp_path, samples, fps=8.0)
    with av.open(str(tmp_path / "001.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 9 and (frames[0].height, frames[0].width) == (256, 384)
    assert json.loads((tmp_path / "001.json").read_text())["seed"] == 1
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[1] > 256
    page = (tmp_path / "index.html").read_text()
    assert page.count("<video ") == 2 and "&lt;b&gt;" in page and "<b>" not in page
    assert "http" not in page.replace("data:video/mp4", "") and "it &lt;is&gt;" in page
    assert page.index("it &lt;is&gt;</p>") < page.index("not used") < page.index("<li>&lt;it&gt;")


@pytest.mark.skipif(
    not (browser.CHROMIUM and browser.CHROMEDRIVER), reason="needs Chromium and chromedriver"
)
def test_a_gallery_plays_in_a_browser(tmp_path):
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 255, 9, dtype=np.uint8)[:, None, None]
    record = {"prompt": "a red wall", "seed": 3, "answer": "one wall", "other_answers": ["two"]}
    sample = gallery.Sample(frames, record)
    gallery.write(tmp_path, [sample, sample], fps=8.0)
    with browser.start(tmp_path) as window:
        window.open(tmp_path / "index.html")
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
    with pytest.raises(ValueError, match="must be readable text: it is not UTF-8"):
        prompts.read(tmp_path / "p.txt")
    with pytest.raises(ValueError, match="at least one prompt"):
        prompts.check([])
    with pytest.raises(ValueError, match="prompt 2 must be printable text, got 'a.x00'"):
        prompts.check(["a", "a\x00"])
    # White space as it comes from a web page or a shell.
    assert prompts.check([" a\u00a0red\u2003ball\n\n rolls "]) == ["a red ball rolls"]


def test_instruction_files_are_called_so(tmp_path):
    path = tmp_path / "i.txt"
    with pytest.raises(ValueError, match="instruction file .*i.txt must be readable text: No such"):
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
