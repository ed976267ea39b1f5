"""The figures of an evidence report, from an evaluation's document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.figures import (
    Figure,
    bland_altman_figure,
    error_grid_figure,
    recruitment_figure,
    rms_by_band_figure,
    rms_by_group_figure,
    strip_figure,
)
from analysis.paired_study import PLAUSIBLE, PairedStudy, usable
from lab_api.report.phrases import Phrases

_GROUPS: Final = ("skin_tone",)
"""Labels of pairs that a figure tells apart."""


def agreement_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of the pairs: agreement, by band and by group, and error grids for glucose."""
    if "reference" not in document["items"]:
        return []
    edges = document.get("statistics", {}).get("band_edges", ())
    deciding = _deciding(document["items"], edges)
    figures: list[Figure | None] = []
    for quantity in dict.fromkeys(deciding.quantities.tolist()):
        pairs = deciding.of(quantity)
        unit, test, reference = PLAUSIBLE[quantity][2], pairs.test, pairs.reference
        subject = pairs.subjects.tolist()
        figures.append(bland_altman_figure(test, reference, subject=subject, quantity=quantity, unit=unit))
        if edges:
            figures.append(rms_by_band_figure(test, reference, edges=edges, quantity=quantity, unit=unit))
        figures += [
            rms_by_group_figure(
                test, reference, group=pairs.labels[label].tolist(), quantity=quantity, unit=unit
            )
            for label in _GROUPS
            if label in pairs.labels
        ]
        if quantity == "glucose":
            figures += [error_grid_figure(reference, test, grid=grid) for grid in ("clarke", "parkes_1")]
    return [figure for figure in figures if figure is not None]


def recruitment(document: Mapping[str, Any], say: Phrases) -> Figure | None:
    """Return how far the sample is, where a requirement asks for at least so many."""
    rules = [
        rule
        for rule in document["verdict"]["design"]
        if rule["comparison"] in (">=", ">") and rule["value"] is not None and rule["limit"]
    ]
    return recruitment_figure(
        [say.title(rule) for rule in rules],
        [rule["value"] for rule in rules],
        [rule["limit"] for rule in rules],
    )


def worst_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Return the readings around the largest differences."""
    figures = []
    for example in document.get("examples", ()):
        series = [(s["role"], _numbers(s["times_s"]), _numbers(s["values"])) for s in example["series"]]
        quantity = example["quantity"]
        figure = strip_figure(series, at_s=0.0, quantity=quantity, unit=PLAUSIBLE[quantity][2])
        if figure is not None:
            figures.append(figure)
    return figures


def _deciding(items: Mapping[str, Sequence[Any]], edges: Sequence[float]) -> PairedStudy:
    """Return the pairs that the criteria rest on, so that no figure shows another bias than they do."""
    study = PairedStudy(
        np.array(items["quantity"], dtype=np.str_),
        np.array(items["subject"], dtype=np.str_),
        np.array(items["session"], dtype=np.str_),
        np.array(items["time_ns"], dtype=np.int64),
        _numbers(items["reference"]),
        _numbers(items["test"]),
        labels={
            name: np.array([word or "" for word in column], dtype=np.str_)
            for name, column in items.items()
            if any(isinstance(word, str) for word in column)
        },
    )
    return usable(study, low=edges[0], high=edges[-1]) if edges else usable(study)


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
