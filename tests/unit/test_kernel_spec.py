# SPDX-License-Identifier: Apache-2.0
"""What a lab may say about a kernel, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from zclab.kernel.spec import KernelVariant, check_variant_name

DEBIAN = {"kind": "debian", "package": "linux-source-6.1"}


@pytest.mark.parametrize(
    "data",
    [
        {"source": DEBIAN},
        {"source": DEBIAN | {"version": "6.1.1-1"}, "patches": [{"file": "x/*.patch"}, {"mbox": "y.mbox"}]},
        {"source": {"kind": "git", "url": "https://host.test/linux.git", "ref": "v6.1"}},
        {"source": {"kind": "tarball", "path": "linux.tar.xz", "sha256": "0" * 64}},
        {"source": DEBIAN, "patches": [{"message_id": "a-1@b.test"}, {"message_id": "b@c", "archive": "m"}]},
        {"source": DEBIAN, "config": {"base": "host"}},
        {"source": DEBIAN, "config": {"base": {"file": "mine.config"}, "fragments": ["guest", "/x.config"]}},
    ],
)
def test_accepted(data: dict[str, Any]) -> None:
    variant = KernelVariant.model_validate(data)
    assert KernelVariant.model_validate(variant.model_dump()) == variant


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({}, "source"),
        ({"source": DEBIAN, "patch": []}, "patch"),
        ({"source": {"kind": "svn", "url": "x"}}, "source"),
        ({"source": DEBIAN | {"package": "linux-image-amd64"}}, "package"),
        ({"source": DEBIAN | {"package": "linux-source-6.1 -o x"}}, "package"),
        ({"source": {"kind": "git", "url": "--upload-pack=x", "ref": "v1"}}, "url"),
        ({"source": {"kind": "git", "url": "https://host.test/x", "ref": "--all"}}, "ref"),
        ({"source": {"kind": "tarball", "path": "x", "sha256": "abc"}}, "sha256"),
        ({"source": {"kind": "tarball", "sha256": "0" * 64}}, "exactly one of path and url"),
        ({"source": {"kind": "tarball", "path": "x", "url": "file:///x", "sha256": "0" * 64}}, "exactly one"),
        ({"source": DEBIAN, "patches": [{"message_id": "-x@y"}]}, "message_id"),
        ({"source": DEBIAN, "patches": [{"file": "x", "mbox": "y"}]}, "Extra inputs"),
        ({"source": DEBIAN, "config": {"base": "allmodconfig"}}, "base"),
        ({"source": DEBIAN, "config": {"fragments": ["guest", "guest"]}}, "named twice: guest"),
    ],
)
def test_refused(data: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KernelVariant.model_validate(data)
    assert place in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", ".hidden"])
def test_variant_names(name: str) -> None:
    assert check_variant_name("stock-6.1_x") == "stock-6.1_x"
    with pytest.raises(ValueError, match="cannot name a kernel variant"):
        check_variant_name(name)
