"""What all tests share: one thread a process, and the devices on which parity is proven."""

from __future__ import annotations

import os

import pytest

# The suite runs a process a core; more threads than cores wait for each other. Set before a framework is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jax-platform", default="cpu", help="JAX platform for the parity suite: cpu, gpu or tpu.")
    parser.addoption("--torch-device", default="cpu", help="PyTorch device for the parity suite: cpu, cuda, mps.")
