# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of prepared data keeps the config and the networks it was begun with."""

import json

import pytest

from mimir_jax.errors import InputError
from mimir_jax.preparation import claims as claims_lib
from mimir_jax.preparation import settings
from mimir_jax.preparation.cutouts import config as config_lib


@pytest.fixture
def begun(tmp_path):
    """A folder begun with a network, whose file and config come with it."""
    network = tmp_path / "network"
    network.mkdir()
    (network / "model.onnx").write_bytes(bytes(3 << 20))
    detect = config_lib.DetectorConfig(folder=str(network))
    config = config_lib.CutoutsConfig(detect=detect)
    out = tmp_path / "out"
    (out / settings.CLAIMS).mkdir(parents=True)
    claims = claims_lib.Claims(out / settings.CLAIMS)
    settings.create(out, config, "earlier work", claims)
    settings.create(out, config, "earlier work", claims)
    return out, config, network / "model.onnx"


@pytest.mark.parametrize("place", [0, -1])
def test_a_network_that_changed_is_named(begun, place):
    out, config, file = begun
    settings.check(out, config, "earlier work")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="same networks, detect.folder .*network has changed"):
        settings.check(out, config, "earlier work")


def test_settings_of_another_version_are_one_line(begun):
    out, config, _ = begun
    values = json.loads((out / settings.FILE).read_text())
    (out / settings.FILE).write_text(json.dumps(values["config"]))
    with pytest.raises(InputError, match="must be of this version, work/settings.json is not"):
        settings.check(out, config, "earlier work")
