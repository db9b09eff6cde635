"""Where the records of a run go, step by step: a file of our own, a table, TensorBoard, Weights & Biases, MLflow.

A sink is called with each record: `with open_sink("jsonl:run.jsonl") as sink: sink(record)`. The libraries behind a
sink are imported when it is opened, not before.

Nothing is judged here and nothing is drawn.
Imports records.
"""

from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.columns import ColumnSink
from gradlab_core.sinks.jsonl import JsonlSink
from gradlab_core.sinks.loading import load_records, load_run
from gradlab_core.sinks.mlflow import MlflowSink
from gradlab_core.sinks.opening import open_sink, open_sinks
from gradlab_core.sinks.tabular import TableSink, export
from gradlab_core.sinks.tensorboard import TensorBoardSink
from gradlab_core.sinks.wandb import WandbSink

__all__ = [
    "ColumnSink",
    "JsonlSink",
    "MlflowSink",
    "Sink",
    "TableSink",
    "TensorBoardSink",
    "WandbSink",
    "export",
    "load_records",
    "load_run",
    "open_sink",
    "open_sinks",
]
