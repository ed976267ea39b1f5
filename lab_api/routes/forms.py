"""What the pages with forms share: their look, what they may load (nothing), and whose posts they take."""

from __future__ import annotations

import base64
import hashlib
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from lab_api.problems import ProblemError

STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:32em;margin:2em auto;padding:0 1em}"
    "label{display:block;margin:1em 0 .2em}input,select,button{font:inherit;padding:.5em;width:100%;"
    "box-sizing:border-box}button{margin-top:1.5em}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'"
"""Content-Security-Policy of a page with a form."""

_FORM: Final = "application/x-www-form-urlencoded"
_SAME_SITE: Final = ("same-origin", "none", "")


def check_form(request: Request) -> None:
    """Refuse what no form of this server sends.

    Raises
    ------
    ProblemError
        If it comes from another site, or is no form.
    """
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "") not in _SAME_SITE:
        raise ProblemError("invalid-request", "a form of another site, expected this server's own")
    if request.headers.get("content-type", "").partition(";")[0] != _FORM:
        raise ProblemError("invalid-request", f"expected {_FORM}")
