# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""UCF101, MSR-VTT and subjects by networks of a few numbers and models of one colour."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image

from mimir_jax.encoders import interleaved
from mimir_jax.errors import InputError
from mimir_jax.evaluation import config as c
from mimir_jax.evaluation import embedded_clips, generation, results
from mimir_jax.evaluation.extractors import opening
from mimir_jax.evaluation.metrics import frechet, inception, similarity
from mimir_jax.evaluation.suites import msrvtt, subjects, ucf101
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling import video as video_lib
from tests import commands
from tests.evaluation import networks

KERNEL = np.array([[3.0, 0.1], [0.2, 3.0], [-0.3, 0.1]], np.float32)


def nothing(done, total):
    """A progress that nobody sees."""


class Painter:
    """A model whose videos have one random colour, or that of the image it is given."""

    fps, batch_multiple = 8.0, 3
    settings = {"checkpoint": "painter", "step": 3}  # noqa: RUF012

    def __init__(self, frames=5, stop=None):
        self.frames, self.calls, self.stop, self.requests = frames, 0, stop, []

    def generate(self, requests, *, batch_size):
        if self.calls == self.stop:
            raise KeyboardInterrupt
        self.calls += 1
        self.requests += requests
        return np.stack([self.paint(request) for request in requests])

    def paint(self, request):
        colour = np.random.default_rng(request.seed).integers(0, 256, 3)
        if request.images:
            colour = np.mean([x.mean(axis=(0, 1)) for x in request.images], axis=0)
        return np.full((self.frames, 8, 12, 3), colour, np.uint8)

    def truncated_text(self, request):
        return ""


