# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the parts of VIMI (arXiv 2407.06304) bring, as data: rows of the first and second stage.

The paper's own tables could not be read (V-U13), so the rows are ours. Runs are judged by the
grounding suite. The predictions were written before any row ran, but for those of the aligner that
trains on, which a run of the shipped miniature suggested.
"""

from typing import Any

from mimir_jax.systems.ablations import START, Ablation, Prediction
from mimir_jax.systems.vimi.config import VimiSystemConfig

Cells = dict[str, dict[str, Any]]

DOCUMENTS: Cells = {
    "retrieved": {},
    "no_retrieval": {"system.memory_path": None, "system.invented_names": 0.0},
    "random": {"system.documents": "random"},
    "text": {"system.documents": "text"},
    "image": {"system.documents": "image"},
    "top_1": {"system.retrieval.top": 1, "system.retrieval.drop_words": 0.0},
}
"""What a prompt reads; `no_retrieval` with a document is retrieval at test time alone."""

ROUTES: Cells = {
    "direct": {
        "system.model.route": "direct",
        "init_from": "package:tiny/i2v",
        "optimizer.freeze": [],
        "optimizer.lr_scale": [["^direct/", 5.0]],
    },
    "beside": {"system.model.route": "beside", "optimizer.lr_scale": [["^beside/", 5.0]]},
    "trained_aligner": {"optimizer.freeze": [], "optimizer.lr_scale": [["^aligner/", 10.0]]},
}
"""How states reach the transformer; `direct` has no aligner to start from."""

TASKS: Cells = {
    "mixture": {},
    "subjects": {"system.tasks.prediction": 0.0, "system.tasks.retrieval": 0.0},
    "prediction": {"system.tasks.subject": 0.0, "system.tasks.retrieval": 0.0},
    "text_to_video": {"system.tasks.subject": 0.0, "system.tasks.prediction": 0.0},
    "trained_aligner": ROUTES["trained_aligner"],
}
"""The tasks of the second stage together and alone; the start is the model without that stage."""

_NAMES, _SUBJECTS, _FRAMES = ("names-document",), ("subjects-image",), ("first_frames-first_frame",)
_WORDS = ("words",)
_SHAPE = "object_class"

_STAGE1 = Ablation(
    cells={**DOCUMENTS, **ROUTES},
    sets={
        "all": (*DOCUMENTS, *ROUTES),
        "documents": tuple(DOCUMENTS),
        "routes": ("retrieved", *ROUTES),
    },
    demos=("names",),
    predictions=(
        Prediction(
            "documents explain names to a network trained with them", "retrieved", "no_retrieval",
            styles=_NAMES, category=_SHAPE,
        ),
        Prediction(
            "random documents teach no names", "retrieved", "random",
            styles=_NAMES, category=_SHAPE,
        ),
        Prediction(
            "images explain names, texts do not", "image", "text", styles=_NAMES, category=_SHAPE
        ),
        Prediction(
            "without texts, names are explained about as well", "image", "retrieved", margin=5.0,
            styles=_NAMES, category=_SHAPE,
        ),
        Prediction(
            "the best document does about as well as a drawn one", "top_1", "retrieved",
            margin=5.0, styles=(*_NAMES, *_WORDS),
        ),
        Prediction(
            "documents change little in what is told in words", "retrieved", "no_retrieval",
            margin=5.0, styles=_WORDS,
        ),
        Prediction(
            "an aligner passes more than direct states", "retrieved", "direct", styles=_WORDS
        ),
        Prediction("T5 beside the aligner passes more", "beside", "retrieved", styles=_WORDS),
        Prediction(
            "an aligner that trains on explains fewer names", "retrieved", "trained_aligner",
            styles=_NAMES, category=_SHAPE,
        ),
    ),
)  # fmt: skip

_STAGE2 = Ablation(
    cells=TASKS,
    sets={"all": tuple(TASKS), "tasks": ("mixture", "subjects", "prediction", "text_to_video")},
    demos=("names", "subjects", "first_frames"),
    predictions=(
        Prediction("the second stage brings subjects", "mixture", START, styles=_SUBJECTS),
        Prediction("the second stage brings first frames", "mixture", START, styles=_FRAMES),
        Prediction("subjects need their task", "mixture", "text_to_video", styles=_SUBJECTS),
        Prediction(
            "training on subjects alone brings them about as well", "subjects", "mixture",
            margin=5.0, styles=_SUBJECTS,
        ),
        Prediction(
            "the mixture costs little in words", "mixture", "text_to_video", margin=5.0,
            styles=_WORDS,
        ),
        Prediction("prediction alone loses words", "mixture", "prediction", styles=_WORDS),
        Prediction(
            "an aligner that trains on brings less of subjects", "mixture", "trained_aligner",
            styles=_SUBJECTS,
        ),
    ),
)  # fmt: skip


def find(config: VimiSystemConfig) -> Ablation:
    """Returns the ablation of the stage of a run."""
    return {"pretrain": _STAGE1, "instruct": _STAGE2}[config.stage]
