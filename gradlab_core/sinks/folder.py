"""The recorded runs in a folder, by their names."""

from __future__ import annotations

import os
from pathlib import Path

from gradlab_core.errors import GradlabError
from gradlab_core.sinks.loading import holds_records


def recorded_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Every file in a folder, and in the folders within, that begins as records do. A run is called as its file, with
    its folder and without its ending, or only as its folder where each run has one and all files are called alike.

    Raises:
        GradlabError: there is none, or no such folder.
    """
    root = Path(folder)
    inside = (Path(where) / name for where, _, names in os.walk(root) for name in names)
    files = sorted(path.relative_to(root) for path in inside if not path.name.startswith(".") and holds_records(path))
    if not files:
        raise GradlabError(f"{root} holds no recorded run; expected a folder with files of a ColumnSink or a JsonlSink")
    is_alike = len({path.name for path in files}) == 1 and all(len(path.parts) > 1 for path in files)
    names = [path.parent if is_alike else path.with_suffix("") for path in files]
    if len({*names}) < len(names):  # run.gradlab beside run.jsonl
        names = files
    return {name.as_posix(): root / path for name, path in zip(names, files, strict=True)}
