# SPDX-License-Identifier: Apache-2.0
"""Patches: every way to name them, and what is said when one does not fit."""

from __future__ import annotations

import mailbox
import shutil
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from tests import kernel_fake

from zclab.base.errors import LabError, UsageError
from zclab.kernel import patches
from zclab.kernel.spec import KernelVariant

pytestmark = pytest.mark.usefixtures("cache")


def resolve(*entries: dict[str, Any]) -> tuple[patches.PatchText, ...]:
    variant = KernelVariant.model_validate(
        {"source": {"kind": "debian", "package": "linux-source-6.1"}, "patches": list(entries)}
    )
    return patches.resolve(variant.patches)


def mail(number: int, total: int, subject: str, body: str) -> Message:
    """Return one message of a series as a mailing list keeps it."""
    message = Message()
    message["From"] = "Zclab Tests <tests@zclab.invalid>"
    message["Subject"] = f"[PATCH {number}/{total}] {subject}"
    message["Date"] = f"Wed, 1 Jan 2020 00:00:0{number} +0000"
    message["Message-ID"] = f"<series-{number}@zclab.invalid>"
    if number:
        message["In-Reply-To"] = "<series-0@zclab.invalid>"
        message["References"] = "<series-0@zclab.invalid>"
    message["Content-Type"] = "text/plain; charset=utf-8"
    message.set_payload(body)
    return message


def write_box(path: Path, *messages: Message) -> Path:
    box = mailbox.mbox(path)
    for message in messages:
        box.add(message)
    box.close()
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Return a mailbox with a cover letter, two patches and a reply."""
    first = (kernel_fake.PATCHES / "answer.patch").read_text().partition("\n\n")[2]
    second = first.replace("43", "44").replace("42", "43")
    return write_box(
        tmp_path / "series.mbox",
        mail(0, 2, "Better answers", "Hello,\n\nthese are better answers.\n"),
        mail(1, 2, "init: another answer", first),
        mail(2, 2, "init: a third answer", second),
        mail(3, 2, "a reply", "> -int answer = 42;\n\nLooks good.\n"),
    )


def answer(tree: Path) -> str:
    return (tree / "init/main.c").read_text().split("answer = ")[1].split(";")[0]


def names(found: Sequence[patches.PatchText]) -> list[str]:
    return [Path(text.name).name for text in found]


def test_file_glob_and_directory(tmp_path: Path) -> None:
    for name in ("0002-b.patch", "0001-a.patch", "0003-c.diff", "notes.txt"):
        shutil.copy(kernel_fake.PATCHES / "answer.patch", tmp_path / name)
    assert names(resolve({"file": str(tmp_path / "0002-b.patch")})) == ["0002-b.patch"]
    assert names(resolve({"file": str(tmp_path / "*.patch")})) == ["0001-a.patch", "0002-b.patch"]
    assert names(resolve({"file": str(tmp_path)})) == ["0001-a.patch", "0002-b.patch", "0003-c.diff"]
    both = resolve({"file": str(tmp_path / "0003-c.diff")}, {"file": str(tmp_path / "0001-a.patch")})
    assert names(both) == ["0003-c.diff", "0001-a.patch"], "the order of the inventory counts"


def test_only_the_diff_counts(tmp_path: Path) -> None:
    text = (kernel_fake.PATCHES / "answer.patch").read_text()
    (tmp_path / "a.patch").write_text(text.replace("another answer", "another subject"))
    (tmp_path / "b.patch").write_text(text.replace("43", "44"))
    original, reworded, other = (
        resolve({"file": str(path)})[0].sha256
        for path in (kernel_fake.PATCHES / "answer.patch", tmp_path / "a.patch", tmp_path / "b.patch")
    )
    assert original == reworded != other


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"file": "nowhere/*.patch"}, "file nowhere/.*: no patch there"),
        ({"file": "LICENSE"}, "LICENSE: no diff in it"),
        ({"mbox": "nowhere.mbox"}, "mbox nowhere.mbox: no such file"),
        ({"message_id": "a@b", "archive": "nowhere.mbox"}, "archive nowhere.mbox: no such mailbox"),
    ],
)
def test_names_that_mean_nothing(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(entry)


def test_apply_leaves_linked_files_alone(tmp_path: Path) -> None:
    """A build tree shares its files with the source; patching it must not reach the source."""
    source = kernel_fake.tree(tmp_path / "source")
    tree = shutil.copytree(source, tmp_path / "tree", copy_function=lambda a, b: Path(b).hardlink_to(a))
    patches.apply(tree, resolve({"file": str(kernel_fake.PATCHES / "answer.patch")}))
    assert answer(tree) == "43"
    assert answer(source) == "42"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["misfit.patch"], r"misfit.patch does not apply: init/main.c:\d+: hunk 2 does not match"),
        (
            ["answer.patch", "answer.patch"],
            r"answer.patch does not apply: init/main.c: it is applied already",
        ),
        (
            ["broken.patch", "answer.patch"],
            r"answer.patch does not apply: init/main.c:1: hunk 1 does not match",
        ),
    ],
)
def test_misfit_names_patch_file_and_hunk(tmp_path: Path, files: Sequence[str], words: str) -> None:
    tree = kernel_fake.tree(tmp_path / "tree")
    texts = resolve(*({"file": str(kernel_fake.PATCHES / name)} for name in files))
    with pytest.raises(UsageError, match=words) as caught:
        patches.apply(tree, texts)
    assert "\n" not in str(caught.value)


def test_no_fuzz(tmp_path: Path) -> None:
    """A line of context that differs is a misfit, even one that patch(1) would overlook."""
    tree = kernel_fake.tree(tmp_path / "tree")
    text = (kernel_fake.PATCHES / "answer.patch").read_text()
    (tmp_path / "fuzzy.patch").write_text(text.replace(" int first(void)", " int fist(void)"))
    with pytest.raises(UsageError, match="hunk 1"):
        patches.apply(tree, resolve({"file": str(tmp_path / "fuzzy.patch")}))


def test_missing_file_and_escape(tmp_path: Path) -> None:
    tree = kernel_fake.tree(tmp_path / "tree")
    (tmp_path / "victim.c").write_text("int answer = 42;\n")
    text = (kernel_fake.PATCHES / "answer.patch").read_text()
    (tmp_path / "gone.patch").write_text(text.replace("init/main.c", "init/gone.c"))
    with pytest.raises(UsageError, match=r"init/gone.c: no such file in the tree"):
        patches.apply(tree, resolve({"file": str(tmp_path / "gone.patch")}))
    escape = "--- a/../victim.c\n+++ b/../victim.c\n@@ -1 +1 @@\n-int answer = 42;\n+int answer = 1;\n"
    (tmp_path / "escape.patch").write_text(escape)
    with pytest.raises(UsageError):
        patches.apply(tree, resolve({"file": str(tmp_path / "escape.patch")}))
    assert "42" in (tmp_path / "victim.c").read_text()


WHOLE = """\
diff --git a/net/ipv4/tcp.c b/net/ipv4/tcp.c
index 1..2 100644
--- a/net/ipv4/tcp.c
+++ b/net/ipv4/tcp.c
@@ -1 +1 @@
-old
+new
diff --git a/tests/new.sh b/tests/new.sh
new file mode 100755
index 0000000..1
--- /dev/null
+++ b/tests/new.sh
@@ -0,0 +1 @@
+one
diff --git a/tests/old.sh b/tests/old.sh
--- a/tests/old.sh
+++ b/tests/old.sh
@@ -1 +1 @@
-old
+new
"""


def test_the_part_of_a_patch_that_concerns_some_files(tmp_path: Path) -> None:
    """With the header of git, which a new file's mode stands in, and without."""
    text = patches.PatchText("whole", WHOLE.encode())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/old.sh").write_text("old\n")
    part = text.only(("tests/*.sh",))
    assert part is not None and part.diff.decode() == WHOLE[WHOLE.index("diff --git a/tests/new.sh") :]
    patches.apply(tmp_path, [part], "the tests")
    assert (tmp_path / "tests/new.sh").read_text() == "one\n" and (
        tmp_path / "tests/new.sh"
    ).stat().st_mode & 1
    assert (tmp_path / "tests/old.sh").read_text() == "new\n"
    with pytest.raises(UsageError, match=r"^patch whole does not apply to the tests: tests/new\.sh"):
        patches.apply(tmp_path, [part], "the tests")
    plain = WHOLE[WHOLE.index("--- a/net") : WHOLE.index("diff --git a/tests/new.sh")]
    plain += WHOLE[WHOLE.index("--- a/tests/old.sh") :]
    part = patches.PatchText("plain", plain.encode()).only(("tests/old.sh",))
    assert part is not None and part.diff.decode() == WHOLE[WHOLE.index("--- a/tests/old.sh") :]
    assert text.only(("include/*.h",)) is None


