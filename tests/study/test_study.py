# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import collections
import json
import random
import re

import av
import numpy as np
import pytest

from mimir_jax.study import clips, form, page, tally
from tests.data import video_files
from tests.study import studies

AXES = [axis.id for axis in form.AXES]


def frames(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(container.streams.video[0])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("videos")
    return {
        f"sys-{how}": studies.write_folder(base / f"sys-{how}", how=how)
        for how in ("captions", "json", "txt")
    }


@pytest.fixture(scope="module")
def built(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return out, page.build(folders, out)


# Folders


@pytest.mark.parametrize("how", ["captions", "json", "txt"])
def test_folder_reads_prompts_of_every_form(folders, how):
    found = clips.read_folder(folders[f"sys-{how}"])
    assert [clip.prompt for clip in found] == list(studies.PROMPTS)
    assert [clip.path.stem for clip in found] == ["00", "01", "02"]


def test_folder_sorts_numbers_as_numbers(tmp_path):
    names = [f"{i:02d}.mp4" for i in (0, 9, 10, 11, 99, 100, 101)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "captions.txt").write_text("".join(f"{name}\r\n" for name in names))
    assert all(clip.prompt == clip.path.name for clip in clips.read_folder(tmp_path))


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "needs at least one video"),
        ({"a.txt": "x", ".b.mp4": ""}, "needs at least one video"),
        ({"a.mp4": "", "b.mp4": ""}, "found none for a.mp4, b.mp4"),
        ({"a.mp4": "", "a.txt": " \n"}, "found none for a.mp4"),
        ({"a.mp4": "", "captions.txt": "x\ny\n"}, "needs a line for each of 1 videos, has 2"),
        ({"a.mp4": "", "b.mp4": "", "captions.txt": "x\n\n"}, "found none for b.mp4"),
        ({"a.mp4": "", "a.json": "{"}, 'a.json must be a JSON object with a text "prompt"'),
        ({"a.mp4": "", "a.json": '{"prompt": 3}'}, "a.json must be a JSON object"),
        ({"a.mp4": "", "a.json": "[]"}, "a.json must be a JSON object"),
    ],
)
def test_folder_refuses(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        clips.read_folder(tmp_path)


def test_folder_refuses_other_encodings_and_absence(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match="a.txt must be UTF-8"):
        clips.read_folder(tmp_path)
    with pytest.raises(ValueError, match="needs an existing folder"):
        clips.read_folder(tmp_path / "nowhere")


def clip(name, prompt):
    return clips.Clip(clips.pathlib.Path(name), prompt)


def test_match_pairs_equal_prompts_in_order_and_reports_the_rest():
    systems = {
        "one": [clip("0", "x"), clip("1", "x"), clip("2", "y"), clip("3", "only one")],
        "two": [clip("0", "y"), clip("1", "x"), clip("2", "x"), clip("3", "x")],
    }
    groups, unmatched = clips.match(systems)
    names = [tuple(c.path.name for c in group.values()) for group in groups]
    assert names == [("0", "1"), ("1", "2"), ("2", "0")]
    assert unmatched == {"one": ["3"], "two": ["3"]}


def test_match_needs_two_systems_and_a_common_prompt():
    with pytest.raises(ValueError, match="at least two systems, got 1"):
        clips.match({"one": [clip("0", "x")]})
    with pytest.raises(ValueError, match="one, two need a common prompt"):
        clips.match({"one": [clip("0", "x")], "two": [clip("0", "y")]})


# Copies of videos


@pytest.mark.parametrize("how", ["captions", "txt"])
def test_copy_keeps_every_frame_and_drops_what_tells(folders, tmp_path, how):
    source = clips.read_folder(folders[f"sys-{how}"])[0].path
    target = tmp_path / f"copy{source.suffix}"
    clips.copy_bare(source, target)
    np.testing.assert_array_equal(frames(target), frames(source))
    assert b"SECRET" in source.read_bytes() and b"SECRET" not in target.read_bytes()


def test_copy_keeps_rotation_and_drops_sound(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    video_files.write_video(source, [video_files.gray(50)] * 4, rotation=90)
    clips.copy_bare(source, target)
    with av.open(str(target)) as container:
        assert next(container.decode(video=0)).rotation == 90
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        audio = container.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 48000
        image = av.VideoFrame.from_ndarray(video_files.gray(50), format="rgb24")
        for packet in [*video.encode(image), *audio.encode(sound), *video.encode()]:
            container.mux(packet)
        container.mux(audio.encode())
    clips.copy_bare(source, target)
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("how", ["empty", "noise"])
def test_copy_names_a_broken_video(tmp_path, how):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    video_files.break_file(tmp_path / "a.mp4", how)
    with pytest.raises(ValueError, match="a.mp4 cannot be read as a video: Invalid data"):
        clips.copy_bare(tmp_path / "a.mp4", tmp_path / "b.mp4")


@pytest.mark.parametrize("codec, pixels", [("mpeg4", "yuv420p"), ("libx264", "yuv444p")])
def test_copy_refuses_what_browsers_do_not_play(tmp_path, codec, pixels):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        image = av.VideoFrame.from_ndarray(video_files.gray(50), format="rgb24")
        container.mux([*stream.encode(image), *stream.encode()])
    with pytest.raises(ValueError, match=f"to play in every browser, got .*{pixels}"):
        clips.copy_bare(tmp_path / "a.mp4", tmp_path / "b.mp4")


# The page


def test_build_gives_raters_nothing_of_the_key(built, folders):
    out, key = built
    assert {path.name for path in out.iterdir()} == {"page", "key.json"}
    assert {path.name for path in (out / "page").iterdir()} == {"index.html", "videos"}
    files = [path for path in (out / "page").rglob("*") if path.is_file()]
    for path in files:
        assert re.fullmatch(r"[0-9a-f]{16}\.(mp4|webm)|index\.html", path.name)
        for secret in ("sys-", "SECRET", str(key.seed), str(folders["sys-json"].parent)):
            assert secret.encode() not in path.read_bytes(), (path, secret)
    assert len(files) == 10


def test_build_asks_about_every_two_systems_on_every_prompt(built, folders):
    out, key = built
    asked = {(frozenset((p.left.system, p.right.system)), p.prompt) for p in key.pairs}
    assert len(asked) == len(key.pairs) == 3 * len(studies.PROMPTS)
    videos = {path.name for path in (out / "page" / "videos").iterdir()}
    assert len(videos) == 9
    for pair in key.pairs:
        for side in (pair.left, pair.right):
            assert side.video in videos
            source = folders[side.system] / side.file
            assert len(frames(out / "page" / "videos" / side.video)) == len(frames(source))
            assert clips.read_folder(folders[side.system])[int(side.file[:2])].prompt == pair.prompt
    assert form.read_key(out / "key.json") == key


def test_page_needs_no_network_and_holds_prompts_as_text(built):
    out, key = built
    html = (out / "page" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.|@import|<link(?! rel=\"icon\" href=\"data:,\")", html)
    assert html.count("</script>") == 2 and "<b>ein" not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert {pair["prompt"] for pair in data["pairs"]} == set(studies.PROMPTS)
    assert [axis["id"] for axis in data["axes"]] == AXES


def groups_of(systems, prompts):
    return [{s: clip(f"{p}.mp4", f"prompt {p}") for s in systems} for p in range(prompts)]


@pytest.mark.parametrize("systems, prompts", [(2, 7), (3, 4), (4, 6), (6, 20)])
def test_draw_is_even_over_systems_prompts_and_sides(systems, prompts):
    names = [f"s{i}" for i in range(systems)]
    groups = groups_of(names, prompts)
    total = systems * (systems - 1) // 2 * prompts
    for count in {None, total, total // 2 + 1, 3}:
        drawn = page.draw_pairs(groups, count, random.Random(0))
        assert len(drawn) == len(set(drawn)) == (count or total)
        duels = collections.Counter(frozenset((a.system, b.system)) for _, a, b in drawn)
        asked = collections.Counter(prompt for prompt, _, _ in drawn)
        lefts = collections.Counter((a.system, b.system) for _, a, b in drawn)
        assert max(duels.values()) - min(duels.values()) <= 1
        assert max(asked.values()) - min(asked.values()) <= 1
        assert all(abs(n - lefts[b, a]) <= 1 for (a, b), n in lefts.items())


@pytest.mark.parametrize("count", [0, -1, 10])
def test_draw_refuses_more_pairs_than_there_are(count):
    with pytest.raises(ValueError, match=f"pairs must be 1 to 9, .* got {count}"):
        page.draw_pairs(groups_of("abc", 3), count, random.Random(0))


def test_build_follows_the_seed(folders, tmp_path):
    two = {name: folders[name] for name in ("sys-captions", "sys-json")}
    first = page.build(two, tmp_path / "a", seed=3)
    assert page.build(two, tmp_path / "b", seed=3) == first
    assert page.build(two, tmp_path / "c", seed=4).study != first.study
    drawn = page.build(two, tmp_path / "d", pairs=2, ties=True)
    assert len(drawn.pairs) == 2 and drawn.choices == ("left", "right", "tie")
    html = (tmp_path / "d" / "page" / "index.html").read_text(encoding="utf-8")
    assert '"ties": true' in html


def test_build_leaves_nothing_when_a_video_is_bad(folders, tmp_path):
    bad = studies.write_folder(tmp_path / "bad")
    (bad / "02.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="02.mp4 cannot be read"):
        page.build({"good": folders["sys-json"], "bad": bad}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_page_has_contrast_in_light_and_dark():
    style = (clips.pathlib.Path(page.__file__).parent / "web" / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\S+): (#\w{6});", part)) for part in style.split("@media")[:2]
    )

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return np.dot(parts, [0.2126, 0.7152, 0.0722])

    for colors in (light, dark):
        for front, back, least in (
            ("ink", "paper", 7), ("ink", "card", 7), ("ink", "notice", 7), ("soft", "paper", 4.5),
            ("accent", "paper", 4.5), ("on-accent", "accent", 4.5), ("line", "card", 3),
        ):  # fmt: skip
            high, low = sorted(luminance(colors[name]) + 0.05 for name in (front, back))[::-1]
            assert high / low >= least, (front, back, high / low)


# The tally


def count(tmp_path, key, *raters):
    files = [
        studies.write_answers(tmp_path / f"{i}.json", key, choose)
        for i, choose in enumerate(raters)
    ]
    return tally.tally(tally.read_answers(files, key), key)


def test_tally_of_two_systems_is_their_share(tmp_path):
    key = studies.make_key(["ours", "base"], 4)
    result = count(tmp_path, key, *[studies.prefer("ours")] * 3, studies.prefer("base"))
    assert result["raters"] == 4 and result["unmet"] == []
    for axis in AXES:
        systems = result["axes"][axis]["systems"]
        assert systems["ours"]["win_rate"] == 75 and systems["base"]["win_rate"] == 25
        assert systems["ours"]["against"] == {"base": {"wins": 12.0, "answers": 16}}


@pytest.mark.parametrize("systems", [2, 3, 6])
def test_tally_sums_to_fifty_times_the_systems(tmp_path, systems):
    rng = np.random.default_rng(0)
    key = studies.make_key([f"s{i}" for i in range(systems)], 3, ties=True)
    skipped = {pair.id for pair in key.pairs[:2]}

    def choose(pair, axis):
        return None if pair.id in skipped else rng.choice(["left", "right", "tie"]).item()

    result = count(tmp_path, key, choose, choose)
    for axis in AXES:
        cells = result["axes"][axis]["systems"].values()
        assert sum(cell["win_rate"] for cell in cells) == pytest.approx(50 * systems, abs=1e-3)
        for cell in cells:
            low, high = cell["interval"]
            assert 0 <= low <= cell["win_rate"] <= high <= 100
    lines = tally.table(result).splitlines()
    assert len(lines) == systems + 4 and len({len(line) for line in lines}) == 1
    assert lines[-3].split() == ["sum", *[f"{50 * systems:.2f}"] * 3]


def test_tally_counts_ties_as_halves(tmp_path):
    key = studies.make_key(["a", "b"], 2, ties=True)
    result = count(tmp_path, key, lambda pair, axis: "tie")
    axis = result["axes"]["visual_quality"]
    assert axis["no_difference"] == 2 and axis["systems"]["a"]["win_rate"] == 50


def test_tally_averages_over_opponents_however_often_they_met(tmp_path):
    key = studies.make_key(["a", "b", "c"], 4)
    of = {p.id: {p.left.system, p.right.system} for p in key.pairs}
    first = next(p.id for p in key.pairs if of[p.id] == {"a", "c"})

    def choose(pair, axis):  # a beats b each time and loses to c, whom it meets once
        if of[pair.id] == {"a", "c"} and pair.id != first:
            return None
        return studies.prefer("a" if of[pair.id] == {"a", "b"} else "c")(pair, axis)

    systems = count(tmp_path, key, choose)["axes"]["physics_simulation"]["systems"]
    assert {name: cell["win_rate"] for name, cell in systems.items()} == {
        "a": 50, "b": 0, "c": 100
    }  # fmt: skip


def test_tally_says_which_systems_never_met(tmp_path):
    key = studies.make_key(["a", "b", "c"], 2)

    def choose(pair, axis):
        return None if {pair.left.system, pair.right.system} == {"a", "b"} else "left"

    result = count(tmp_path, key, choose)
    assert result["unmet"] == [["a", "b"]]
    assert "-" not in tally.table(result).splitlines()[1].split()


def test_tally_lays_out_an_axis_without_answers(tmp_path):
    key = studies.make_key(["a", "b"], 2)
    result = count(tmp_path, key, lambda pair, axis: "left" if axis == AXES[0] else None)
    assert result["axes"][AXES[1]]["systems"]["a"]["interval"] == [None, None]
    assert tally.table(result).splitlines()[1].split()[-2:] == ["-", "-"]
    json.dumps(result, allow_nan=False)


def test_interval_shrinks_with_answers_and_never_claims_certainty(tmp_path):
    few = count(tmp_path, studies.make_key(["a", "b"], 2), studies.prefer("a"))
    many = count(tmp_path, studies.make_key(["a", "b"], 20), *[studies.prefer("a")] * 5)
    lows = [r["axes"][AXES[0]]["systems"]["a"]["interval"][0] for r in (few, many)]
    assert lows[0] < 60 and 90 < lows[1] < 100


def test_interval_knows_that_answers_of_a_rater_belong_together(tmp_path):
    key = studies.make_key(["a", "b"], 25)
    split = count(tmp_path, key, *[studies.prefer("a")] * 2, *[studies.prefer("b")] * 2)
    low, high = split["axes"][AXES[0]]["systems"]["a"]["interval"]
    assert low < 10 and high > 90  # 100 independent answers would give 40 to 60


def mixed(pair, axis):
    return ("left", "right")[(int(pair.id[1:]) // 2) % 2]


def test_interval_of_independent_answers_is_wilson(tmp_path):
    key = studies.make_key(["a", "b"], 40)
    result = count(tmp_path, key, mixed, mixed)
    low, high = tally.wilson_intervals(np.array([0.5, 0.5]), np.array([[0.0, 80.0], [80.0, 0.0]]))
    found = result["axes"][AXES[0]]["systems"]["a"]["interval"]
    assert found[0] <= 100 * low[0] + 0.01 and found[1] >= 100 * high[0] - 0.01
    half = 0.5 * (1.959964**2 / (80 + 1.959964**2)) ** 0.5
    np.testing.assert_allclose([low[0], high[0]], [0.5 - half, 0.5 + half], rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: "{", "must be a study answers in JSON"),
        (lambda a: "[" * 100000, "must be a study answers in JSON"),
        (lambda a: "[]", "must be a study answers, found other JSON"),
        (lambda a: {**a, "kind": "study key"}, "must be a study answers, found a study key"),
        (lambda a: {**a, "study": "ff"}, "must answer study 0123456789abcdef, of the key"),
        (lambda a: {**a, "session": None}, "must name its session, got None"),
        (lambda a: {**a, "answers": {}}, "must hold a list of answers"),
        (lambda a: {**a, "answers": []}, "at least one"),
        (lambda a: {**a, "answers": [{"pair": "p9"}]}, "must answer pairs of the study, got 'p9'"),
        (lambda a: {**a, "answers": ["p0"]}, "must answer pairs of the study, got None"),
        (lambda a: {**a, "answers": a["answers"] * 2}, "must answer a pair once, got p0 again"),
        (lambda a: {**a, "answers": [{"pair": "p0", "visual_quality": "tie"}]},
         "must answer visual_quality of pair p0 with left or right, got 'tie'"),
        (lambda a: {**a, "answers": [{"pair": "p0", "visual_quality": ["left"]}]}, "got ['left']"),
        (lambda a: {**a, "answers": [{"pair": "p0", "beauty": "left"}]}, "got 'beauty'"),
        (lambda a: {**a, "answers": [{"pair": "p0"}]}, "at least one"),
    ],
)  # fmt: skip
def test_tally_refuses(tmp_path, change, message):
    key = studies.make_key(["a", "b"], 2)
    good = studies.write_answers(tmp_path / "good.json", key, studies.prefer("a"))
    bad = change(json.loads(good.read_text()) | {"session": "other"})
    path = tmp_path / "bad.json"
    path.write_text(bad if isinstance(bad, str) else json.dumps(bad))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        tally.read_answers([good, path], key)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_tally_refuses_a_session_twice_and_a_missing_file(tmp_path):
    key = studies.make_key(["a", "b"], 2)
    one = studies.write_answers(tmp_path / "one.json", key, studies.prefer("a"), session="s")
    two = studies.write_answers(tmp_path / "two.json", key, studies.prefer("b"), session="s")
    with pytest.raises(ValueError, match="two.json repeats the session of .*one.json"):
        tally.read_answers([one, two], key)
    with pytest.raises(ValueError, match="three.json cannot be read: No such file"):
        tally.read_answers([one, tmp_path / "three.json"], key)
    with pytest.raises(ValueError, match="at least one file"):
        tally.read_answers([], key)


def test_key_refuses_damage(tmp_path):
    path = tmp_path / "key.json"
    whole = studies.make_key(["a", "b"], 1).to_json()
    for damage in (
        {"pairs": None}, {"pairs": [{}]}, {"systems": {"a": "x"}}, {"pairs": whole["pairs"] * 2}
    ):  # fmt: skip
        path.write_text(json.dumps(whole | damage))
        with pytest.raises(ValueError, match="key .*key.json is damaged"):
            form.read_key(path)


def test_result_replaces_only_a_tally_of_the_study(tmp_path):
    key = studies.make_key(["a", "b"], 2)
    result = count(tmp_path, key, studies.prefer("a"))
    path = tmp_path / "results.json"
    tally.write_result(result, path)
    tally.write_result(result, path)
    assert json.loads(path.read_text()) == result
    for other in ({**result, "study": "other"}, [], "text"):
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match="must not exist or be a tally of study"):
            tally.write_result(result, path)
        assert json.loads(path.read_text()) == other
    with pytest.raises(ValueError, match="could not be written"):
        tally.write_result(result, tmp_path / "nowhere" / "results.json")
