"""Where a session is not whole: gaps that were declared, those that nobody declared, and what they amount to.

A stream with a rate must account for its whole session: at any moment there are samples, or a gap that says why
not. Where neither is the case, the store itself reports a gap `undeclared`::

    between two runs of samples          it is missing                                   its count
    -----------------------------------  ----------------------------------------------  -----------------
    of the same boot                     if the index jumps                              exact
    of different boots                   if the time between them is beyond tolerance    unknown
    and at the session's beginning, end  likewise                                        unknown

and no declared gap explains it. Tolerated are 1.5 sampling periods and the uncertainties stated for the times
on either side. A session that is open has no end, and nothing is missing there; of a stream without any sample
only declared gaps are known.

A gap with a count of 0 is no loss: it says that one boot follows the other, and is not shown.

A declared gap with a count is reduced by samples that came after all (a record that made no sense and was set
aside may still come as it should) and by those that a gap before it names too, and is not shown once nothing is
left of it. Other gaps are never filled: a gateway declares them after all that it has of the samples before.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from protocols.gaps import Gap, GapReason
from protocols.samples import Stream

_PERIODS: Final = 1.5

_Span = tuple[int, int]  # half open, of indices or of ns


@dataclass(frozen=True, slots=True)
class SessionGap:
    """A gap as far as it concerns a session.

    Parameters
    ----------
    gateway
        The gateway of the gap's device.
    gap
        What is missing within the session's interval.
    is_part
        Whether the gap reaches beyond the session; its count within the session is then unknown.
    """

    gateway: str
    gap: Gap
    is_part: bool = False

    def between(self, start_ns: int, end_ns: int) -> SessionGap | None:
        """Return what of this gap lies in `[start_ns, end_ns)`, or None."""
        gap = self.gap.between(start_ns, end_ns)
        if gap is None or start_ns >= end_ns:
            return None
        if start_ns <= gap.start_ns and gap.end_ns <= end_ns:
            return self
        first_ns, last_ns = max(gap.start_ns, start_ns), min(gap.end_ns, end_ns)
        return SessionGap(
            self.gateway, replace(gap, start_ns=first_ns, end_ns=last_ns, n_samples=None), is_part=True
        )


class Run(NamedTuple):
    """Stored samples `[first_index, end_index)` of a boot; UTC and uncertainty of the first and the last."""

    boot_id: int
    first_index: int
    end_index: int
    first_ns: int
    last_ns: int
    first_uncertainty_ns: int
    last_uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of a stream a session holds.

    Parameters
    ----------
    n_samples, missing_samples
        Stored, and known to be missing, in each channel.
    uncounted_gaps, uncounted_ns
        Gaps whose count nobody knows, and how long they last together, counted once where they overlap.
    n_gaps
        All gaps.
    estimated_samples
        What would have been taken in `uncounted_ns` at the nominal rate, leaving out the time of gaps with a
        count; None for a stream without rate.
    """

    n_samples: int
    missing_samples: int
    uncounted_gaps: int
    uncounted_ns: int
    n_gaps: int
    estimated_samples: int | None

    @property
    def fraction(self) -> float | None:
        """Stored samples in relation to all that should be there; None where that cannot be told."""
        if self.uncounted_gaps and self.estimated_samples is None:
            return None
        expected = self.n_samples + self.missing_samples + (self.estimated_samples or 0)
        return self.n_samples / expected if expected else None


def completeness(stream: Stream, n_samples: int, gaps: Sequence[SessionGap]) -> Completeness:
    """Return what `n_samples` stored samples and the gaps of the same stream amount to."""
    counted, uncounted = (
        [(g.gap.start_ns, g.gap.end_ns) for g in gaps if (g.gap.n_samples is None) == is_uncounted]
        for is_uncounted in (False, True)
    )
    only_uncounted_ns = _length([*counted, *uncounted]) - _length(counted)
    rate_hz = stream.rate_hz
    return Completeness(
        n_samples=n_samples,
        missing_samples=sum(g.gap.n_samples or 0 for g in gaps),
        uncounted_gaps=len(uncounted),
        uncounted_ns=_length(uncounted),
        n_gaps=len(gaps),
        estimated_samples=None if rate_hz is None else round(only_uncounted_ns * rate_hz / 1e9),
    )


