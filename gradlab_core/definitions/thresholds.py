"""Thresholds that hold for any net, each with its source."""

from __future__ import annotations

TINY_GRADIENT_RMS = 1e-7
"""A gradient whose root mean square is below this is called tiny. Source: Amazon SageMaker Debugger's and
DeepDiagnosis's vanishing-gradient rules (mean |g| < 1e-7); the root mean square bounds the mean from above."""

ANOMALY_WARM_UP = 20
ANOMALY_DECAY = 0.98
ANOMALY_LEAST_STD = 1e-3
"""The moving figures of the log gradient norm: scored from so many steps on, with a memory of about 50 steps, against a
standard deviation of at least 0.1 % (a gradient that hardly changes must not turn rounding into an alarm). Windows in
use elsewhere: 128 steps (OLMo-core, MaxText), 100 samples (Megatron)."""

ANOMALY_SCORE = 6.0
"""From so many standard deviations on a step is called an anomaly. Source: OLMo-core and MaxText, mean + 6σ."""

HEALTHY_UPDATE_RATIO = (1e-4, 1e-2)
"""Where ‖Δθ‖/‖θ‖ of a whole net lies in runs that learn: about 1e-3 in practice, a decade around it. A lead, not a law:
fine-tuning and the end of a schedule lie below. The one range that any page or note calls usual."""

LEARNED_OF_START = 0.05
LEARNED_OVER_NOISE = 2.0
LEARNED_OF_BASELINE = 0.7
"""A loss has been learned from if it fell by so much of its start and by so many standard deviations of a single loss;
a net is useful below so much of the loss of a constant answer. Chosen on the tuning part of `gradlab bench diagnosis`,
as all that says no other source."""

LOST_SHARE = 0.5
"""A parameter whose updates rounding swallows at so many of its steps does not learn. A choice: half."""

STILL_RATIO = 1e-4
"""An update ratio from which on a parameter whose norm stays the same to the last bit has not been updated: it would
change a float32 norm by a good many rounding steps, even at right angles to the parameter (first order in 1/√n)."""

NORM_CLASS_VANISHING = 1e-3
"""A gradient norm of a whole net below which the norm report says `vanishing`; what is large, `EXPLODING_NORM` says.
Source: the texts on norm reports this project began with. One says 1e-4 and below, another far below 1e-6, and the
worked example has 8e-4: the limit is the one that gives the example its class."""

NORM_CLASS_RELATIVE = 1e-3
"""‖g‖/‖θ‖ must lie below this too, so that a small net may have a small gradient: at a learning rate of 0.1 plain SGD
would make of it the lower edge of `HEALTHY_UPDATE_RATIO`."""

NORM_LOW_LOSS, NORM_HIGH_ACCURACY = 0.07, 0.9
"""Where nothing is known of a run but one loss or accuracy, a small gradient is that of a net which has learned below
this loss (a tenth of ln 2, the chance level of two classes; under cross-entropy only) or from this accuracy on. A
choice."""

TREND_ERRORS, TREND_LEAST_CHANGE, TREND_LEAST_POINTS = 3.0, 0.01, 5
"""A norm rises or falls where the slope is beyond so many of its standard errors and the fitted change over the run is
at least so much; below so many positive numbers nothing is said. A choice: three standard errors, since a net has
hundreds of norms; with two, every twentieth of them would move by chance."""

# Of the diagnosis. Where a source is named it set the order of magnitude; the figures were then chosen on the tuning
# part of `gradlab bench diagnosis`, and checked on programs that had no part in the choice.

EXPLODING_NORM = 10.0
EXPLODING_RELATIVE = 1.0
EXPLODING_GROWTH = 100.0
EXPLODING_STEP = 0.01
"""A gradient norm explodes from 10 on, if it is as large as that of the parameters or has grown a hundredfold, and if
steps follow from it that are longer than those of healthy runs: clipping and Adam may make it harmless. Sources name
1e2 to 1e4 for the norm alone (source texts of this project, torchmortem 1e3), and 10 times the largest of the first
samples (Megatron)."""

