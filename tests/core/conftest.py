"""A small archive of CIFAR-10, and what is prepared from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradlab_core.programs.data import prepare_cifar10
from tests.core.cifar10 import members, pack


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("archive") / "cifar-10-binary.tar.gz", members())


@pytest.fixture
def prepared(archive: Path, tmp_path: Path) -> Path:
    """A data_dir with a prepared copy."""
    prepare_cifar10(archive, tmp_path / "data")
    return tmp_path / "data"
