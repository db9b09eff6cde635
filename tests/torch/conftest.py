"""What the tests of the integrations watch."""

from __future__ import annotations

import os
import sys

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported


@pytest.fixture
def reads(monkeypatch):
    """Where a callback reads a tensor on the host, which waits for an accelerator; monitors have their own test."""
    import torch  # here, since where it is missing the files of this room are skipped, not broken

    found = []
    for name in ("item", "tolist", "__float__", "__bool__", "__int__", "numpy", "cpu"):
        real = getattr(torch.Tensor, name)

        def read(self, *args, real=real, name=name):
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.startswith("gradlab_torch.integrations"):
                found.append((caller, name))
            return real(self, *args)

        monkeypatch.setattr(torch.Tensor, name, read)
    return found
