"""Threads by the work there is, within what the process may use, and never against what a user has set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gradlab_core.cli import threads

AFTER = """
import sys
from gradlab_core.cli import main
sys.argv = ["gradlab", "train", "--framework", "torch", "--base", "{base}", "--depth", "1", "--epochs", "0"]
try:
    main.run()
except SystemExit:
    import os, torch
    print(torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"])
"""


def after_training(base: int, tmp_path, **set_by_user: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | set_by_user
    code = [sys.executable, "-c", AFTER.format(base=base)]
    done = subprocess.run(code, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_small_net_gets_one_thread_and_a_large_one_what_there_is(tmp_path):
    assert after_training(2, tmp_path) == "1 PASSIVE"
    assert after_training(16, tmp_path) == f"{threads.processors()} PASSIVE"


def test_what_a_user_has_set_stays(tmp_path):
    assert after_training(2, tmp_path, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="ACTIVE") == "2 ACTIVE"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_container_s_quota_is_kept(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert threads.processors(tmp_path) == (expected or 3)
