"""Judgement: every outcome of a criterion and of a whole protocol."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Pairing, Parameter, Provenance, Requirement
from protocols.clinical.measurement import Measurement
from protocols.clinical.verdict import Outcome, judge, judge_protocol
from protocols.errors import DefinitionError

READ = Provenance(source="guidance", confidence="read", clause="4.2")
LIMIT = Criterion("arms", "accuracy", "spo2_arms", "<=", "%", READ, limit=3.0)
REPORT = Criterion("bias", "mean bias", "spo2_bias", "report", "%", READ)
SUBJECTS = Requirement("subjects", "subjects", "subjects", ">=", "1", READ, limit=10)
PROTOCOL = ClinicalProtocol(
    id="p-2013",
    title="A protocol",
    edition="2013",
    status="in_force",
    measurand="spo2",
    pairing=Pairing(5.0, READ),
    design=(SUBJECTS,),
    criteria=(LIMIT, REPORT),
)
GOOD = Measurement("spo2_arms", 2.0, "%", 240, 1.5, 2.5, 0.95)
BAD = replace(GOOD, value=3.5)
BIAS = Measurement("spo2_bias", 0.5, "%", 240)
NAN = float("nan")


@pytest.mark.parametrize(
    ("comparison", "value", "outcome"),
    [
        ("<=", 2.999, "PASS"),
        ("<=", 3.0, "PASS"),
        ("<=", 3.001, "FAIL"),
        ("<=", 10 * (38.2 - 37.9), "PASS"),  # 3.0000000000000426
        ("<", 10 * (38.2 - 37.9), "FAIL"),
        (">=", 100 * 0.29 - 26, "PASS"),  # 2.9999999999999964
        ("<", 2.999, "PASS"),
        ("<", 3.0, "FAIL"),
        (">=", 3.0, "PASS"),
        (">=", 2.999, "FAIL"),
        (">", 3.0, "FAIL"),
        (">", 3.001, "PASS"),
        ("<=", NAN, "NOT_MEASURED"),
        (">=", float("inf"), "PASS"),
    ],
)
def test_a_value_is_held_against_the_limit(comparison: str, value: float, outcome: str) -> None:
    assert judge(replace(LIMIT, comparison=comparison), replace(GOOD, value=value)).outcome == outcome


@pytest.mark.parametrize(
    ("judged", "comparison", "limit", "outcome"),
    [
        ("low", ">=", 1.5, "PASS"),
        ("low", ">=", 1.6, "FAIL"),
        ("high", "<=", 2.5, "PASS"),
        ("high", "<=", 2.4, "FAIL"),
        ("value", "<=", 2.4, "PASS"),
    ],
)
def test_an_end_of_the_interval_may_be_judged_instead(
    judged: str, comparison: str, limit: float, outcome: str
) -> None:
    assert judge(replace(LIMIT, judged=judged, comparison=comparison, limit=limit), GOOD).outcome == outcome


def test_a_missing_measurement_is_not_measured() -> None:
    verdict = judge(LIMIT, None)
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert "not measured" in str(verdict)


def test_a_metric_without_limit_is_reported() -> None:
    assert judge(REPORT, BIAS).outcome is Outcome.REPORTED
    assert judge(REPORT, replace(BIAS, value=NAN)).outcome is Outcome.NOT_MEASURED


@pytest.mark.parametrize(
    ("measurement", "says"),
    [
        (replace(GOOD, unit="1"), "unit '1'"),
        (BIAS, "metric 'spo2_bias'"),
        (Measurement("spo2_arms", 2.0, "%", 240), "without interval"),
    ],
)
def test_a_measurement_that_does_not_fit_is_refused(measurement: Measurement, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        judge(replace(LIMIT, judged="high"), measurement)


ENOUGH, FEW = {"subjects": 12.0}, {"subjects": 9.0}


@pytest.mark.parametrize(
    ("facts", "measurements", "outcome"),
    [
        (ENOUGH, [GOOD, BIAS], "PASS"),
        (ENOUGH, [BAD, BIAS], "FAIL"),
        (ENOUGH, [BAD], "FAIL"),
        (ENOUGH, [GOOD], "NOT_MEASURED"),
        (ENOUGH, [BIAS], "NOT_MEASURED"),
        (ENOUGH, [], "NOT_MEASURED"),
        (FEW, [GOOD, BIAS], "INCONCLUSIVE"),
        (FEW, [BAD, BIAS], "INCONCLUSIVE"),
        (FEW, [GOOD], "INCONCLUSIVE"),
        (FEW, [], "NOT_MEASURED"),
        ({}, [BAD, BIAS], "INCONCLUSIVE"),
        ({"subjects": NAN}, [GOOD, BIAS], "INCONCLUSIVE"),
    ],
)
def test_the_whole_follows_the_documented_rule(
    facts: dict[str, float], measurements: list[Measurement], outcome: str
) -> None:
    assert judge_protocol(PROTOCOL, facts, measurements).outcome == outcome


def test_a_reported_figure_of_which_the_sample_holds_no_case_decides_nothing() -> None:
    none = replace(BIAS, value=NAN, n=0)
    assert judge_protocol(PROTOCOL, ENOUGH, [GOOD, none]).outcome is Outcome.PASS
    assert judge_protocol(PROTOCOL, ENOUGH, [BAD, none]).outcome is Outcome.FAIL
    assert judge_protocol(PROTOCOL, ENOUGH, [GOOD, replace(BIAS, value=NAN)]).outcome is Outcome.NOT_MEASURED
    assert (
        judge_protocol(PROTOCOL, ENOUGH, [replace(GOOD, value=NAN, n=0), BIAS]).outcome is Outcome.NOT_MEASURED
    )
    only = replace(PROTOCOL, criteria=(REPORT,))
    assert judge_protocol(only, ENOUGH, [none]).outcome is Outcome.NOT_MEASURED


def test_a_protocol_without_any_limit_is_reported() -> None:
    protocol = replace(PROTOCOL, criteria=(REPORT,))
    assert judge_protocol(protocol, ENOUGH, [BIAS]).outcome is Outcome.REPORTED
    assert judge_protocol(protocol, FEW, [BIAS]).outcome is Outcome.INCONCLUSIVE


def test_an_insufficient_design_is_never_a_failure_and_the_statistics_still_show() -> None:
    verdict = judge_protocol(PROTOCOL, FEW, [BAD, BIAS])
    assert Outcome.FAIL not in {criterion.outcome for criterion in verdict.criteria}
    arms = verdict.criteria[0]
    assert arms.meets_limit is False
    assert "3.5 %" in str(arms)
    assert "the limit is not met, but the design" in str(arms)
    assert "NOT MET: subjects: 9, required >= 10" in str(verdict)


def test_a_verdict_explains_itself() -> None:
    text = str(judge_protocol(PROTOCOL, ENOUGH, [GOOD, BIAS]))
    assert "PASS: accuracy: 2 % (n = 240, 95% interval 1.5 to 2.5), limit <= 3 % [4.2, guidance (read)]" in text
    assert "REPORTED: mean bias: 0.5 % (n = 240), to be reported" in text
    assert "met: subjects: 12, required >= 10" in text


def test_a_value_just_beyond_its_limit_does_not_print_like_the_limit() -> None:
    verdict = judge(LIMIT, replace(GOOD, value=3.0004))
    assert verdict.outcome is Outcome.FAIL
    assert "3.0004 %" in str(verdict)


def test_cautions_name_status_and_rules_that_are_not_the_standards_own_text() -> None:
    lab, memory = Provenance("us", "lab"), Provenance("memory", "unconfirmed")
    protocol = replace(
        PROTOCOL,
        status="superseded",
        superseded_by="B 2026",
        design=(replace(SUBJECTS, provenance=memory),),
        criteria=(LIMIT, replace(REPORT, provenance=lab)),
        notes=("Mind the gap.",),
    )
    verdict = judge_protocol(protocol, ENOUGH, [GOOD, BIAS])
    cautions = verdict.cautions
    assert "Fixé par le laboratoire, pas par la norme : bias." in verdict.cautions_fr
    assert cautions[0] == "A protocol was superseded by B 2026."
    assert "Mind the gap." in cautions
    assert "From memory, to be confirmed against the standard: subjects." in cautions
    assert "Set by the lab, not by the standard: bias." in cautions
    draft = replace(PROTOCOL, status="draft")
    assert "draft" in judge_protocol(draft, ENOUGH, [GOOD, BIAS]).cautions[0]


@pytest.mark.parametrize(
    "measurements", [[], [GOOD, BIAS], [replace(BAD, value=NAN, details={"arms_70_80": NAN}), BIAS]]
)
def test_a_verdict_is_plain_json(measurements: list[Measurement]) -> None:
    verdict = judge_protocol(PROTOCOL, {}, measurements)
    again = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert again == verdict.as_dict()
    assert again["outcome"] == verdict.outcome.value
    assert again["criteria"][0]["limit"] == 3.0
    assert again["criteria"][0]["confidence"] == "read"
    assert again["design"][0]["value"] is None


def test_a_variant_must_be_selected_before_judging() -> None:
    protocol = replace(
        PROTOCOL,
        variants=("clip", "ear"),
        criteria=(replace(LIMIT, variant="clip"), replace(LIMIT, id="ear", limit=4.0, variant="ear"), REPORT),
    )
    with pytest.raises(DefinitionError, match="variant of p-2013 not selected"):
        judge_protocol(protocol, ENOUGH, [GOOD])
    with pytest.raises(DefinitionError, match="variant='toe'"):
        protocol.select("toe")
    assert judge_protocol(protocol.select("clip"), ENOUGH, [BAD, BIAS]).outcome is Outcome.FAIL
    assert judge_protocol(protocol.select("ear"), ENOUGH, [BAD, BIAS]).outcome is Outcome.PASS
    with pytest.raises(DefinitionError, match="has no variants"):
        PROTOCOL.select("clip")


def test_a_metric_measured_twice_is_refused() -> None:
    with pytest.raises(DefinitionError, match="measured once"):
        judge_protocol(PROTOCOL, ENOUGH, [GOOD, BAD])


def test_an_interval_is_whole_or_absent() -> None:
    with pytest.raises(DefinitionError, match="expected all three or none"):
        Measurement("spo2_arms", 2.0, "%", 240, low=1.0)


def test_a_signal_too_poor_for_a_value_is_inconclusive_and_never_a_failure() -> None:
    poor = replace(GOOD, value=NAN, low=None, high=None, level=None, n=0, n_poor=3)
    verdict = judge(LIMIT, poor)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "no value from n = 0, signal too poor in 3 more" in str(verdict)
    facts = {"subjects": 12.0}
    assert judge_protocol(PROTOCOL, facts, [poor, BIAS]).outcome is Outcome.INCONCLUSIVE


def test_a_limit_may_be_another_metric() -> None:
    limit = Measurement("sd_limit", 2.5, "%", 240)
    criterion = replace(LIMIT, limit=None, limit_metric="sd_limit")
    assert judge(criterion, GOOD, limit=limit).outcome is Outcome.PASS
    failed = judge(criterion, BAD, limit=limit)
    assert (failed.outcome, failed.as_dict()["limit"]) == (Outcome.FAIL, 2.5)
    assert judge(criterion, GOOD).outcome is Outcome.NOT_MEASURED
    assert judge(criterion, GOOD, limit=replace(limit, value=NAN)).outcome is Outcome.NOT_MEASURED
    with pytest.raises(DefinitionError, match="limit 'spo2_bias' in '%', expected 'sd_limit'"):
        judge(criterion, GOOD, limit=BIAS)
    both = replace(PROTOCOL, criteria=(criterion, replace(REPORT, metric="sd_limit")))
    assert judge_protocol(both, {"subjects": 12.0}, [GOOD, limit]).outcome is Outcome.PASS


def test_a_claim_is_stated_before_judging_and_shown_with_the_verdict() -> None:
    claim = Parameter("claim", "claimed accuracy", "%", READ, least=0.1, most=10)
    protocol = replace(
        PROTOCOL, parameters=(claim,), criteria=(replace(LIMIT, limit=None, limit_parameter="claim"),)
    )
    for values, says in (
        ({}, "parameter claim of p-2013 is not stated, expected claimed accuracy in %"),
        ({"claim": 11.0}, "parameter claim=11.0, expected a number of 0.1 to 10 %"),
        ({"clam": 2.0}, "parameter='clam', expected one of claim"),
    ):
        with pytest.raises(DefinitionError, match=says):
            protocol.settle(values)
    with pytest.raises(DefinitionError, match="parameters claim of p-2013 not settled"):
        judge_protocol(protocol, {"subjects": 12.0}, [GOOD])
    verdict = judge_protocol(protocol.settle({"claim": 1.0}), {"subjects": 12.0}, [GOOD])
    assert verdict.outcome is Outcome.FAIL
    assert "claimed accuracy: 1 %, stated for this evaluation" in str(verdict)
    by_default = replace(protocol, parameters=(replace(claim, default=4.0),)).settle()
    assert judge_protocol(by_default, {"subjects": 12.0}, [GOOD]).outcome is Outcome.PASS


def test_a_grade_shows_as_its_name() -> None:
    grade = replace(GOOD, label="B")
    assert ": B (n = 240" in str(judge(LIMIT, grade))
