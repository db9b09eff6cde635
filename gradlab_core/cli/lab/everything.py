"""`gradlab lab all`: every study on one page, with one net under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradlab_core.cli import output
from gradlab_core.cli.lab import net
from gradlab_core.cli.lab.shared import FrameworkOption, OutOption, give

if TYPE_CHECKING:
    from gradlab_core.lab.pages.section import Section
    from gradlab_core.lab.random_mlp import RandomMlp
    from gradlab_core.lab.studies.doctor import DoctorStudy

_NETS = 100
_DEMONSTRATIONS = ("products", "symmetry", "doctor")


def everything(
    depth: net.DepthOption = 50,
    width: net.WidthOption = 100,
    activation: net.ActivationOption = "tanh",
    init: net.InitOption = None,
    init_number: net.NumberOption = None,
    sigma_w: net.SigmaWOption = None,
    sigma_b: net.SigmaBOption = 0.0,
    framework: FrameworkOption = None,
    out: OutOption = None,
    json: output.JsonOption = False,
) -> None:
    """All studies, on one page: the activations, products of matrices and ties as in the textbooks; the initialisers,
    signal propagation and the init doctor for the net under test.

    Example: `gradlab lab all --activation relu --init kaiming_normal --depth 50 --out lab.html`

    The terminal shows the verdicts; the tables are on the page, or come with the commands of their own. For your own
    model see `propagate` and `doctor`.

    Exit code 1 when the signal or the gradient of the net under test vanishes or explodes, when an initialiser is
    wrong, or when a framework computes something else. Products, ties and the doctor's repair are demonstrations.
    """
    from gradlab_core.lab.pages.activations import activation_section
    from gradlab_core.lab.pages.doctor import doctor_section
    from gradlab_core.lab.pages.initializers import initializer_section
    from gradlab_core.lab.pages.products import product_section
    from gradlab_core.lab.pages.propagation import net_name, propagation_section
    from gradlab_core.lab.pages.tie import tie_section
    from gradlab_core.lab.studies.activations import study_activations
    from gradlab_core.lab.studies.initializers import study_initializers
    from gradlab_core.lab.studies.products import study_products
    from gradlab_core.lab.studies.propagation import square_net, study_propagation
    from gradlab_core.lab.studies.symmetry import study_tie

    output.output_file(out)
    frameworks = framework or ()
    under_test = square_net(
        depth, width, activation, init=init, init_number=init_number, sigma_w=sigma_w, sigma_b=sigma_b
    )
    studies: dict[str, tuple[Callable[[], Any], Callable[[Any], Section]]] = {
        "activations": (lambda: study_activations(frameworks=frameworks), activation_section),
        "products": (lambda: study_products(frameworks=frameworks), product_section),
        "symmetry": (study_tie, tie_section),
        "init": (
            lambda: study_initializers(depth=depth, activation=activation, frameworks=frameworks),
            initializer_section,
        ),
        "propagate": (lambda: study_propagation(under_test, nets=_NETS, frameworks=frameworks), propagation_section),
        "doctor": (
            lambda: _doctor(under_test, frameworks[0] if frameworks else None),
            lambda study: doctor_section(net_name(under_test), study),
        ),
    }
    problem = _no_doctor(activation)
    if problem:
        studies.pop("doctor")
        output.messages().print(f"no init doctor: {problem}", markup=False)
    sections: dict[str, tuple[Any, Section]] = {}
    with output.progress(json) as bar:
        for name, (measure, show) in bar.track(studies.items(), description="measuring"):
            study = measure()
            sections[name] = study, show(study)
    rows = [{"study": name, "level": section.level, "found": study} for name, (study, section) in sections.items()]
    judged = [section for name, (_, section) in sections.items() if name not in _DEMONSTRATIONS]
    give("lab", rows, [section for _, section in sections.values()], out, json, judged=judged, tables=False)


def _no_doctor(activation: str) -> str:
    """The reason why the init doctor cannot look at a net with that activation; empty if it can."""
    from gradlab_core import backends
    from gradlab_core.programs.specs import MLP_ACTIVATIONS

    if activation not in MLP_ACTIVATIONS:
        return f"the twins build no MLP with {activation}; expected one of {', '.join(MLP_ACTIVATIONS)}"
    return "" if backends.available() else "neither PyTorch nor JAX is installed"


def _doctor(under_test: RandomMlp, framework: str | None) -> DoctorStudy:
    """Run the init doctor in the first framework that was asked for, or else in the first that is installed."""
    from gradlab_core.cli.lab.target import own
    from gradlab_core.lab.studies.doctor import study_start

    built = own(under_test, framework, seed=0)
    return study_start(built.framework, *built.positional, repair=True)
