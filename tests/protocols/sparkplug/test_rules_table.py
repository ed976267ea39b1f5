"""The table of the specification's rules is complete, and what it names exists."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "sparkplug.md").read_text().partition("## The rules")[2]
RULES = re.findall(r"^\| `([a-zA-Z0-9-]+)` \| (?!`tests/)(.+) \|$", PAGE, re.MULTILINE)
FILES = dict(re.findall(r"^\| `([a-z-]+)` \| `(tests/\S+\.py)` \|$", PAGE, re.MULTILINE))

N_RULES = 299
IDS_SHA256 = "947745251309b39dcd65ba9cbe80cc59fad80366acf92a291de976fac02c9b7e"
"""Of the ids that the specification's source (3.0.0) marks as testable, sorted, one a line."""


def test_every_rule_of_the_specification_is_in_the_table_once() -> None:
    ids = [rule for rule, _ in RULES]
    assert len(ids) == len(set(ids)) == N_RULES
    assert hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest() == IDS_SHA256


def test_every_rule_has_a_test_that_exists_or_a_reason() -> None:
    tests = {
        short: {
            node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)
        }
        for short, path in FILES.items()
    }
    for rule, kept_by in RULES:
        named = re.fullmatch(r"`([a-z-]+)::(test_\w+)`", kept_by)
        if named is None:
            assert re.match(r"(does not apply|not enforced|not yet kept): \S", kept_by), (rule, kept_by)
        else:
            assert named[2] in tests[named[1]], (rule, kept_by)


def test_most_rules_are_kept_by_a_test() -> None:
    assert sum("::test_" in kept_by for _, kept_by in RULES) >= 225
