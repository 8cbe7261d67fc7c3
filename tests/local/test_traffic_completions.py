# SPDX-License-Identifier: Apache-2.0
"""The account of zero-copy sends, where no transfer gets: at the wrap of the 32-bit counter, and lies."""

from __future__ import annotations

import subprocess
from pathlib import Path

TRAFFIC = Path(__file__).resolve().parents[2] / "traffic"

PROGRAM = r"""
#include "completions.h"
#include <stdio.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); return 1; } } while (0)

int main(void)
{
    struct completions c = {.next_id = UINT32_MAX - 1};
    uint32_t pending[2] = {0, 0};

    CHECK(completions_init(&c));
    for (int i = 0; i < 4; i++) /* ids 2^32-2, 2^32-1, 0, 1 */
        completions_sent(&c, i % 2, pending);
    CHECK(c.outstanding == 4 && pending[0] == 2 && pending[1] == 2 && c.next_id == 2);
    CHECK(!completions_range(&c, 2, 2, false, pending));                  /* not sent yet */
    CHECK(!completions_range(&c, 1, 0, false, pending));                  /* backwards */
    CHECK(!completions_range(&c, UINT32_MAX - 2, 1, false, pending));     /* one too many in front */
    CHECK(!completions_range(&c, UINT32_MAX, 2, false, pending));         /* one too many behind */
    CHECK(c.completed == 0 && c.outstanding == 4);
    CHECK(completions_range(&c, UINT32_MAX, 0, true, pending));           /* across the wrap, out of order */
    CHECK(c.completed == 2 && c.copied == 2 && pending[0] == 1 && pending[1] == 1);
    CHECK(!completions_range(&c, 0, 0, false, pending));                  /* twice */
    CHECK(completions_range(&c, UINT32_MAX - 1, UINT32_MAX - 1, false, pending));
    CHECK(completions_range(&c, 1, 1, false, pending));
    CHECK(c.outstanding == 0 && c.completed == 4 && c.copied == 2 && c.sends == 4);
    CHECK(pending[0] == 0 && pending[1] == 0);

    for (uint32_t i = 0; i < COMPLETIONS_MAX; i++) {
        CHECK(!completions_full(&c));
        completions_sent(&c, 0, pending);
    }
    CHECK(completions_full(&c) && pending[0] == COMPLETIONS_MAX);
    CHECK(completions_range(&c, 2, 2, false, pending) && !completions_full(&c));
    CHECK(completions_range(&c, 3, COMPLETIONS_MAX + 1, false, pending) && c.outstanding == 0);
    completions_free(&c);
    return 0;
}
"""


def test_ranges(tmp_path: Path) -> None:
    source, program = tmp_path / "ranges.c", tmp_path / "ranges"
    source.write_text(PROGRAM)
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    files = ["-I", str(TRAFFIC), str(source), str(TRAFFIC / "completions.c"), "-o", str(program)]
    built = subprocess.run(["cc", *flags, *files], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
