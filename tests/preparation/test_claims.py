# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import time

import pytest

from mimir_jax.preparation import claims


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the clock of this process shows."""
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    return now


def test_a_share_has_one_owner_until_it_is_done(tmp_path):
    one, other = claims.Claims(tmp_path), claims.Claims(tmp_path)
    with one.claim("a") as mine, other.claim("a") as theirs, other.claim("b") as free:
        assert (mine, theirs, free) == (0, None, 0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), one.claim("a"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_claim_of_another_machine_lasts_while_it_is_renewed(tmp_path, clock):
    path, here = tmp_path / "a.0", claims.Claims(tmp_path)
    path.write_text(json.dumps({"place": "elsewhere", "process": os.getpid()}))
    beats = iter(range(1, 9))

    def owner_after(seconds, renew):
        clock[0] += seconds
        if renew:
            os.utime(path, (0, next(beats)))  # its clock is of no interest
        with here.claim("a") as ended:
            return ended

    assert owner_after(0, False) is None
    assert owner_after(59, False) is None
    assert owner_after(59, True) is None
    assert owner_after(59, False) is None
    assert owner_after(2, False) == 0
    assert not list(tmp_path.iterdir())


def test_a_number_that_another_process_has_got_is_not_its_owner(tmp_path):
    with claims.Claims(tmp_path).claim("a"):
        facts = json.loads((tmp_path / "a.0").read_text())
    (tmp_path / "a.0").write_text(json.dumps({**facts, "started": "long ago"}))
    claims.Claims(tmp_path).blame(os.getpid())
    with claims.Claims(tmp_path).claim("a") as ended, claims.Claims(tmp_path).claim("a") as other:
        assert (ended, other) == (1, None)


def test_a_torn_claim_is_one_of_another_machine(tmp_path, clock):
    (tmp_path / "a.0").write_text('{"pla')
    here = claims.Claims(tmp_path)
    for seconds, ended in ((0, None), (61, 0)):
        clock[0] += seconds
        with here.claim("a") as found:
            assert found == ended


def test_a_claim_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    with claims.Claims(tmp_path).claim("a"):
        path = tmp_path / "a.0"
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 30
        while not path.stat().st_mtime and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime
