"""The catalogue: what each finding is, why it hinders, and what to do, the likeliest remedy first."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code:
    """The part of a finding that is the same for every run; the finding adds what this run showed."""

    title: str
    explanation: str
    remedies: tuple[str, ...]


CODES: dict[str, Code] = {
    "nonfinite-loss": Code(
        title="The loss is NaN or Inf",
        explanation="From this step on every gradient is NaN, and one update with it destroys all weights.",
        remedies=(
            "go back to the last checkpoint before this step: the weights after it are lost",
            "replace the operation named by its safe form: log_softmax or cross-entropy on logits for log(softmax), "
            "log1p, a clamp before log and sqrt, an ε in the denominator",
            "lower the learning rate, or clip the gradient norm, if the norms grew in the steps before",
            "use bfloat16 or loss scaling in place of bare float16, whose largest number is 65,504",
            "look at the batch of this step: a NaN or an outlier in the data",
        ),
    ),
    "nonfinite-gradient": Code(
        title="A gradient is NaN or Inf though the loss is not",
        explanation="The derivative of an operation is not finite where its value is: sqrt or norm at 0, 0·Inf behind "
        "a `where`, an overflow in the backward pass.",
        remedies=(
            "add an ε inside the sqrt or norm, or put the `where` in front of the operation, on its input",
            "with float16: scale the loss (GradScaler) or use bfloat16",
            "skip such steps (GradScaler and optax.apply_if_finite do) while you look for the cause",
        ),
    ),
    "exploding-gradient": Code(
        title="The gradient explodes",
        explanation="The gradient is multiplied by a factor above 1 at every layer or time step it passes, so single "
        "steps are far larger than the region in which the gradient means anything.",
        remedies=(
            "clip the global gradient norm, at 1 to begin with",
            "lower the learning rate",
            "start recurrent weights orthogonal, or use an LSTM or GRU",
            "add normalisation layers or residual connections; start with a smaller gain",
        ),
    ),
    "vanishing-gradient": Code(
        title="The gradient vanishes on its way back",
        explanation="The gradient is multiplied by a factor below 1 at every layer or time step it passes: what is far "
        "from the loss does not learn, however long the run.",
        remedies=(
            "use ReLU-like activations in place of sigmoid and tanh, with Kaiming initialisation",
            "add residual connections or normalisation layers",
            "for sequences: an LSTM or GRU with a forget bias of 1, orthogonal recurrent weights, shorter sequences",
            "start with a larger gain (Xavier for tanh, Kaiming for ReLU)",
        ),
    ),
    "no-gradient": Code(
        title="No parameter gets a gradient",
        explanation="That is a fault of the loop or of the loss, not of a layer: nothing that is differentiated "
        "reaches the optimizer.",
        remedies=(
            "zero_grad belongs before backward or after step: between the two it throws every gradient away",
            "call loss.backward() at every step, before optimizer.step()",
            "call it on the loss itself: torch.tensor(loss, requires_grad=True), .item(), detach and NumPy make a new "
            "number without a way back",
            "in JAX: differentiate with respect to the parameters that the optimizer gets, and compute the loss from "
            "them, with no stop_gradient on the output",
            "build the optimizer from the model that computes the loss, not from a copy of it",
        ),
    ),
    "zero-gradient": Code(
        title="Gradients are exactly 0",
        explanation="They have a path to the loss, and nothing passes it on any batch: they cannot learn.",
        remedies=(
            "take the ReLU (clamp, round, sign) off the output: where it gives a constant it passes no gradient",
            "start weights from random numbers (Kaiming, Xavier), not from 0",
            "look for stop_gradient, detach, rounding or argmax between them and the loss",
            "see that the loss depends on the output: a softmax over one class does not",
            "zero_grad(set_to_none=False) belongs before backward, not between backward and step",
            "record a probe: a hidden layer whose ReLUs are all dead passes nothing either",
        ),
    ),
    "disconnected-parameter": Code(
        title="Parameters get no gradient",
        explanation="No path leads from the loss to them: they keep their first values for ever.",
        remedies=(
            "look between these layers and the loss for detach, stop_gradient, no_grad, .item(), NumPy, argmax, "
            "rounding or a cast to whole numbers",
            "if the branch is not used in forward, remove it or use it",
            "for a choice that must be discrete: a straight-through estimator, Gumbel-softmax, or a policy gradient",
        ),
    ),
    "not-updating": Code(
        title="Parameters do not move",
        explanation="They could learn, and no update reaches them.",
        remedies=(
            "build the optimizer from all parameters of the model that computes the loss, after every change to it",
            "set requires_grad again (or leave them out of the mask) if freezing was not meant",
            "check that the step is taken: optimizer.step(), optax.apply_updates and its result kept, no scaler that "
            "skips every step, a learning rate and a schedule that are not 0",
            "where updates are lost to rounding: keep float32 master weights, or raise the learning rate",
        ),
    ),
    "dead-relu": Code(
        title="ReLU units are dead",
        explanation="They give 0 for every example of every batch looked at, so no gradient passes them and they "
        "cannot come back. (Many zeros are normal for a ReLU; units that are never on are not.)",
        remedies=(
            "lower the learning rate or warm it up: one large step pushes biases far below 0",
            "start biases at 0, weights with Kaiming initialisation; standardise the input",
            "use leaky ReLU, GELU or SiLU, or a normalisation layer in front",
        ),
    ),
    "saturated-activation": Code(
        title="Activations are saturated",
        explanation="Most of their outputs lie at a bound, where the derivative is almost 0: the layer passes hardly "
        "any gradient.",
        remedies=(
            "start with smaller weights (Xavier initialisation) and standardise the input",
            "lower the learning rate; add weight decay",
            "put a normalisation layer in front, or use an activation without bounds",
        ),
    ),
    "symmetric-units": Code(
        title="Units are copies of each other",
        explanation="They have the same weights and get the same gradient, so the layer is as good as one unit for "
        "each group of copies, for ever.",
        remedies=(
            "start from random numbers (Xavier, Kaiming), not from a constant",
            "dropout breaks the tie too, slowly",
        ),
    ),
    "loss-plateau": Code(
        title="The loss stays at that of a constant answer",
        explanation="The net does no better than one that ignores its input, and nothing in its numbers says why.",
        remedies=(
            "check that inputs and labels belong together: look at a few pairs, shuffle both alike",
            "train on one small batch until the loss is near 0: if that fails, the fault is in the program",
            "raise or lower the learning rate by 10; give a long memory task more steps",
        ),
    ),
    "uphill-step": Code(
        title="Steps go uphill",
        explanation="The update points along the gradient and not against it: to first order every such step makes the "
        "loss larger.",
        remedies=(
            "look for a wrong sign: params + lr·grads, a loss that is negated, maximize=True, an update applied twice "
            "negated",
            "with optax.masked or multi_transform: what is left out gets its raw gradient as the update; put "
            "optax.set_to_zero() there",
            "if the loss is to be maximised, hand its negative to the monitor",
        ),
    ),
    "weight-decay-too-strong": Code(
        title="Weight decay eats the weights",
        explanation="Each step takes more from the weights than the gradient puts there: they shrink by the same "
        "factor at every step, whatever is to be learned.",
        remedies=(
            "lower the weight decay: 0.01 to 0.1 is usual with AdamW, 1e-4 to 1e-3 as an L2 term with SGD",
            "with Adam take decoupled decay (AdamW): an L2 term goes through the normalisation of its steps",
            "where a schedule multiplies rate and decay, look at their product: it is the share lost at each step",
        ),
    ),
    "learning-rate-too-high": Code(
        title="The learning rate is too high",
        explanation="Steps are so long that the loss rises or jumps instead of falling.",
        remedies=(
            "divide the learning rate by 10; by 3 from there",
            "warm it up over the first steps",
            "clip the gradient norm",
        ),
    ),
    "learning-rate-too-low": Code(
        title="The learning rate is too low",
        explanation="All steps together can hardly have moved the weights.",
        remedies=(
            "multiply the learning rate by 10 until the loss falls, or do a range test",
            "check the schedule: a decay or milestone that comes too early",
        ),
    ),
    "clipped-away": Code(
        title="Clipping leaves next to nothing of the gradient",
        explanation="A norm that never changes is not that of a gradient but of a limit, and with so low a limit the "
        "steps lead nowhere, whatever the gradient says.",
        remedies=(
            "raise the largest norm, to 1 to begin with; see that it was not meant for single elements",
            "after unscaling a loss scaler's gradients clip, not before",
            "where normalised gradients are meant: raise the learning rate instead",
        ),
    ),
    "schedule-over": Code(
        title="The schedule of the learning rate is over too early",
        explanation="Since then the steps are too short to learn from, though the net was not done.",
        remedies=(
            "count what the schedule counts: its length is in steps where it goes on with every batch, as in optax, "
            "and in epochs where scheduler.step() is called once an epoch",
            "stretch the schedule over the whole run, or let it end at a tenth of the highest rate",
            "after a checkpoint: see that the schedule goes on from its own step, not from an old total",
        ),
    ),
    "loss-spike": Code(
        title="The loss jumped",
        explanation="From one step to the next a part of what had been learned was lost.",
        remedies=(
            "clip the global gradient norm, at 1 to begin with",
            "lower the learning rate, or warm it up for longer; with Adam a β₂ of 0.95 and a larger ε",
            "look at the batches of these steps: outliers, wrong labels, another source of data",
            "go back to a checkpoint before it and leave these batches out",
        ),
    ),
    "constant-loss": Code(
        title="The loss is the same at every step",
        explanation="The parameters move and the loss does not see it: it does not depend on them.",
        remedies=(
            "see that the softmax goes over the classes, not over the batch, and not over a single class",
            "compute the loss from the output of the model that is trained, not of a copy or of old values",
            "observe the loss that is trained, not a constant beside it",
            "look for a clamp, a rounding or a maximum that gives the same value everywhere",
        ),
    ),
    "unnormalised-input": Code(
        title="The input is not standardised",
        explanation="The first layer's gradient grows with the size of its input: one learning rate cannot suit it and "
        "the layers behind.",
        remedies=(
            "subtract the mean of the training set and divide by its standard deviation, feature by feature",
            "put a normalisation layer first",
        ),
    ),
    "unscaled-target": Code(
        title="The target is not scaled",
        explanation="The gradient of a squared error grows with the size of the target, and the last layer has to grow "
        "as far before anything else can be learned.",
        remedies=(
            "standardise the target, and undo it on the predictions",
            "use a loss that grows more slowly (Huber), or predict the logarithm",
        ),
    ),
    "poor-initialisation": Code(
        title="The initial weights are of a wrong size",
        explanation="At every layer the signal is multiplied by a factor far from 1, so that it explodes or dies out "
        "on its way forward, and the gradient on its way back.",
        remedies=(
            "use Kaiming initialisation with ReLU-like activations, Xavier with tanh and sigmoid",
            "add normalisation layers or residual connections",
            "rescale layer by layer on one batch (LSUV)",
        ),
    ),
    "softmax-before-loss": Code(
        title="The loss takes a softmax of what is one already",
        explanation="A cross-entropy that expects logits gets probabilities: between 0 and 1 a softmax hardly tells "
        "them apart, so the loss cannot fall below a bound and its gradient is small.",
        remedies=(
            "give the loss the logits: remove the softmax or sigmoid from the end of the model",
            "or keep it, and take the logarithm and the plain negative log-likelihood (NLLLoss, BCELoss)",
        ),
    ),
    "loss-reduction": Code(
        title="The loss is summed over the batch",
        explanation="The gradient grows with the batch size, and with it the step: a learning rate made for a mean is "
        "as many times too high as there are examples in a batch.",
        remedies=(
            "take the mean over the batch (reduction='mean', .mean())",
            "or divide the learning rate by the batch size",
        ),
    ),
}
