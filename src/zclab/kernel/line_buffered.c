/* SPDX-License-Identifier: Apache-2.0 */
/* Linked into a tree's own programs: they print to a pipe and may be killed, and no line is to be lost. */
#include <stdio.h>

__attribute__((constructor)) static void buffer_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}