def stream_gaps(
    gateway: str,
    device: str,
    stream: Stream,
    runs: Sequence[Run],
    declared: Sequence[Gap],
    interval_ns: tuple[int, int | None],
) -> list[SessionGap]:
    """Return the gaps of a stream within a session, in the order of time.

    Parameters
    ----------
    runs
        What is stored of the stream, in the order of boot id and index; the outer ones may reach beyond the
        session.
    declared
        The gaps that were declared.
    interval_ns
        The session's interval; without an end while it is open.
    """
    low_ns, closed_ns = interval_ns
    gaps = list(_not_filled(declared, runs))
    if stream.rate_hz is not None:
        nothing_lost = {(g.after_boot_id, g.after_index) for g in declared if g.n_samples == 0}
        explained = _Explained(declared)
        for hole in _holes(runs, 1e9 / stream.rate_hz, low_ns, closed_ns):
            if hole.end_index is not None or (hole.boot_id, hole.first_index - 1) not in nothing_lost:
                gaps += hole.unexplained(device, stream, explained)
    high_ns = (1 << 63) - 1 if closed_ns is None else closed_ns
    own = [SessionGap(gateway, gap).between(low_ns, high_ns) for gap in gaps]
    return sorted((g for g in own if g is not None), key=lambda g: (g.gap.start_ns, g.gap.end_ns))


def index_gaps(
    gateway: str, device: str, stream: Stream, runs: Sequence[Run], declared: Sequence[Gap]
) -> list[SessionGap]:
    """Return what was declared and the index's jumps within each boot, of what is counted and has no rate."""
    explained = _Explained(declared)
    holes = (_between(a, b, 0.0) for a, b in itertools.pairwise(runs) if a.boot_id == b.boot_id)
    jumps = (gap for hole in holes for gap in hole.unexplained(device, stream, explained))
    return [SessionGap(gateway, gap) for gap in (*_not_filled(declared, runs), *jumps)]


class _Explained:
    """What declared gaps explain, ready to be asked about many holes."""

    def __init__(self, declared: Sequence[Gap]) -> None:
        indices: dict[int, list[_Span]] = defaultdict(list)
        for gap in declared:
            if gap.n_samples is not None:
                indices[gap.after_boot_id].append(_index_span(gap, gap.n_samples))
        self._indices = {boot_id: _united(spans) for boot_id, spans in indices.items()}
        self._times_ns = _united((g.start_ns, g.end_ns) for g in declared)
        self._uncounted_ns = _united((g.start_ns, g.end_ns) for g in declared if g.n_samples is None)

    def indices(self, boot_id: int, first: int, end: int) -> list[_Span]:
        """Return the ranges of indices of a boot near `[first, end)` that gaps with a count name."""
        return _near(self._indices.get(boot_id, []), first, end)

    def times_ns(self, start_ns: int, end_ns: int, *, uncounted: bool = False) -> list[_Span]:
        """Return the spans of time near `[start_ns, end_ns)` of all gaps, or of those without a count."""
        return _near(self._uncounted_ns if uncounted else self._times_ns, start_ns, end_ns)


@dataclass(frozen=True, slots=True)
class _Hole:
    """Where samples do not follow each other; `end_index` is known where the same boot goes on."""

    boot_id: int
    first_index: int
    end_index: int | None
    start_ns: int
    end_ns: int
    tolerance_ns: int

    def unexplained(self, device: str, stream: Stream, explained: _Explained) -> list[Gap]:
        """Return what of this hole no declared gap explains."""
        tolerance_ns = self.tolerance_ns
        wide_ns = self.start_ns - tolerance_ns, self.end_ns + tolerance_ns
        left: list[tuple[int, int, int, int | None]]
        if self.end_index is None:
            spans_ns = [(i - tolerance_ns, j + tolerance_ns) for i, j in explained.times_ns(*wide_ns)]
            left = [
                (self.first_index, start_ns, end_ns, None)
                for start_ns, end_ns in _without(self.start_ns, self.end_ns, spans_ns)
            ]
        else:
            spans = explained.indices(self.boot_id, self.first_index, self.end_index)
            spans += [self._indices(*span_ns) for span_ns in explained.times_ns(*wide_ns, uncounted=True)]
            left = [
                (i, self._time_ns(i), self._time_ns(j), j - i)
                for i, j in _without(self.first_index, self.end_index, spans)
            ]
        return [
            Gap(device, stream, self.boot_id, first - 1, start_ns, end_ns, count, GapReason.UNDECLARED)
            for first, start_ns, end_ns, count in left
        ]

    def _indices(self, start_ns: int, end_ns: int) -> _Span:
        """Return the range of indices of this hole that fall into a span of time."""
        n_samples = (self.end_index or 0) - self.first_index
        per_ns = n_samples / max(1, self.end_ns - self.start_ns)
        first = (start_ns - self.tolerance_ns - self.start_ns) * per_ns
        end = (end_ns + self.tolerance_ns - self.start_ns) * per_ns
        return self.first_index + round(max(first, 0)), self.first_index + round(min(end, n_samples))

    def _time_ns(self, index: int) -> int:
        n_samples = (self.end_index or 0) - self.first_index
        return self.start_ns + (index - self.first_index) * (self.end_ns - self.start_ns) // n_samples