def write_videos(folder, names, frames=6):
    """Writes a video of one colour under each name."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng(100 + number).integers(0, 256, 3)
        video = np.full((frames, 16, 16, 3), colour, np.uint8)
        video_lib.write_mp4(folder / name, video, fps=8.0)


@pytest.fixture
def c3d(tmp_path, monkeypatch):
    """A network of clips of four frames."""
    monkeypatch.setitem(sys.modules, "onnxruntime", networks.runtime(KERNEL, (3, 4, 6, 6)))
    return networks.write_extractor(tmp_path / "c3d", KERNEL)


@pytest.fixture
def ucf(tmp_path, c3d):
    """Arguments of an evaluation on three classes of 3, 2 and 1 videos."""
    names = [
        f"{name}/v{i}.mp4" for name, n in (("Run", 3), ("Jump", 2), ("Swim", 1)) for i in range(n)
    ]
    write_videos(tmp_path / "real", names)
    prompts = {"Run": "a person runs", "Jump": "a person jumps", "Swim": "a person swims"}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    paths = {"prompts": "prompts.json", "videos": "real", "extractor": "c3d", "classifier": "c3d"}
    return {
        **{name: str(tmp_path / path) for name, path in paths.items()},
        "checkpoint": str(tmp_path), "clips": 24, "clip_frames": 4,
    }  # fmt: skip


def test_ucf101_scores_clips_in_the_proportion_of_the_classes(tmp_path, ucf):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        ucf101.evaluate(c.UCF101EvalConfig(**ucf, out=str(out)), Painter(stop=2), nothing)
    with (out / embedded_clips.CLIPS).open("a") as file:
        file.write('{"name": "cut off')
    model = Painter()
    report = ucf101.evaluate(c.UCF101EvalConfig(**ucf, out=str(out)), model, nothing)
    assert model.calls == 6  # of 8, two were made before the stop
    result = json.loads((out / results.RESULTS).read_text())
    assert result["classes"] == {"Jump": 8, "Run": 12, "Swim": 4}
    assert len(list((out / "videos").glob("*.mp4"))) == 24
    assert {(r.prompt, r.seed) for r in model.requests} >= {("a person swims", 23)}

    lines = results.recover_lines(out / embedded_clips.CLIPS)
    features = embedded_clips.stack(lines, "features")
    seen = np.stack([Painter().paint(type("R", (), {"seed": s, "images": ()})) for s in range(24)])
    np.testing.assert_allclose(features, (seen[:, 0, 0, 0] / 127.5 - 1) @ KERNEL, atol=1e-5)
    real = embedded_clips.stack(results.recover_lines(out / embedded_clips.REFERENCE), "features")
    assert len(real) == 6
    fits = [frechet.fit_gaussian(rows, "clips") for rows in (features, real)]
    assert result["fvd"]["value"] == pytest.approx(frechet.frechet_distance(*fits))
    assert result["fvd"]["interval"][0] < result["fvd"]["value"] < result["fvd"]["interval"][1]
    score = inception.inception_score(inception.to_probabilities(features))
    assert result["inception_score"]["mean"] == pytest.approx(score.mean)
    assert (
        "FVD" in report.text and "IS, 10 splits" in report.text and "24 clips of 4" in report.text
    )

    again = c.UCF101EvalConfig(**ucf | {"seed": 1}, out=str(out))
    with pytest.raises(InputError, match="another evaluation: seed is 0 there and 1 here"):
        ucf101.evaluate(again, Painter(), nothing)
    with pytest.raises(
        InputError, match="--clip_frames must be at most the frames of a video, got 4"
    ):
        ucf101.evaluate(c.UCF101EvalConfig(**ucf, out=str(tmp_path / "o")), Painter(3), nothing)


def test_protocols_run_as_commands(tmp_path, ucf, monkeypatch):
    monkeypatch.setattr(open_lib, "open_pipeline", lambda *args, **options: Painter())
    asked = [f"--{name}={value}" for name, value in ucf.items() if name != "checkpoint"]
    code, out, err = commands.call("evaluate", "ucf101", *asked, "--out", tmp_path / "out")
    assert code == 0, err
    assert "24 clips of 4 frames, 3 classes" in out and "IS, 10 splits" in out
    assert f"results: {tmp_path / 'out' / results.RESULTS}" in out
    line = commands.error_of("evaluate", "ucf101", *asked, "--extractor", tmp_path)
    assert f"--extractor {tmp_path} must be a folder with extractor.json and its network" in line
    line = commands.error_of("evaluate", "subjects", "--prompts", "p", "--images", "i")
    assert "--clip or --dino must name the folder of a network that measures, got none" in line
    line = commands.error_of(
        "evaluate", "msrvtt", "--captions", "c", "--clip", "d", "--videos", "v"
    )
    assert "--videos must be left out without --extractor, which alone reads it, got v" in line


def test_prompts_get_their_documents(tmp_path, ucf, monkeypatch):
    def retrieve(folder, requests, system):
        assert folder == "memory" and system == "vimi" and len(requests) == 3
        given = [interleaved.Document(f"of {r.prompt}", None) for r in requests[:2]]
        found = [dataclasses.replace(r, document=d) for r, d in zip(requests, given, strict=False)]
        return [*found, requests[2]], [requests[2].prompt]

    monkeypatch.setattr(generation.retrieval, "retrieve", retrieve)
    config = c.UCF101EvalConfig(**ucf, retrieve="memory", out=str(tmp_path / "out"))
    with pytest.raises(InputError, match="--retrieve must be left out for an LLM of clips"):
        ucf101.evaluate(config, Painter(), nothing)
    samples = ucf101.plan_samples({"a": "x", "b": "y", "c": "z"}, {"a": 2, "b": 1, "c": 1}, 5)
    model = Painter()
    model.system = "vimi"
    found = generation.with_documents(samples, "memory", model)
    assert [s.document and s.document.text for s in found] == ["of x", "of x", "of y", None]
    assert found == samples and generation.with_documents(samples, None, model) == samples


def test_frames_alone_give_a_distance_that_is_no_fvd(tmp_path, ucf, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", networks.runtime(KERNEL, (3, 6, 6)))
    networks.write_extractor(tmp_path / "2d", KERNEL, (3, 6, 6), layout="bchw", frames=None)
    config = ucf | {"extractor": str(tmp_path / "2d"), "classifier": None, "clips": 3}
    report = ucf101.evaluate(
        c.UCF101EvalConfig(**config, out=str(tmp_path / "out")), Painter(), nothing
    )
    result = json.loads((tmp_path / "out" / results.RESULTS).read_text())
    assert "fvd" not in result and result["frame_distance"]["interval"] is None
    assert "Fréchet distance of mean frames" in report.text and "FVD" not in report.text
    few = config | {"clips": 2, "out": str(tmp_path / "few")}
    with pytest.raises(InputError, match="generated clips must be at least 3 for the covariance"):
        ucf101.evaluate(c.UCF101EvalConfig(**few), Painter(), nothing)


def test_ucf101_reads_lists_and_names_what_does_not_fit(tmp_path, ucf):
    (tmp_path / "list.txt").write_text("Run/v1.mp4 1\nSwim/v0.mp4 3\n")
    (tmp_path / "slashes.txt").write_text((tmp_path / "list.txt").read_text().replace("/", "\\"))
    found = ucf101.find_videos(tmp_path / "real", tmp_path / "list.txt")
    assert found == ucf101.find_videos(tmp_path / "real", tmp_path / "slashes.txt")
    assert found == {"Run": ["Run/v1.mp4"], "Swim": ["Swim/v0.mp4"]}
    with pytest.raises(InputError, match="of the classes of --videos, 1 have no videos: Jump"):
        ucf101.read_prompts(tmp_path / "prompts.json", found)
    with pytest.raises(InputError, match="1 have no prompt: Fly; correct one"):
        ucf101.read_prompts(tmp_path / "prompts.json", {"Run": 1, "Jump": 1, "Swim": 1, "Fly": 1})
    (tmp_path / "list.txt").write_text("Run/v9.mp4\n")
    with pytest.raises(
        InputError, match="--video_list .* must hold paths below .*, got Run/v9.mp4"
    ):
        ucf101.find_videos(tmp_path / "real", tmp_path / "list.txt")
    write_videos(tmp_path / "flat", ["a.mp4"])
    with pytest.raises(InputError, match="video a.mp4 must be in a folder of its class"):
        ucf101.find_videos(tmp_path / "flat", None)
    with pytest.raises(InputError, match="must be a folder with videos, found none"):
        ucf101.find_videos(tmp_path / "none", None)
    rng = np.random.default_rng(0)
    options = dict(fps=None, size=(4, 4), rng=rng)
    with pytest.raises(InputError, match="holds no 7 frames at the rate asked for; leave it out"):
        embedded_clips.read_window(tmp_path / "flat" / "a.mp4", frames=7, **options)


def test_shares_follow_the_sizes():
    assert ucf101.share_out(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    sizes = {str(i): 100 + i for i in range(101)}
    counts = ucf101.share_out(10_000, sizes)
    assert sum(counts.values()) == 10_000
    exact = {name: 10_000 * size / sum(sizes.values()) for name, size in sizes.items()}
    assert all(abs(counts[name] - exact[name]) < 1 for name in sizes)


class Colours:
    """Stands in for a CLIP: frames are their mean colour, texts the colour that they name."""

    settings = {"extractor": "colours"}  # noqa: RUF012

    def embed_images(self, images):
        return images.mean(axis=(1, 2)).astype(np.float32)

    def embed_texts(self, texts):
        colours = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}
        return np.array([next(colours[w] for w in t.split() if w in colours) for t in texts])


@pytest.fixture
def colours(monkeypatch):
    for name in ("open_pair_extractor", "open_image_extractor"):
        monkeypatch.setattr(opening, name, lambda path, flag: Colours())


def test_msrvtt_measures_a_random_caption_of_each_test_video(tmp_path, c3d, colours):
    names = [f"video{i}" for i in range(12)]
    write_videos(tmp_path / "real", [f"{name}.mp4" for name in names[:11]])
    raw = {
        "videos": [{"video_id": n, "split": "train" if n == "video11" else "test"} for n in names],
        "sentences": [
            {"video_id": n, "caption": f"a {colour}  ball"}
            for colour in ("red", "green", "blue") for n in names
        ],
    }  # fmt: skip
    (tmp_path / "info.json").write_text(json.dumps(raw))
    captions = msrvtt.read_captions(tmp_path / "info.json")
    assert list(captions) == names[:11] and captions["video3"][1] == "a green ball"
    drawn = msrvtt.draw_captions(captions, None, 0)
    assert msrvtt.draw_captions(captions, 4, 0) == drawn[:4]
    assert len({caption for _, caption in drawn}) > 1
    assert msrvtt.draw_captions(captions, None, 1) != drawn

    config = dict(
        checkpoint=str(tmp_path), captions=str(tmp_path / "info.json"), clip="colours",
        extractor=str(c3d), videos=str(tmp_path / "real"), clip_frames=4,
    )  # fmt: skip
    model = Painter()
    report = msrvtt.evaluate(c.MSRVTTEvalConfig(**config, out=str(tmp_path / "a")), model, nothing)
    assert [request.prompt for request in model.requests] == [one.caption for one in drawn]
    videos = np.stack([model.paint(request) for request in model.requests])
    frames = similarity.unit(videos[:, 0, 0, 0].astype(float))
    expected = (frames * Colours().embed_texts([r.prompt for r in model.requests])).sum(axis=1)
    result = json.loads((tmp_path / "a" / results.RESULTS).read_text())
    assert result["clipsim"]["value"] == pytest.approx(expected.mean(), rel=1e-6)
    assert result["fvd"]["real_clips"] == 11 and "CLIPSIM" in report.text and "FVD" in report.text

    lines = [{"video": "video0.mp4", "caption": "a red ball"}, {"video": "x", "captions": ["blue"]}]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert msrvtt.read_captions(tmp_path / "lines.jsonl") == {
        "video0.mp4": ["a red ball"], "x": ["blue"]
    }  # fmt: skip
    config = config | {"captions": str(tmp_path / "lines.jsonl"), "out": str(tmp_path / "b")}
    with pytest.raises(InputError, match="all videos of --captions, 1 are missing: x; check"):
        msrvtt.evaluate(c.MSRVTTEvalConfig(**config), model, nothing)
    with pytest.raises(InputError, match="--clips must be at most the 2 test videos, got 3"):
        msrvtt.evaluate(c.MSRVTTEvalConfig(**config, clips=3), model, nothing)
    for text in ("[1]", '{"video": "a"}', '{"video": 3, "caption": "b"}', "a red ball"):
        (tmp_path / "lines.jsonl").write_text(text)
        with pytest.raises(InputError, match="must be MSR-VTT's JSON, or an object with video"):
            msrvtt.read_captions(tmp_path / "lines.jsonl")


def write_subjects(folder):
    """Writes two subjects of different colours, the red one with two images."""
    for name, colour in (("cat/0.png", (200, 20, 20)), ("cat/1.png", (200, 120, 20)),
                         ("box/a.jpg", (20, 20, 200))):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), colour).save(folder / name)


def test_subjects_are_recognised_and_stillness_shows(tmp_path, colours):
    write_subjects(tmp_path / "images")
    entries = [
        {"prompt": "A <img> runs", "caption": "a red cat runs", "subjects": ["cat"]},
        {"prompt": "A <img> rolls", "caption": "a blue box rolls", "subjects": ["box"]},
        {"prompt": "A <img> on a <img>", "caption": "a red cat", "subjects": ["cat", "box"]},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, entries)))
    config = dict(
        checkpoint=str(tmp_path), prompts=str(tmp_path / "p.jsonl"), dino="colours",
        clip="colours", images=str(tmp_path / "images"), samples_per_prompt=2, clip_frames=4,
    )  # fmt: skip
    model = Painter()
    report = subjects.evaluate(
        c.SubjectsEvalConfig(**config, out=str(tmp_path / "out")), model, nothing
    )
    assert [len(request.images) for request in model.requests] == [1, 1, 1, 1, 2, 2]
    result = json.loads((tmp_path / "out" / results.RESULTS).read_text())
    one, two = result["groups"]["1"], result["groups"]["2"]
    assert one["clips"] == 4 and one["subjects"] == 2 and two["clips"] == 2
    images = similarity.unit(np.array([[200.0, 20, 20], [200, 120, 20]]))
    agreement = float(images[0] @ images[1])
    assert result["real"]["clip_i"] == pytest.approx(agreement, abs=1e-3)
    # The cat of its first image agrees with both, the box with its only one.
    assert one["dino"]["value"] == pytest.approx(((1 + agreement) / 2 + 1) / 2, abs=0.01)
    assert one["clip_t"]["value"] > 0.9 and one["change"]["value"] == 0
    assert two["dino"]["value"] < one["dino"]["value"]
    assert "real images" in report.text and "DINO" in report.text and "change, %" in report.text


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prompt": "A <img>"}', "line 1 must have prompt and caption, texts, and subjects"),
        ("[1]", "line 1 must have prompt and caption"),
        ("{", "line 1 must be a JSON object: "),
        ('{"prompt": "A cat", "caption": "a", "subjects": ["cat"]}', "got 0 for 1 and 0"),
        ('{"prompt": "<img>", "caption": "<img>", "subjects": ["cat"]}', "got 1 for 1 and 1"),
        ('{"prompt": "<img>", "caption": "a", "subjects": []}', "subjects, a list of folders"),
    ],
)
def test_prompts_of_subjects_are_checked(tmp_path, line, message):
    (tmp_path / "p.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        subjects.read_tasks(tmp_path / "p.jsonl")


def test_subjects_without_images_are_named(tmp_path):
    write_subjects(tmp_path / "images")
    for name in ("dog", "../images/cat/..", "../../etc"):
        with pytest.raises(InputError, match="must hold a folder .* with images .*, found none"):
            subjects.find_images(tmp_path / "images", ["cat", name])


def test_similarities_in_closed_form():
    frames = np.array([[[2.0, 0], [0, 3]], [[1, 1], [-1, 1]]])
    texts = np.array([[1.0, 0], [0, 5]])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(similarity.text_similarity(frames, texts), [0.5, half])
    real = [np.array([[1.0, 0], [0, 1]]), np.array([[-1.0, 0]])]
    assert similarity.subject_similarity(frames[0], real) == pytest.approx((0.5 - 0.5) / 2)
    assert similarity.agreement_of_images(real[0]) == pytest.approx(0)
    assert similarity.agreement_of_images(real[1]) is None
    clips = np.zeros((2, 3, 2, 2, 3), np.uint8)
    clips[1, 1] = 255
    np.testing.assert_allclose(similarity.frame_change(clips), [0, 100])
    assert similarity.frame_change(clips[:, :1]).tolist() == [0, 0]


UCF, VTT, SUBJECTS = c.UCF101EvalConfig, c.MSRVTTEvalConfig, c.SubjectsEvalConfig
UCF_FILES, SUBJECT_FILES = dict(prompts="p", videos="v"), dict(prompts="p", images="i")


@pytest.mark.parametrize(
    "make, fields, message",
    [
        (UCF, {"videos": "v"}, "--prompts must name the prompts of classes, got none"),
        (UCF, UCF_FILES, "--extractor or --classifier must name the folder of a network"),
        (UCF, UCF_FILES | {"classifier": "c", "reference_fps": 8.0},
         "--reference_fps must be left out without --extractor, which alone reads it, got 8.0"),
        (UCF, UCF_FILES | {"extractor": "e", "reference_fps": 0.0}, "--reference_fps must be ab"),
        (UCF, UCF_FILES | {"extractor": "e", "clips": 0}, "--clips must be at least 1, got 0"),
        (VTT, {"clip": "c"}, "--captions must name the file of captions"),
        (VTT, {"captions": "f"}, "--clip or --extractor must name the folder"),
        (VTT, {"captions": "f", "extractor": "e"}, "--videos must name the folder of real videos"),
        (VTT, {"captions": "f", "clip": "c", "videos": "v"}, "--videos must be left out without"),
        (SUBJECTS, {"prompts": "p", "dino": "d"}, "--images must name the folder of subjects"),
        (SUBJECTS, SUBJECT_FILES, "--clip or --dino must name the folder of a network"),
    ],
)  # fmt: skip
def test_settings_that_nothing_reads_are_refused(make, fields, message):
    with pytest.raises(InputError, match=message):
        make(**fields)
