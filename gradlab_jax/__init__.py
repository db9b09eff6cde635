"""gradlab for JAX and Flax, the jitted twin: the same names and definitions as `gradlab_torch`."""

from gradlab_core import _moved
from gradlab_core.definitions.curvature import HessianEigenvalue, HessianTrace
from gradlab_core.definitions.noise import default_noise
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import GradlabError
from gradlab_core.judge.bands import BAND_SETS
from gradlab_core.judge.diagnosis import LiveDiagnosis, diagnose
from gradlab_core.judge.examination import Examination, RangeTest
from gradlab_core.lab.doctor import LayerStart
from gradlab_core.lab.jacobian import JacobianSpectrum
from gradlab_core.lab.products import ProductGrowth
from gradlab_core.lab.propagation import LayerSignal, SignalPropagation
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.repair import LayerStepSize, RepairedWeights
from gradlab_core.lab.simulation import Propagation
from gradlab_core.programs.specs import ModelSpec, TrainSpec
from gradlab_core.records import (
    ActivationSummary,
    ArchitectureRecord,
    ChainRule,
    DerivativeCheck,
    DerivativeRow,
    EpochRecord,
    Finding,
    GradientFlow,
    GradientState,
    HiddenStateNorms,
    LayerFactor,
    LayerStats,
    NonfiniteOrigin,
    Probe,
    QuantityValues,
    Severity,
    StepRecord,
    TensorNorms,
    TensorStats,
    TrainingRecord,
    Verdict,
)
from gradlab_core.report import write_html
from gradlab_core.sinks import load_records
from gradlab_jax import _installed as _installed
from gradlab_jax.measure.activations import activation_stats
from gradlab_jax.measure.analysis import analyze
from gradlab_jax.measure.chain_rule import chain_rule
from gradlab_jax.measure.cost import count_flops, count_params
from gradlab_jax.measure.curvature import hessian_eigenvalue, hessian_trace, hessian_vector_product
from gradlab_jax.measure.derivatives import check_derivatives
from gradlab_jax.measure.flow import check_gradients, gradient_flow
from gradlab_jax.measure.hidden import hidden_state_norms
from gradlab_jax.measure.origins import nonfinite_origin
from gradlab_jax.measure.per_example import gradient_noise_scale, gradient_snr, per_example_grad_norms
from gradlab_jax.measure.probing import probe
from gradlab_jax.measure.sensitivity import input_sensitivity
from gradlab_jax.measure.updates import (
    cosine_similarities,
    cosine_similarity,
    distance,
    distances,
    step_ratio,
    trust_ratios,
    update_ratio,
    update_ratios,
)
from gradlab_jax.model.function import Function
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.weights import astype, from_canonical, to_canonical, to_native
from gradlab_jax.monitoring.looking import observed
from gradlab_jax.monitoring.monitor import before_clipping, monitor
from gradlab_jax.monitoring.reading import device_record, read_record
from gradlab_jax.parity.subject import Subject
from gradlab_jax.programs.models import build
from gradlab_jax.programs.program import run_program
from gradlab_jax.programs.training import train
from gradlab_jax.start.doctor import init_doctor, layer_steps, lsuv
from gradlab_jax.start.examination import examine
from gradlab_jax.start.initializers import initialize
from gradlab_jax.start.jacobian import jacobian_singular_values
from gradlab_jax.start.lab import activation_gradient, matrix_product_growth, symmetry_defect
from gradlab_jax.start.propagation import propagate, signal_propagation
from gradlab_jax.trees.norms import clip_by_global_norm, global_norm, leaf_norms, module_norms, nonfinite_counts

__getattr__ = _moved.attributes_of(__name__, {**_moved.RENAMED, "read": "read_record", "recorded": "device_record"})

__all__ = [
    "BAND_SETS",
    "ActivationSummary",
    "ArchitectureRecord",
    "ChainRule",
    "DerivativeCheck",
    "DerivativeRow",
    "EpochRecord",
    "Examination",
    "Finding",
    "Function",
    "GradientFlow",
    "GradientState",
    "GradlabError",
    "HessianEigenvalue",
    "HessianTrace",
    "HiddenStateNorms",
    "JacobianSpectrum",
    "LayerFactor",
    "LayerSignal",
    "LayerStart",
    "LayerStats",
    "LayerStepSize",
    "LiveDiagnosis",
    "ModelSpec",
    "NonfiniteOrigin",
    "Probe",
    "ProductGrowth",
    "Propagation",
    "Quantity",
    "QuantityValues",
    "RandomMlp",
    "RangeTest",
    "RepairedWeights",
    "Severity",
    "SignalPropagation",
    "StepRecord",
    "Subject",
    "SymmetryDefect",
    "TensorNorms",
    "TensorStats",
    "TrainSpec",
    "TrainingRecord",
    "Verdict",
    "activation_gradient",
    "activation_stats",
    "analyze",
    "astype",
    "before_clipping",
    "build",
    "chain_rule",
    "check_derivatives",
    "check_gradients",
    "clip_by_global_norm",
    "cosine_similarities",
    "cosine_similarity",
    "count_flops",
    "count_params",
    "cross_entropy",
    "default_noise",
    "device_record",
    "diagnose",
    "distance",
    "distances",
    "examine",
    "from_canonical",
    "global_norm",
    "gradient_flow",
    "gradient_noise_scale",
    "gradient_snr",
    "hessian_eigenvalue",
    "hessian_trace",
    "hessian_vector_product",
    "hidden_state_norms",
    "init_doctor",
    "initialize",
    "input_sensitivity",
    "jacobian_singular_values",
    "layer_steps",
    "leaf_norms",
    "load_records",
    "lsuv",
    "matrix_product_growth",
    "module_norms",
    "monitor",
    "nonfinite_counts",
    "nonfinite_origin",
    "observed",
    "per_example_grad_norms",
    "probe",
    "propagate",
    "read_record",
    "run_program",
    "signal_propagation",
    "step_ratio",
    "symmetry_defect",
    "to_canonical",
    "to_native",
    "train",
    "trust_ratios",
    "update_ratio",
    "update_ratios",
    "write_html",
]
