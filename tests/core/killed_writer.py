"""Writers that are killed while they write, for test_jsonl and test_column_sink: run as a small process, since each
trial forks it.

Prints one JSON object: trials, records acknowledged, what was wrong, lines that a kill cut in half.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientState, StepRecord, TensorNorms
from gradlab_core.sinks import column_file  # noqa: F401 (NumPy is loaded here, and not in each process that is killed)
from gradlab_core.sinks.columns import ColumnSink
from gradlab_core.sinks.jsonl import HEADER, JsonlSink, line
from gradlab_core.sinks.loading import load_records, load_run

TRIALS, KILLS_A_FILE, LONGEST = 100, 5, 0.03


class Buffered:
    """The fault that the test must see: what is written waits in a buffer of the process."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("ab", buffering=1 << 20)
        if self.file.tell() == 0:
            self.file.write(HEADER)

    def __call__(self, record: StepRecord) -> None:
        self.file.write(line(record))


def record(step: int) -> StepRecord:
    # A line of a few pages, so that a kill can meet the middle of a write.
    tensors = {f"layer{i}.weight": TensorNorms(param=1.1, grad=float("nan"), update=0.3, ratio=0.4) for i in range(40)}
    states = dict.fromkeys(tensors, GradientState.NONFINITE)
    return StepRecord(
        step=step, loss=None, learning_rate=0.1, grad_norm=float("inf"), param_norm=1.0, update_norm=0.0,
        update_ratio=0.0, tensors=tensors, states=states,
    )  # fmt: skip


def trial(path: Path, sink_of: type, begin: int, seconds: float) -> int:
    """Write from step `begin` on, killed after so many seconds; how many steps were acknowledged in all."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        sink = sink_of(path)
        for step in range(begin, begin + 5000):
            sink(record(step))
            os.write(write, b".")
        os._exit(0)
    os.close(write)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = 0
    while part := os.read(read, 1 << 16):
        acknowledged += len(part)
    os.close(read)
    return begin + acknowledged


def main(folder: Path, sink_of: type) -> dict[str, object]:
    rng = random.Random(0)
    wrong, halves, total = [], 0, 0
    for number in range(TRIALS):
        path = folder / f"{number // KILLS_A_FILE}.jsonl"
        begin = len(load_records(path)) if number % KILLS_A_FILE and path.exists() else 0
        acknowledged = trial(path, sink_of, begin, rng.uniform(0, LONGEST))
        total += acknowledged - begin
        try:
            steps = [r.step for r in load_records(path)] if path.exists() else []
        except GradlabError as error:
            wrong.append(f"trial {number}: {error}")
            break
        if steps != list(range(len(steps))):
            wrong.append(f"trial {number}: gaps in {steps}")
        if not acknowledged <= len(steps) <= acknowledged + 1:
            wrong.append(f"trial {number}: {acknowledged} acknowledged, {len(steps)} in the file")
        halves += path.exists() and load_run(path).cut_off
    return {"trials": number + 1, "acknowledged": total, "wrong": wrong, "halves": halves}


if __name__ == "__main__":
    sinks = {"jsonl": JsonlSink, "columns": ColumnSink, "buffered": Buffered}
    print(json.dumps(main(Path(sys.argv[1]), sinks[sys.argv[2]])))