def test_mbox(tmp_path: Path, series: Path) -> None:
    texts = resolve({"mbox": str(series)})
    assert [text.name.rpartition(" message ")[2] for text in texts] == ["2", "3"]
    tree = kernel_fake.tree(tmp_path / "tree")
    patches.apply(tree, texts)
    assert answer(tree) == "44"


def test_mbox_with_encoded_patch(tmp_path: Path) -> None:
    message = mail(1, 1, "x", "")
    body = (kernel_fake.PATCHES / "answer.patch").read_text()
    del message["Content-Type"]
    message.set_payload(body.encode(), "utf-8")
    assert message["Content-Transfer-Encoding"] == "base64"
    write_box(tmp_path / "one.mbox", message)
    tree = kernel_fake.tree(tmp_path / "tree")
    patches.apply(tree, resolve({"mbox": str(tmp_path / "one.mbox")}))
    assert answer(tree) == "43"


def test_mbox_without_patches(tmp_path: Path) -> None:
    write_box(tmp_path / "talk.mbox", mail(0, 0, "hello", "words\n"))
    with pytest.raises(UsageError, match=r"talk.mbox: no message in it holds a diff"):
        resolve({"mbox": str(tmp_path / "talk.mbox")})


def test_message_id_from_an_archive(tmp_path: Path, series: Path) -> None:
    texts = resolve({"message_id": "series-0@zclab.invalid", "archive": str(series)})
    assert len(texts) == 2 and texts[0].name.startswith("message series-0@zclab.invalid")
    tree = kernel_fake.tree(tmp_path / "tree")
    patches.apply(tree, texts)
    assert answer(tree) == "44"


def test_unknown_message_id(series: Path) -> None:
    with pytest.raises((UsageError, LabError), match=r"message_id nothing@zclab.invalid: b4"):
        resolve({"message_id": "nothing@zclab.invalid", "archive": str(series)})


def test_fetched_series_is_kept(cache: Path, series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an archive b4 asks the net, once: what it said is kept."""
    calls: list[Sequence[str]] = []

    def run(command: Sequence[str], cwd: Path) -> str:
        calls.append(command)
        shutil.copy(series, cwd / "series.mbx")
        return ""

    monkeypatch.setattr(patches, "run", run)
    first = resolve({"message_id": "series-0@zclab.invalid"})
    assert resolve({"message_id": "series-0@zclab.invalid"}) == first
    assert len(first) == 2 and len(calls) == 1 and "--use-local-mbox" not in calls[0]
