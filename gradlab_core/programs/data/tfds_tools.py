"""TensorFlow Datasets without TensorFlow and without its log messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from gradlab_core.errors import require

EXTRA = "tfds"


def require_tfds() -> ModuleType:
    """Import `tensorflow_datasets`, or say which of the libraries it needs here is missing.

    Raises:
        MissingDependency: with the pip command that installs it.
    """
    # TFDS imports these three only when a record is read, where it would be too late for a clear message.
    for module in ("importlib_resources", "array_record", "PIL"):
        require(module, extra=EXTRA)
    return require("tensorflow_datasets", extra=EXTRA)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what TFDS logs below an error, such as its advice to install OpenCV."""
    logging = require("absl.logging", extra=EXTRA)
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
