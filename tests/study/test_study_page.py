# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: clicks and keys to a downloaded file, and from there to a tally."""

import json

import pytest

from mimir_jax.study import form, page, tally
from tests import browser
from tests.study import studies

pytestmark = pytest.mark.skipif(
    not (browser.CHROMIUM and browser.CHROMEDRIVER),
    reason="needs a browser: apt-get install chromium chromium-driver",
)
AXES = [axis.id for axis in form.AXES]


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    base = tmp_path_factory.mktemp("videos")
    prompts = [*studies.PROMPTS[:2], "longer" * 30]
    return {name: studies.write_folder(base / name, prompts) for name in ("ours", "base")}


def open_study(window, out):
    window.open(out / "page" / "index.html")


def side_of(window, key, system):
    """Where the shown pair has the video of a system."""
    shown = window.run(
        "return [...document.querySelectorAll('#videos video')].map((v) => v.getAttribute('src'))"
    )
    pair = next(p for p in key.pairs if [f"videos/{s.video}" for s in (p.left, p.right)] == shown)
    assert window.text("#prompt") == pair.prompt
    return "left" if pair.left.system == system else "right"


def downloaded(folder, count):
    files = browser.wait(lambda: len(f := sorted(folder.glob("*.json"))) == count and f)
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def test_clicks_and_keys_lead_to_a_tally(systems, tmp_path):
    key = page.build(systems, tmp_path / "study")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browser.start(downloads) as window:
        open_study(window, tmp_path / "study")
        assert "3 pairs of videos" in window.text("#start") and not window.shown("#memory")
        window.type("#name", "Ada")
        window.click("#go")

        browser.wait(  # both videos run, silently
            lambda: window.run(
                "return [...document.querySelectorAll('#videos video')].filter((v) => "
                "v.currentTime > 0 && v.videoWidth === 64 && v.muted && v.loop).length === 2"
            )
        )
        assert window.text("#next") == "Skip"
        for axis in AXES:
            window.click(f"#{axis} .{side_of(window, key, 'ours')}")
        assert window.text("#next") == "Next"
        window.click("#next")

        arrow = f"Arrow{side_of(window, key, 'ours').title()}"
        window.press(arrow, arrow, "Enter")  # Enter waits for the third answer
        assert window.text("#place") == "Pair 2 of 3"
        window.press(arrow, "Enter")
        assert window.text("#place") == "Pair 3 of 3"

        window.press("Backspace")  # back, to change one answer
        assert window.text("#place") == "Pair 2 of 3"
        assert window.run("return document.querySelectorAll('#axes input:checked').length") == 3
        window.click(f"#physics_simulation .{side_of(window, key, 'base')}")
        window.click("#next")
        window.click("#pair [data-download]")
        early = downloaded(downloads, 1)
        assert len(json.loads(early.read_text())["answers"]) == 2

        window.click("#next")  # skips the third pair
        assert "1 of 3 pairs can still be answered" in window.text("#end")
        window.click("#missing")
        window.reload()
        assert window.run("return document.querySelector('#name').value") == "Ada"
        assert window.text("#go") == "Continue"
        window.click("#go")
        assert window.text("#place") == "Pair 3 of 3"
        for axis in AXES:
            window.click(f"#{axis} .{side_of(window, key, 'ours')}")
        assert window.text("#next") == "Finish"
        window.click("#next")
        assert window.text("#thanks") == "Thank you" and not window.shown("#missing")
        window.click("#end [data-download]")
        final = downloaded(downloads, 2)

        window.click("#end [data-restart]")
        assert "start over" in window.accept()
        assert window.text("#go") == "Begin" and not window.shown("#start [data-restart]")
        loaded = window.run("return performance.getEntriesByType('resource').map((r) => r.name)")
        assert all(name.startswith("file://") for name in loaded)
        assert window.complaints() == []

    answers = json.loads(final.read_text())
    assert answers["rater"] == "Ada" and len(answers["answers"]) == 3
    with pytest.raises(ValueError, match="repeats the session"):
        tally.read_answers([early, final], key)
    axes = tally.tally(tally.read_answers([final], key), key)["axes"]
    rates = [axes[axis]["systems"]["ours"]["win_rate"] for axis in AXES]
    assert rates == [100, pytest.approx(66.6667), 100]


def test_page_works_where_nothing_may_be_kept(systems, tmp_path):
    key = page.build(systems, tmp_path / "study")
    with browser.start(tmp_path, storage=False) as window:
        open_study(window, tmp_path / "study")
        assert "does not let the page keep your progress" in window.text("#memory")
        window.click("#go")
        window.click("#visual_quality .left")
        window.click("#next")
        window.press("Backspace")
        assert window.run("return document.querySelector('#visual_quality-left').checked")
        window.click("#pair [data-download]")
        tally.read_answers([downloaded(tmp_path, 1)], key)
        window.reload()
        assert window.text("#go") == "Begin"


@pytest.mark.parametrize(
    "size",
    [
        (320, 568),
        pytest.param((390, 844), marks=pytest.mark.slow),
        pytest.param((844, 390), marks=pytest.mark.slow),
        (1280, 800),
    ],
    ids=str,
)
def test_page_fits_screens_and_fingers(systems, tmp_path_factory, size):
    out = tmp_path_factory.mktemp("study") / "out"
    key = page.build(systems, out, ties=True)
    with browser.start(out) as window:
        window.emulate(*size, phone=size != (1280, 800))
        open_study(window, out)
        small = (
            "return [...document.querySelectorAll('button, .choice, input#name')].map((e) => "
            "e.getBoundingClientRect()).filter((r) => r.width && Math.min(r.width, r.height) < 44)"
        )
        wide = "return document.documentElement.scrollWidth - innerWidth"
        assert window.run(wide) <= 0 and window.run(small) == []
        window.click("#go")
        for _ in key.pairs:
            browser.wait(
                lambda: window.run(
                    "return [...document.querySelectorAll('#videos video')].every((v) => "
                    "v.readyState > 1)"
                )
            )
            assert window.run(wide) <= 0 and window.run(small) == []
            tops = window.run(
                "return [...document.querySelectorAll('#videos video')].map((v) => "
                "v.getBoundingClientRect().top)"
            )
            assert (tops[0] == tops[1]) == (size[0] > size[1])  # stacked on an upright phone
            window.press("ArrowDown", "ArrowDown", "ArrowDown", "Enter")
        assert window.text("#thanks") == "Thank you"
        assert window.run(wide) <= 0 and window.run(small) == []
        assert '"visual_quality":"tie"' in window.run(
            "return document.querySelector('#copy').value"
        )