def _holes(runs: Sequence[Run], period_ns: float, low_ns: int, closed_ns: int | None) -> Iterator[_Hole]:
    if not runs:
        return
    first = min(runs, key=lambda run: run.first_ns)
    tolerance_ns = round(_PERIODS * period_ns) + first.first_uncertainty_ns
    if first.first_ns - low_ns > tolerance_ns:
        yield _Hole(first.boot_id, 0, None, low_ns, first.first_ns, tolerance_ns)
    for a, b in itertools.pairwise(runs):
        hole = _between(a, b, period_ns)
        if hole.end_index is not None or b.first_ns - a.last_ns > hole.tolerance_ns:
            yield hole
    last = max(runs, key=lambda run: run.last_ns)
    tolerance_ns = round(_PERIODS * period_ns) + last.last_uncertainty_ns
    if closed_ns is not None and closed_ns - last.last_ns > tolerance_ns:
        start_ns = last.last_ns + round(period_ns)
        yield _Hole(last.boot_id, last.end_index, None, start_ns, closed_ns, tolerance_ns)


def _between(a: Run, b: Run, period_ns: float) -> _Hole:
    start_ns = a.last_ns + round(period_ns)
    return _Hole(
        boot_id=a.boot_id,
        first_index=a.end_index,
        end_index=b.first_index if a.boot_id == b.boot_id else None,
        start_ns=start_ns,
        end_ns=max(start_ns, b.first_ns),
        tolerance_ns=round(_PERIODS * period_ns) + a.last_uncertainty_ns + b.first_uncertainty_ns,
    )


def _not_filled(declared: Iterable[Gap], runs: Sequence[Run]) -> Iterator[Gap]:
    """Yield declared gaps without the samples that are there after all or that a gap before it names too."""
    starts = [(run.boot_id, run.first_index) for run in runs]
    named_to: dict[int, int] = {}
    for gap in sorted(declared, key=lambda gap: (gap.after_boot_id, gap.after_index)):
        if gap.n_samples is None:
            yield gap
            continue
        boot_id, (first, end) = gap.after_boot_id, _index_span(gap, gap.n_samples)
        first = max(first, named_to.get(boot_id, 0))
        named_to[boot_id] = max(first, end)
        near = runs[max(0, bisect_right(starts, (boot_id, first)) - 1) : bisect_left(starts, (boot_id, end))]
        own = (run for run in near if run.boot_id == boot_id)
        there = sum(max(0, min(end, run.end_index) - max(first, run.first_index)) for run in own)
        left = end - first - there
        if left > 0:
            yield gap if left == gap.n_samples else replace(gap, n_samples=left)


def _index_span(gap: Gap, n_samples: int) -> _Span:
    return gap.after_index + 1, gap.after_index + 1 + n_samples


def _without(start: int, end: int, spans: Iterable[_Span]) -> Iterator[_Span]:
    """Yield the parts of `[start, end)` that lie in none of the spans."""
    for first, last in _united(spans):
        if start < min(first, end):
            yield start, min(first, end)
        start = max(start, last)
    if start < end:
        yield start, end


def _united(spans: Iterable[_Span]) -> list[_Span]:
    """Return the spans in order, joined where they touch."""
    united: list[_Span] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _near(united: Sequence[_Span], start: int, end: int) -> list[_Span]:
    """Return those of united spans that touch `[start, end]`."""
    first = bisect_left(united, start, key=lambda span: span[1])
    return list(united[first : bisect_right(united, end, key=lambda span: span[0])])


def _length(spans: Iterable[_Span]) -> int:
    """Return how long spans are together, counted once where they overlap."""
    return sum(end - start for start, end in _united(spans))
