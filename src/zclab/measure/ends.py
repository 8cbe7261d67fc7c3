# SPDX-License-Identifier: Apache-2.0
"""What an end of a transfer left, as records keep it."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from zclab.base.model import first_problem
from zclab.host.ssh import Completed
from zclab.runs.records import End, EndDocument
from zclab.traffic import copies
from zclab.traffic.document import RpcDocument, TrafficDocument
from zclab.traffic.profile import rest

_DOCUMENT: TypeAdapter[TrafficDocument | RpcDocument] = TypeAdapter(EndDocument)


def failed(sent: Completed) -> bool:
    """Return whether a sender did not do all of what it was asked to."""
    document = end_of(sent).document
    return document is None or document.outcome != "complete"


def end_of(done: Completed) -> End:
    """Keep what an end printed; a document that is none, or of another version, counts as none."""
    try:
        document = _DOCUMENT.validate_json(done.stdout)
    except ValidationError as error:
        printed = f"printed no valid result: {first_problem(error)}" if done.stdout else ""
        said = "\n".join(filter(None, [_own(done.stderr), printed]))
        return End(document=None, status=done.status, stderr=said)
    return End(document=document, status=done.status, stderr=_own(done.stderr))


def _own(stderr: str) -> str:
    """Return what the traffic tool itself printed on stderr."""
    return rest(copies.rest(stderr))


def unsupported(*ends: End | None) -> str | None:
    """Return why an end could not do what was asked of it on this kernel, if so."""
    documents = [end.document for end in ends if end and end.document]
    return next((one.error or "unsupported" for one in documents if one.outcome == "unsupported"), None)
