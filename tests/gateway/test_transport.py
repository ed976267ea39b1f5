"""How long to wait before the next attempt depends on what is wrong."""

from __future__ import annotations

import itertools

import pytest

from gateway.transport import LinkError, Trouble, pause_s
from protocols.errors import TransportError


@pytest.mark.parametrize("trouble", list(Trouble))
def test_pauses_double_up_to_a_limit(trouble: Trouble) -> None:
    pauses_s = [pause_s(LinkError("lost", trouble), n) for n in range(1, 2000)]
    longest_s = pauses_s[-1]
    assert pauses_s[0] > 0
    assert all(later == min(2 * earlier, longest_s) for earlier, later in itertools.pairwise(pauses_s))


def test_what_may_come_back_at_any_moment_is_looked_for_often() -> None:
    assert pause_s(LinkError("lost"), 1) == 0.1
    for trouble in (Trouble.TRANSIENT, Trouble.NOT_FOUND, Trouble.BUSY):
        assert pause_s(LinkError("gone", trouble), 1_000_000) <= 4
    assert pause_s(LinkError("gone", Trouble.NOT_FOUND), 1_000_000) <= 1


def test_what_a_person_must_mend_is_not_asked_often() -> None:
    for trouble in (Trouble.REFUSED, Trouble.PERMANENT):
        assert pause_s(LinkError("no", trouble), 10) >= 30


def test_an_error_that_does_not_tell_its_kind_is_taken_to_be_transient() -> None:
    assert pause_s(TransportError("lost"), 3) == pause_s(LinkError("lost", Trouble.TRANSIENT), 3)
