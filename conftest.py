"""Doctest namespaces and the devices on which parity is proven."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jax-platform", default="cpu", help="JAX platform for the parity suite: cpu, gpu or tpu.")
    parser.addoption("--torch-device", default="cpu", help="PyTorch device for the parity suite: cpu, cuda, mps.")
