# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
from mimir_jax.evaluation import replies


def test_questions_are_reproducible_and_cover_every_kind_of_caption():
    asked = replies.questions(2)
    assert asked == replies.questions(2)
    assert len({(q.wording, q.kinds, q.request) for q in asked}) == 3 * 3 * 5
    assert len(asked) == 2 * 3 * 3 * 5
    assert all(q.caption in q.chat[-1]["content"] for q in asked)


def test_scores_count_exact_replies_alone():
    asked = replies.questions(4)
    known = {q.chat[-1]["content"]: q.reply for q in asked}

    def model(chats):
        found = [known[chat[-1]["content"]] for chat in chats]
        return [reply.replace("red", "green") for reply in found]

    lines = replies.score(asked, model)
    assert all(line["exact"] == ("red" not in line["expected"]) for line in lines)
    cells = replies.summarise(lines)
    assert len(cells) == 3 * 4 * 5
    whole = [cell for cell in cells if not cell["kinds"]]
    assert all(cell["captions"] == 12 for cell in whole)
    assert all(cell["interval"][0] < cell["interval"][1] for cell in cells)
    assert replies.markdown(cells).count("\n") == 2 + 3 * 4
    assert "100.0" in replies.text(cells)
