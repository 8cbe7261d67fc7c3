/* SPDX-License-Identifier: Apache-2.0 */
/* Marks at both ends of the measured window, for an emulator that counts instructions between them.
 *
 * A mark is a long no-op whose displacement says which: processors and emulators execute it without any
 * effect, and emulator/plugin/ looks for it when it translates code. No compiler emits it. */
#ifndef ZCLAB_MARK_H
#define ZCLAB_MARK_H

#include <stdbool.h>

#ifdef __x86_64__
#define MARK(which) __asm__ volatile("nopl 0x7a6c6200+%c0(%%rax,%%rax,1)" : : "i"(which) : "memory")
#else
#define MARK(which) ((void)(which))
#endif

static inline void mark_window(bool at_receiver, bool opens)
{
    if (at_receiver) {
        if (opens)
            MARK(1);
        else
            MARK(2);
    } else {
        if (opens)
            MARK(3);
        else
            MARK(4);
    }
}

#endif
