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
from analysis.paired_study import PLAUSIBLE
from lab_api.report.phrases import Phrases

_GROUPS: Final = ("skin_tone",)
"""Labels of pairs that a figure tells apart."""


def agreement_figures(document: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of the pairs: agreement, by band and by group, and error grids for glucose."""
    items = document["items"]
    if "reference" not in items:
        return []
    edges = document.get("statistics", {}).get("band_edges", ())
    figures: list[Figure | None] = []
    quantities = np.array(items["quantity"])
    for quantity in dict.fromkeys(items["quantity"]):
        chosen = quantities == quantity
        unit = PLAUSIBLE[quantity][2]
        test, reference = (_numbers(items[name])[chosen] for name in ("test", "reference"))
        subject = np.array(items["subject"])[chosen].tolist()
        figures.append(bland_altman_figure(test, reference, subject=subject, quantity=quantity, unit=unit))
        if edges:
            figures.append(rms_by_band_figure(test, reference, edges=edges, quantity=quantity, unit=unit))
        figures += [
            rms_by_group_figure(
                test,
                reference,
                group=[label or "" for label in np.array(items[label], dtype=object)[chosen]],
                quantity=quantity,
                unit=unit,
            )
            for label in _GROUPS
            if label in items
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


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
