/* SPDX-License-Identifier: Apache-2.0 */
/* Linked into programs that print to a pipe and are then killed: what they printed must not be lost. */
#include <stdio.h>

__attribute__((constructor)) static void buffer_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}
