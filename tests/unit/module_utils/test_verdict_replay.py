"""Every recorded rollout of a real cluster ends in the verdict that a person would give, soon after its proof."""

from __future__ import annotations

import pytest

from . import rollouts

# When the failure of each recording is proven, in seconds since the change, read off the files by hand.
PROOF = {
    "command-not-found": 3.74,  # second "Failed" of one container
    "config-key-missing": 1.66 + 5,
    "crash-at-start": 14.67,  # third exit of one container
    "crash-on-update": 15.1,  # third exit
    "image-name-invalid": 2.31 + 5,
    "image-not-found": 1.43,  # first ErrImagePull
    "image-not-found-on-update": 0.8,
    "liveness-kills": 33.29,  # third exit
    "oom-killed": 15.57,  # third exit
    "paused": 0.32,
    "pod-security-denied": 0.21 + 5,
    "quota-exceeded": 0.18 + 5,
    "quota-no-room-for-surge": 0.12 + 5,
    "readiness-never": 31.04,
    "unschedulable": 0.1 + 10,
}
TIMEOUTS = {"node-comes-later": 300.0}


@pytest.mark.parametrize("name", rollouts.NAMES)
def test_the_verdict_comes_within_ten_seconds_of_its_proof(name):
    recording = rollouts.load(name)
    expected = recording.header["expect"]
    final = None
    for t, verdict in rollouts.verdicts(
        rollouts.start(recording), recording.lines, recording.header["seconds"], TIMEOUTS.get(name, 10.0)
    ):
        if verdict["verdict"] != "progressing":
            final = t, verdict
            break
    assert final is not None, verdict
    t, verdict = final
    assert (verdict["verdict"], verdict["cause"]) == (expected["verdict"], expected["cause"])
    if expected["verdict"] == "failed":
        assert PROOF[name] - 0.05 <= t <= PROOF[name] + 10