EXPLODING_IN_TIME, VANISHING_IN_TIME = 1e3, 1e-4
"""‖∂L/∂h₁‖ / ‖∂L/∂h_T‖ of a recurrent net beyond which the gradient does not survive its way through time. Pascanu,
Mikolov & Bengio 2013 give the mechanism, no figure."""

VANISHING_IN_DEPTH = 3e-3
VANISHING_STEPS = 20
"""Relative gradient ‖g‖/‖θ‖ of a weight against the largest behind it. Sources: AutoTrainer, first/last < 1e-3;
torchmortem 1e-2. So many records must be there: before, no net can have learned."""

FAST_RATIO, BURST_RATIO = 0.03, 0.3
LOSS_JUMP, LOSS_RISE = 3.0, 1.2
WORSE = 1.05
THROWN_STEPS = 3
"""Steps are long from this update ratio on (thirty times the usual 1e-3; torchmortem and DeepDiagnosis: 0.1); a single
loss jumped at so many times the first, losses rose at so many times. A step of 0.3 replaces a third of
the net. A loss is worse than that of a constant answer from 5 % above it. Where one of the first three steps was so
long and the loss jumped, the run is measured from the loss before."""

UPHILL_COSINE, UPHILL_SHARE, UPHILL_STEPS = 0.05, 0.9, 10
"""A step goes uphill from this cosine with the gradient on; a net or a tensor does if so many of its steps do, of the
first ones as of all, and after so many. Momentum that overshoots goes uphill for a good part of a swing, which is never
nine steps in ten, nor from the start. A choice."""

DECAY_COSINE, DECAY_SHRUNK = 0.7, 0.5
"""Steps that only make the parameters shorter: the cosine of parameters and update is below minus this (−1 for decay
alone; −0.8 where Adam makes signs of an L2 term, √(2/π) of Gaussian weights), and the norm falls below so much of the
first. A choice."""

OPPOSITE = (0.5, 2.0)
"""A loss that rises by what it was promised to fall, within these factors, has the other sign than its gradient."""

SLOW_TRAVEL = 0.1
RATE_STEPS = 30
RATE_PATIENCE = 100
"""Update ratios whose sum is below this hardly change a net: under a tenth of its length in all. Said after so many
records of a loss that has not moved, and after so many of one that is not useful yet."""

ZERO_SHARE = 0.8
ZERO_STEPS, ZERO_STEPS_PART, UNREACHED_STEPS = 5, 20, 50
"""The whole net gets nothing where its gradient is exactly 0 at so many of the newest records: behind a ReLU on the
output an example passes now and then. So many records must be there: for the whole net, for a part of it that gets 0 at
every one, and for a part that has siblings which do get something. An expert reached at every tenth step is missed at
50 of them once in 200 runs. A choice."""

LOSS_OVER = 1e-3
"""A loss below so much of its start is over: nothing is left to learn, and a gradient of 0 is as it should be. A
choice."""

CLIP_LEAST, CLIP_SPREAD = 1e-2, 1e-3
"""Clipping leaves a norm that is the same at every step up to so much (what an ε in the clipping and rounding make of
it); next to nothing is left below the first, a hundredth of the usual limit of 1. A choice."""

SCHEDULE_OVER, SCHEDULE_SHARE, SCHEDULE_FEW = 1e-2, 0.5, 0.1
SCHEDULE_LATE, SCHEDULE_UNFINISHED = (0.6, 0.8), 0.2
"""A schedule is over where the rate has come down to so much of its highest for good, and too early where at least so
much of the run is left; if it spans less than the third figure of the run, a net that is not useful shows that it was.
It was unfinished if, with so much of the sum of its rates spent, the loss still had so much of its fall before it: an
exponential fall has if the schedule spans less than 2.3 of its time constants. A choice."""

