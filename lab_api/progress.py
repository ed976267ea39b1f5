"""Which blocks of one gateway's spool are done."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Everything up to `watermark` is done, and so are some runs after it.

    Live blocks run far ahead of old ones while a gateway's backlog drains, so runs are kept, not single blocks.
    """

    watermark: int
    _ahead: list[tuple[int, int]] = field(default_factory=list)

    def is_done(self, seq: int) -> bool:
        """Return whether the block is done."""
        i = self._run_up_to(seq)
        return seq <= self.watermark or (i >= 0 and seq <= self._ahead[i][1])

    def done(self, seq: int) -> None:
        """Note that the block is done."""
        if self.is_done(seq):
            return
        i = self._run_up_to(seq) + 1
        first = last = seq
        if i < len(self._ahead) and self._ahead[i][0] == seq + 1:
            last = self._ahead.pop(i)[1]
        if i > 0 and self._ahead[i - 1][1] == seq - 1:
            i -= 1
            first = self._ahead.pop(i)[0]
        self._ahead.insert(i, (first, last))
        self._advance()

    def missing_before(self, seq: int) -> int:
        """Return how many blocks before `seq` are not done."""
        ahead = sum(min(last, seq - 1) - first + 1 for first, last in self._ahead if first < seq)
        return max(0, seq - 1 - self.watermark - ahead)

    def _run_up_to(self, seq: int) -> int:
        """Return the position of the last run that starts at or before `seq`, -1 if there is none."""
        return bisect.bisect_right(self._ahead, seq, key=lambda run: run[0]) - 1

    def _advance(self) -> None:
        while self._ahead and self._ahead[0][0] <= self.watermark + 1:
            self.watermark = max(self.watermark, self._ahead.pop(0)[1])
