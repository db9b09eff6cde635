"""Other processors than this one: the same claims under smaller instruction sets, with one thread and with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSORS = {
    "AVX2, one thread": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OMP_NUM_THREADS": "1",
    },
    "SSE4.2, two threads": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "OMP_NUM_THREADS": "2",
    },
}


NETS = {"AVX2, one thread": [], "SSE4.2, two threads": ["postact", "plain", "gru", "rnn_relu", "transformer"]}
"""No name stands for all of them; what is slow is that JAX compiles each net anew for a processor."""


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_is_claimed_holds_there_too(name):
    done = subprocess.run(
        [sys.executable, "-m", "tests.house.on_processor", *NETS[name]],
        cwd=ROOT,
        env={**os.environ, **PROCESSORS[name]},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = "DEFAULT" if "default" in PROCESSORS[name].values() else "AVX2"
    assert done.stdout.startswith(f"all held: {wanted}, {PROCESSORS[name]['OMP_NUM_THREADS']} threads")
