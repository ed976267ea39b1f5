"""What ships hangs together: metrics exist with their unit, and every limit says where it comes from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from analysis.metrics import METRICS, STUDIES, measure
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import CONFIDENCES, MEASURANDS, Statistics
from protocols.clinical.library import shipped

protocols = pytest.mark.parametrize("protocol", shipped().values(), ids=shipped().keys())


def test_the_first_protocols_ship() -> None:
    assert {"iso-80601-2-61-2017", "fda-pulse-oximeter-2013", "ansi-aami-ec57"} <= set(shipped())


@protocols
def test_every_metric_exists_with_that_measurand_and_unit(protocol: ClinicalProtocol) -> None:
    for criterion in protocol.criteria:
        metric = METRICS[criterion.metric]
        assert (metric.measurand, metric.unit) == (protocol.measurand, criterion.unit)


@protocols
def test_every_rule_has_a_source_and_a_confidence(protocol: ClinicalProtocol) -> None:
    for rule in (*filter(None, [protocol.pairing]), *protocol.design, *protocol.criteria):
        assert rule.provenance.source
        assert rule.provenance.confidence in CONFIDENCES


@protocols
def test_every_fact_that_is_asked_for_can_be_known_and_has_that_unit(protocol: ClinicalProtocol) -> None:
    for requirement in protocol.design:
        assert STUDIES[protocol.measurand].facts[requirement.fact].unit == requirement.unit


@protocols
def test_every_protocol_can_be_measured(protocol: ClinicalProtocol) -> None:
    _, measurements = measure(protocol, STUDIES[protocol.measurand].nothing)
    asked = {c.metric for c in protocol.criteria} | {
        c.limit_metric for c in protocol.criteria if c.limit_metric
    }
    assert {m.metric for m in measurements} == asked


@protocols
def test_every_variant_has_criteria_of_its_own(protocol: ClinicalProtocol) -> None:
    for variant in protocol.variants:
        assert any(criterion.variant == variant for criterion in protocol.criteria)


def test_every_measurand_has_facts_and_metrics() -> None:
    assert set(STUDIES) == set(MEASURANDS) == {metric.measurand for metric in METRICS.values()}
    for measurand, study in STUDIES.items():
        known = study.design_facts(study.nothing, Statistics())
        assert known.keys() <= study.facts.keys()
        assert all(metric.measurand == measurand for metric in study.metrics.values())
    assert len(METRICS) == sum(len(study.metrics) for study in STUDIES.values())


@pytest.mark.shared_data
def test_limits_are_those_of_the_collected_criteria(shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())
    iso, fda, ec57 = (
        shipped()[name] for name in ("iso-80601-2-61-2017", "fda-pulse-oximeter-2013", "ansi-aami-ec57")
    )
    limits = {c.metric: c.limit for c in iso.criteria}
    assert limits["spo2_arms"] == collected["iso_80601_2_61_2017"]["arms_max"]
    by_sensor = collected["fda_pulse_ox_2013"]["arms_max"]
    for variant, sensor in (
        ("transmittance", "transmittance_wrap_clip"),
        ("ear_clip", "ear_clip"),
        ("reflectance", "reflectance"),
    ):
        arms = [c.limit for c in fda.select(variant).criteria if c.metric == "spo2_arms"]
        assert arms == [by_sensor[sensor]]
    for protocol, key in ((iso, "iso_80601_2_61_2017"), (fda, "fda_pulse_ox_2013")):
        least = {requirement.fact: requirement.limit for requirement in protocol.design}
        assert least["subjects"] == collected[key]["min_subjects"]
        assert least["pairs"] == collected[key]["min_pairs"]
    assert ec57.pairing.window_s == collected["aami_ec57"]["match_window_s"]
    assert ec57.pairing.learning_s == collected["aami_ec57"]["learning_period_s"]


def test_ec57_reports_gross_and_average_and_every_limit_is_the_labs_own() -> None:
    for protocol in (shipped()["ansi-aami-ec57"], shipped()["iec-60601-2-47"]):
        reported = {c.metric for c in protocol.criteria if c.limit is None} - {"qrs_heart_rate_read_rate"}
        figures = {metric.rsplit("_", 1)[0] for metric in reported}
        assert reported == {f"{figure}_{pooling}" for figure in figures for pooling in ("gross", "average")}
        assert {"qrs_sensitivity", "veb_false_positive_rate", "af_duration_sensitivity"} <= figures
        assert {c.provenance.confidence for c in protocol.criteria if c.limit is not None} <= {"lab"}


def test_no_record_field_is_left_without_a_reader() -> None:
    # A key that TOML may hold but no type rule covers would be a KeyError for the lab that writes it.
    from protocols.clinical import clinical_protocol, criteria, library

    kinds = (clinical_protocol.ClinicalProtocol, criteria.Criterion, criteria.Pairing, criteria.Requirement)
    parts = {"pairing", "design", "criteria", "parameters", "statistics", "provenance"}
    for kind in (*kinds, criteria.Statistics, criteria.Provenance):
        for field in dataclasses.fields(kind):
            assert field.name in parts or str(field.type) in library._TYPES
