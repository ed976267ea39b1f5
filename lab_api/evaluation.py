"""Evidence judged by a clinical protocol, kept as a document that anyone can derive again.

An evaluation is named by the hash of all it depends on: the content of its sessions, the protocol, its variant
and this software's version. Evaluating the same again gives the same document under the same name, byte for
byte.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from analysis.metrics import excluded, measure
from lab_api.evidence.records import Evidence, Source, StreamAccount, counted
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.library import shipped
from protocols.clinical.verdict import Verdict, judge_protocol
from protocols.errors import DefinitionError, StoreError

_SUFFIX: Final = ".json"
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A verdict, with what it was derived from."""

    id: str
    verdict: Verdict
    document: dict[str, Any]

    def to_json(self) -> str:
        """Return the document as canonical JSON."""
        return _canonical(self.document)


def clinical_protocol(
    protocol_id: str, variant: str | None = None, parameters: Mapping[str, float] = MappingProxyType({})
) -> ClinicalProtocol:
    """Return a shipped clinical protocol as it applies to a variant, with its parameters stated.

    Raises
    ------
    DefinitionError
        If there is no such protocol, variant or parameter, or a needed one was not named.
    """
    protocols = shipped()
    if protocol_id not in protocols:
        raise DefinitionError(
            f"clinical protocol {protocol_id!r}, expected one of {', '.join(sorted(protocols))}"
        )
    return protocols[protocol_id].applied(variant, parameters)


def evaluate(
    evidence: Evidence, protocol: ClinicalProtocol, about: Mapping[str, str] = MappingProxyType({})
) -> Evaluation:
    """Return the verdict of a clinical protocol on evidence.

    Parameters
    ----------
    evidence
        Of the protocol's measurand.
    protocol
        As it is applied: without variants to choose or parameters to state.
    about
        What is stated besides, such as the firmware of the device under test: shown, not judged.

    Raises
    ------
    SignalError
        If a metric cannot be computed from such evidence.
    """
    facts, measurements = measure(protocol, evidence.measured)
    verdict = judge_protocol(protocol, facts, measurements)
    document: dict[str, Any] = {
        "protocol": protocol.id,
        "measurand": protocol.measurand,
        "protocol_hash": _hash(json.dumps(dataclasses.asdict(protocol), sort_keys=True)),
        "software_version": importlib.metadata.version("living-lab"),
        "sources": [_source(source) for source in evidence.sources],
        "about": dict(about),
        "statistics": dataclasses.asdict(protocol.statistics),
        "pairing": _pairing(protocol),
        "verdict": verdict.as_dict(),
        "gaps": _said_of_gaps(evidence.sources),
        "facts": {name: _finite(value) for name, value in facts.items()},
        "excluded": [dataclasses.asdict(moment) for moment in excluded(protocol, evidence.measured)],
        "examples": [dict(example) for example in evidence.examples],
        "items": dict(evidence.items),
    }
    evaluation_id = _hash(_canonical(document))
    return Evaluation(evaluation_id, verdict, {"id": evaluation_id, **document})


class EvaluationNotFoundError(StoreError, LookupError):
    """There is no such evaluation."""


class EvaluationFolder:
    """Evaluations as files of a folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, evaluation: Evaluation) -> bool:
        """Keep an evaluation durably; False if it was there before.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        path = self._folder / (evaluation.id + _SUFFIX)
        if path.exists():
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(evaluation.to_json())
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError as error:
            raise StoreError(f"evaluation folder {self._folder}: {error.strerror}") from error
        return True

    def find(self, evaluation_id: str) -> dict[str, Any]:
        """Return an evaluation's document.

        Raises
        ------
        EvaluationNotFoundError
            If there is none such.
        StoreError
            If it cannot be read.
        """
        path = self._folder / (evaluation_id + _SUFFIX)
        if not _ID.fullmatch(evaluation_id) or not path.exists():
            raise EvaluationNotFoundError(f"no evaluation {evaluation_id!r}")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"evaluation {path}: {error}") from error
        if not isinstance(document, dict):
            raise StoreError(f"evaluation {path}, expected a JSON object")
        if _hash(_canonical({k: v for k, v in document.items() if k != "id"})) != evaluation_id:
            raise StoreError(f"evaluation {path} is not what it was: its content has another hash")
        return document

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield the documents, the latest kept first."""
        paths = [p for p in self._folder.glob(f"*{_SUFFIX}") if _ID.fullmatch(p.stem)]
        for path in sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True):
            yield self.find(path.stem)


def _pairing(protocol: ClinicalProtocol) -> dict[str, Any] | None:
    rule = protocol.pairing
    if rule is None:
        return None
    return {"rule": rule.rule, "window_s": rule.window_s, "align": rule.align}


def _source(source: Source) -> dict[str, Any]:
    return {
        "id": source.id,
        "subject": source.subject,
        "content_hash": source.content_hash,
        "figures": {name: _finite(value) for name, value in source.figures.items()},
        "notes": list(source.notes),
        "streams": [_stream(account) for account in source.streams],
    }


def _stream(account: StreamAccount) -> dict[str, Any]:
    whole = account.completeness
    return {
        "gateway": account.key.gateway,
        "device": account.key.device,
        "stream": account.key.stream.name,
        "n_samples": whole.n_samples,
        "missing_samples": whole.missing_samples,
        "uncounted_ns": whole.uncounted_ns,
        "completeness": whole.fraction,
        "largest_uncertainty_ns": account.largest_uncertainty_ns,
        "gaps": [
            {
                "start_ns": gap.gap.start_ns,
                "end_ns": gap.gap.end_ns,
                "n_samples": gap.gap.n_samples,
                "reason": gap.gap.reason.value,
                "is_part": gap.is_part,
            }
            for gap in account.gaps
        ],
    }


def _said_of_gaps(sources: Sequence[Source]) -> str:
    """Return what the verdict's reader must know about missing samples, as a sentence."""
    accounts = [account for source in sources for account in source.streams]
    n_gaps = sum(len(account.gaps) for account in accounts)
    if n_gaps == 0:
        return "" if not accounts else "No samples are missing from what this verdict rests on."
    n_sources = sum(any(account.gaps for account in source.streams) for source in sources)
    fractions = [f for account in accounts if (f := account.completeness.fraction) is not None]
    least = f"; of the least complete stream {100 * min(fractions):.4g} % is there" if fractions else ""
    return (
        f"This verdict rests on data with {counted(n_gaps, 'gap')}, in {n_sources} of "
        f"{counted(len(sources), 'source')}{least}. The notes name the streams."
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
