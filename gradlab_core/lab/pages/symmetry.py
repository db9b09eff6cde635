"""The tied units of a net."""

from __future__ import annotations

from collections.abc import Sequence

from gradlab_core.definitions.symmetry_defect import LayerSymmetry
from gradlab_core.judge.diagnosis.codes import CODES
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.studies.symmetry import SymmetryStudy, tied_layers
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, percent

ABOUT = (
    "Units of a layer that start alike get the same gradient and stay alike: a layer of many is then worth one, "
    "however long it is trained."
)
_GROUPS, _MEMBERS, _NAMED = 2, 4, 5


def symmetry_section(study: SymmetryStudy) -> Section:
    """The tied units of a net."""
    ties, tied = study.found, tied_layers(study.found)
    what = study.target if study.framework is None else f"{study.target} ({framework_name(study.framework)})"
    if not ties.layers:
        level, sentences = "watch", [f"{what}: no hidden layer was found whose units another weight reads."]
    elif tied:
        level = "bad"
        code = CODES["symmetric-units"]
        sentences = [
            f"{what}: {ties.units:,} hidden units are worth {ties.distinct:,}; {percent(ties.defect)} are one too "
            f"many, in {_named(list(tied))}.",
            code.explanation,
            f"What to do: {'; '.join(code.remedies)}.",
        ]
    else:
        level, sentences = "good", [f"{what}: no hidden unit of {ties.units:,} is tied to another."]
    unknown = [layer.path for layer in ties.layers if layer.closest is None and layer.units > 1]
    if unknown:
        level = "bad" if tied else "watch"
        sentences.append(f"No two units can be compared in {_named(unknown)}: their weights are NaN or Inf.")
    if ties.unread:
        sentences.append(f"Not judged, since it is not known which weight reads their units: {_named(ties.unread)}.")
    return Section(
        key="symmetry",
        title="Symmetry",
        about=ABOUT,
        level=level,
        said=sentences,
        sheets=[_layers(ties.layers)] if ties.layers else [],
        charts=[],
    )


def _named(paths: Sequence[str]) -> str:
    """Paths in a sentence; of many only the first few.

    >>> _named(["a"]), _named(list("abcdefg"))
    ('a', 'a, b, c, d, e and 2 more')
    """
    more = [f"{len(paths) - _NAMED:,} more"] if len(paths) > _NAMED else []
    return listed([*paths[:_NAMED], *more])


def _layers(layers: Sequence[LayerSymmetry]) -> Sheet:
    return Sheet(
        "Hidden layers",
        ["weight", "units", "distinct", "largest groups", "nearest two apart"],
        [
            [
                layer.path,
                f"{layer.units:,}",
                f"{layer.distinct:,}",
                _groups(layer.groups),
                share(layer.closest),
            ]
            for layer in layers
        ],
        words=["largest groups"],
        levels=["bad" if layer.distinct < layer.units else "" for layer in layers],
    )


def _groups(groups: Sequence[tuple[int, ...]]) -> str:
    """The largest groups of tied units.

    >>> _groups([(0, 2), (1, 3, 4, 5, 6)]), _groups([])
    ('1, 3, 4, 5 … (5); 0, 2', 'none')
    """
    largest = sorted(groups, key=len, reverse=True)
    shown = [
        ", ".join(map(str, group[:_MEMBERS])) + (f" … ({len(group):,})" if len(group) > _MEMBERS else "")
        for group in largest[:_GROUPS]
    ]
    more = [f"{len(groups) - _GROUPS:,} more"] if len(groups) > _GROUPS else []
    return "; ".join([*shown, *more]) or "none"


def share(closest: float | None) -> str:
    """The distance of the two nearest units, as text.

    >>> share(0.0), share(2e-6), share(0.0824), share(None)
    ('0 %', '0.0002 %', '8.2 %', 'no two')
    """
    if closest is None:
        return "no two"
    return f"{number(100 * closest)} %" if closest < 5e-4 else percent(closest)