SPIKE_WINDOW, SPIKE_LASTS, SPIKE_PATIENCE = 32, 3, 20
SPIKE_SPREADS, SPIKE_SHARE, SPIKE_RATE, SPIKE_GROWTH = 6.0, 0.2, 2.0, 2.0
"""A loss is high if it lies above the median of so many calm ones by so many times what lies between them and their
90th percentile, and by so much of what had been learned. It is a spike from so many high ones on (one may be a batch),
over after as many that are not high, and lasting after so many steps. A rate that rose by such a factor explains it; an
update norm by such a factor above its median was there before it. PaLM and OPT report spikes of hundreds of steps. A
choice."""

CONSTANT_SPREAD = 1e-6
"""Losses are one number where they differ by at most so much of it: eight rounding steps of float32."""

DEAD_SHARE, SATURATED_SHARE, COPIED_SHARE = 0.75, 0.8, 0.5
"""Share of a layer's units that are dead (torchdiag 0.95, SageMaker Debugger 0.5 of units active under 1 %), of its
outputs that are saturated (torchmortem and DeepDiagnosis 0.5), of its units that are copies."""

DEAD_EXAMPLES = 8
"""Examples from which on a unit that gave 0 for all of them counts as dead. Of fewer, units of a sparse layer give 0 by
chance, and the share has to be as large as makes `DEAD_SHARE` of so many. A choice."""

INPUT_RMS = (1e-2, 10.0)
TARGET_RMS = 10.0
FAR_OFF = 10.0
"""Root mean square of inputs and targets outside of which they are called unscaled: two and one orders of magnitude
from 1. Pixels in 0 … 1 and one-hot vectors lie inside. Ten times further off it is never harmless."""

HEALTHY_GAIN = (0.2, 3.0)
SIGNAL_GROWTH, SIGNAL_SHRINKING = 100.0, 1e-3
SURE_LOGITS, SIGNAL_LOSS = 7.0, 2.0
"""√fan_in times the rms of a weight; the spread of the last layer against the input, at the start; the spread of logits
that is too sure if the first loss is so many times ln(classes). PyTorch has a gain of 0.58, Kaiming 1.41."""

ADAPTER_SHARE, ADAPTER_STRETCHES = 0.1, 3
"""Frozen weights between trained ones are meant where at most so much of the net is trained, or where the frozen part
is the larger and comes in so many stretches: one layer frozen by mistake makes one stretch. Source: LoRA, adapters and
prefix tuning train 0.01 % to 4 % of a net (Houlsby et al. 2019, Hu et al. 2021, Li & Liang 2021); of a small net it is
more."""

PLATEAU_BAND = 0.1
PLATEAU_STEPS = 50
"""A loss within so much of that of a constant answer after so many records. Source texts of this project: 0.693 with
an accuracy of 0.5."""

COPY_TOLERANCE = 1e-4
"""Two rows of a weight are copies if they differ by at most this share of the longer one's norm. Far above what
rounding makes of units that start alike (float32: 1e-7 a step), far below what a random start leaves between two rows:
about 1, and seldom less than 1e-2 even in rows of two numbers."""

RANGE_DIVERGED = 4.0
RANGE_BELOW_BEST = 0.1
RATE_FAR_BELOW = 1e-2
"""A range test is over when the loss is so many times the first; it suggests so much of the rate with the lowest loss,
and finds a rate far too low below so much of that. Source: Smith 2017 ends at 4 times the lowest loss."""

SURVIVES = 1e3
"""By what factor the size of a signal or a gradient may change on its way through a net, up or down, and still be said
to survive: three orders of magnitude, as `EXPLODING_IN_TIME`; AutoTrainer calls first/last < 1e-3 vanishing."""

DERIVATIVE_VANISHED = 0.01
DERIVATIVE_FINE = (0.5, 2.0)
"""A derivative of an activation that takes two orders of magnitude from a gradient in one layer; and those neither too
small nor too large: at either edge ten layers change a gradient by 2¹⁰, about `SURVIVES`. Weights and biases come on
top; this is what the activation alone does."""

START_FINE = (0.5, 2.0)
START_BAD = (0.1, 10.0)
"""Variance of a layer's output over what is wanted, before training: within the first nobody needs to change it, since
ten layers as far off make up `SURVIVES`; outside of the second one layer alone takes the signal out of the range in
which an activation bends and passes gradients. A choice."""
