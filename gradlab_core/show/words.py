"""The names of the figures on the pages, and a sentence on what each means."""

from __future__ import annotations

LABELS = {
    "params": "Trainable parameters",
    "flops": "Forward FLOPs, one image",
    "layers_tracked": "Tracked layer calls",
    "disconnected": "Parameters without a gradient path",
    "mean_std": "Mean activation std",
    "min_std": "Smallest activation std",
    "max_std": "Largest activation std",
    "relu_zero_frac_mean": "Mean ReLU zero fraction",
    "global_norm": "Global gradient norm",
    "ratio": "First/last gradient ratio",
    "sensitivity": "Logit change at noise 0.001",
    "train_loss": "Training loss",
    "test_accuracy": "Test accuracy",
    "grad_norm_mean": "Mean gradient norm",
}

JUDGED = ("mean_std", "min_std", "max_std", "relu_zero_frac_mean", "global_norm", "ratio", "sensitivity")
"""The figures that a band set judges."""

BLOCKS = {
    "plain": "two convolutions, no skip connection: the fair control",
    "plain_unpadded": "plain, but its first convolution lost its padding (an error of the published experiment)",
    "postact": "ResNet v1: the skip is added, then comes the activation",
    "preact": "ResNet v2: normalisation and activation first, then the skip is added",
    "preact_noskip": "preact without its skip (an error of the published experiment)",
}

DEFINITIONS = (
    ("Trainable parameters", "How many numbers the optimizer may change."),
    ("Forward FLOPs", "Twice the multiply-adds of all convolutions and matrix products for one image."),
    (
        "Tracked layer calls",
        "Calls of convolutions, normalisations and activations; a layer that is used twice counts twice.",
    ),
    (
        "Activation std",
        "The standard deviation of everything one layer call put out for the probe batch: how much signal it passes "
        "on. Mean, smallest and largest are taken over all tracked calls.",
    ),
    ("ReLU zero fraction", "The share of a ReLU's outputs that are exactly 0, averaged over all ReLU calls."),
    ("Gradient norm", "The length (L2 norm) of the loss gradient of one tensor; global: of all parameters together."),
    (
        "First/last gradient ratio",
        "The gradient norm of the first convolution over that of the last linear layer: near 0 the gradient vanishes "
        "on its way back to the input, far above 1 it grows.",
    ),
    (
        "Logit change at noise 0.001",
        "How far the logits move on average when the same normal noise of size 0.001 is added to the images.",
    ),
    ("Update ratio", "The length of the step the optimizer really took, over the length of the parameters it changed."),
    (
        "No gradient path",
        "The loss does not depend on the parameter through anything that can be differentiated, so it never learns. "
        "That is another thing than a gradient that happens to be 0.",
    ),
    (
        "± and shaded ranges",
        "In tables: mean ± sample standard deviation over seeds. In curves: the mean, and from the lowest to the "
        "highest seed.",
    ),
    (
        "not measured, NaN, Inf, 0",
        "Four different things: nothing was measured; the result is not a number; it is beyond the largest number; it "
        "is zero. No chart draws one as another.",
    ),
)

FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX"}


def framework_name(framework: str) -> str:
    """The name of a framework that people use, such as `PyTorch` for `torch`."""
    return FRAMEWORKS.get(framework, framework)
