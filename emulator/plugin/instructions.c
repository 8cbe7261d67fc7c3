/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts the instructions that a guest with one CPU executes, by address, between two marks.
 *
 * -plugin instructions.so,out=FILE[,fault=ADDRESS][,switch=FIRST-END][,softirq=ADDRESS]...
 *
 * The marks are long no-ops (traffic/mark.h), one for the beginning and one for the end of the receiver's
 * and of the sender's window. At the end of each window a section is appended to FILE:
 *
 *   window receiver|sender
 *   CONTEXT COUNT ADDRESS SIZES    a run of instructions from ADDRESS on, each executed COUNT times; SIZES has
 *   ...                            one hexadecimal digit for the bytes of each
 *   end TOTAL                      all instructions of the section
 *
 * From the first mark on (included) to the last (excluded), each instruction is counted that QEMU's instruction
 * counter (-icount) counts: one that faults and is executed again counts once, a REP instruction once for each
 * iteration and once more where it finds its count to be 0, as a translation block of its own.
 *
 * CONTEXT is "sender" or "receiver" for the thread that executed the first mark, from then to its last one;
 * "softirq" for whatever softirqs do, on any thread; "other". A thread is known by the pages of its kernel
 * stack, which `switch`, the addresses of __switch_to_asm, shows: what it pops lies on the next thread's
 * stack. `softirq` are the functions that run softirqs. `fault` is the page fault handler: what was
 * begun just before it has not been executed.
 *
 * Nothing here changes the guest: no register and no memory of it is written, no clock is touched. */
#include "qemu_plugin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES UINT64_C(16384) /* of a kernel thread on x86-64 */
#define PAGE_BYTES UINT64_C(4096)
#define SIZE_MAX_BYTES 15 /* of an instruction on x86 */
#define SOFTIRQS_MAX 4
#define UNKNOWN (-1)

enum context { OTHER, SENDER, RECEIVER, SOFTIRQ, CONTEXTS };
enum window { OF_RECEIVER, OF_SENDER, WINDOWS };

static const char *const context_names[CONTEXTS] = {"other", "sender", "receiver", "softirq"};
static const char *const window_names[WINDOWS] = {"receiver", "sender"};
static const enum context context_of[WINDOWS] = {RECEIVER, SENDER};

/* Instructions of a block that were executed one after the other: from the first to before the last. */
struct span {
    uint32_t first;
    uint32_t end;
    uint64_t counts[CONTEXTS];
    uint64_t opened[WINDOWS][CONTEXTS]; /* the counts when each window opened */
    struct span *next;
};

/* A translation block. */
struct block {
    uint64_t address;
    uint64_t end;
    uint32_t count; /* of its instructions */
    bool is_fault;
    bool is_softirq;
    bool ends_by_call;
    int accesses; /* of its last instruction to memory; UNKNOWN: it may be any number */
    struct span whole;
    struct block *next;
    uint8_t sizes[];
};

struct mark {
    struct block *block;
    uint32_t index;
    enum window window;
    bool opens;
};

/* What QEMU counts inline: instructions begun, and memory accesses by the last instruction of a block. */
struct counters {
    uint64_t begun;
    uint64_t accesses;
};

EXPORTED int qemu_plugin_version;

static FILE *out;
static uint64_t fault, switch_first, switch_end, softirqs[SOFTIRQS_MAX];
static int softirq_count;

static struct qemu_plugin_scoreboard *scoreboard; /* null: an interface that has none */
static struct counters own_counters, *counters = &own_counters;

static struct block *blocks;

/* The block that is being executed: since which of its instructions, and the counters as it began. */
static struct block *current;
static uint32_t from;
static struct counters began;

static enum context context = OTHER;
static uint64_t stack;                /* of the current thread; 0: not known yet */
static uint64_t stacks[WINDOWS];      /* of the thread whose window it is; 0: no window is open */
static bool is_open[WINDOWS];
static bool in_softirq;
static uint64_t softirq_returns_to;

__attribute__((constructor)) static void choose_version(void)
{
    qemu_plugin_version = qemu_plugin_scoreboard_new ? 3 : 1;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("instructions plugin: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (!memory)
        fail("no memory");
    return memory;
}

/* ------------------------------------------------------------------------------------------ execution */

static void update_context(void)
{
    context = OTHER;
    for (int window = 0; window < WINDOWS; window++)
        if (is_open[window] && stack == stacks[window])
            context = context_of[window];
    if (in_softirq)
        context = SOFTIRQ;
}

static void add(struct block *block, uint32_t first, uint32_t end)
{
    struct span *span = &block->whole;

    if (first == end)
        return;
    while (span->first != first || span->end != end) {
        if (!span->next) {
            span->next = allocate(sizeof(*span));
            span->next->first = first;
            span->next->end = end;
        }
        span = span->next;
    }
    span->counts[context]++;
}

static uint64_t address_of(const struct block *block, uint32_t index)
{
    uint64_t address = block->address;

    for (uint32_t i = 0; i < index; i++)
        address += block->sizes[i];
    return address;
}

/* Has the instruction been executed that was begun last, when `next` begins? It was at the end of its block:
 * either it faulted, or it went to an address whose page is not there. */
static bool was_executed_before_fault(void)
{
    const uint64_t accesses = counters->accesses - began.accesses;
    const bool at_end_of_page = current->end % PAGE_BYTES == 0 ||
                                current->end / PAGE_BYTES != (current->end + SIZE_MAX_BYTES) / PAGE_BYTES;

    if (current->accesses != UNKNOWN)
        return accesses >= (uint64_t)current->accesses;
    return at_end_of_page && accesses > 0;
}

/* Counts what the current block has executed, now that `next` begins.
 *
 * QEMU leaves a block before its end for a fault, and to translate an instruction anew that reads or
 * writes a device, or the code that is being executed. The first of these is executed then without being seen,
 * the other is seen again. */
static void settle(const struct block *next)
{
    const uint32_t begun = (uint32_t)(counters->begun - began.begun);
    bool executed = true;

    if (begun == current->count && from == 0 && !next->is_fault) {
        current->whole.counts[context]++;
        return;
    }
    if (begun == current->count)
        executed = !next->is_fault || was_executed_before_fault();
    else
        executed = !next->is_fault && next->address != address_of(current, begun - 1);
    add(current, from, executed ? begun : begun - 1);
}

static void enter_or_leave_softirq(const struct block *next)
{
    if (in_softirq && next->address == softirq_returns_to)
        in_softirq = false;
    else if (!in_softirq && next->is_softirq && current && current->ends_by_call) {
        in_softirq = true;
        softirq_returns_to = current->end;
    } else
        return;
    update_context();
}

static void block_begins(unsigned int cpu, void *data)
{
    struct block *next = data;

    (void)cpu;
    if (current)
        settle(next);
    if (in_softirq || next->is_softirq)
        enter_or_leave_softirq(next);
    current = next;
    from = 0;
    began = *counters;
}

static void stack_is_popped(unsigned int cpu, uint32_t info, uint64_t address, void *data)
{
    (void)cpu, (void)info, (void)data;
    address &= ~(STACK_BYTES - 1);
    if (address != stack) {
        stack = address;
        update_context();
    }
}

static void open_window(enum window window)
{
    for (struct block *block = blocks; block; block = block->next)
        for (struct span *span = &block->whole; span; span = span->next)
            memcpy(span->opened[window], span->counts, sizeof(span->counts));
    stacks[window] = stack;
    is_open[window] = true;
}

static void close_window(enum window window)
{
    uint64_t total = 0;

    fprintf(out, "window %s\n", window_names[window]);
    for (const struct block *block = blocks; block; block = block->next)
        for (const struct span *span = &block->whole; span; span = span->next)
            for (int i = 0; i < CONTEXTS; i++) {
                const uint64_t count = span->counts[i] - span->opened[window][i];

                if (!count)
                    continue;
                fprintf(out, "%s %" PRIu64 " %" PRIx64 " ", context_names[i], count,
                        address_of(block, span->first));
                for (uint32_t index = span->first; index < span->end; index++)
                    fprintf(out, "%x", block->sizes[index]);
                fputc('\n', out);
                total += count * (span->end - span->first);
            }
    fprintf(out, "end %" PRIu64 "\n", total);
    if (fflush(out) || ferror(out))
        fail("cannot write the counts: %s", strerror(errno));
    is_open[window] = false;
}

static void meet_mark(unsigned int cpu, void *data)
{
    const struct mark *mark = data;

    (void)cpu;
    add(current, from, mark->index);
    from = mark->index;
    /* Opened again: the program was killed before it closed its window; or has several streams, of which then
     * that time is counted in which all are open. */
    if (mark->opens)
        open_window(mark->window);
    else if (!mark->opens && is_open[mark->window])
        close_window(mark->window);
    update_context();
}

/* ---------------------------------------------------------------------------------------- translation */

/* How often an instruction that ends a block accesses memory. */
static int accesses_by(const uint8_t *code, size_t size)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3};
    const uint8_t *end = code + size;

    while (code < end && memchr(prefixes, *code, sizeof(prefixes)))
        code++;
    if (code < end && (*code & 0xf0) == 0x40) /* REX */
        code++;
    if (code == end)
        return UNKNOWN;
    if ((*code & 0xf0) == 0x70 || (*code & 0xfc) == 0xe0 || *code == 0xe9 || *code == 0xeb ||
        *code == 0xcf)
        return 0; /* jumps, loops; and iret, whose own faults are not page faults */
    if (*code == 0xe8 || *code == 0xc2 || *code == 0xc3)
        return 1; /* call, ret */
    if (code + 1 == end)
        return UNKNOWN;
    if (*code == 0x0f && ((code[1] & 0xf0) == 0x80 || code[1] == 0x05 || code[1] == 0x07))
        return 0; /* jumps, syscall, sysret */
    if (*code == 0xff && (code[1] >> 3 & 7) == 2)
        return code[1] >> 6 == 3 ? 1 : 2; /* call of a register, or of an address in memory */
    if (*code == 0xff && (code[1] >> 3 & 7) == 4)
        return code[1] >> 6 == 3 ? 0 : 1; /* jump, likewise */
    return UNKNOWN;
}

static bool is_call(const uint8_t *code, size_t size)
{
    if (size && (*code & 0xf0) == 0x40)
        code++, size--;
    return size > 1 && (*code == 0xe8 || (*code == 0xff && (code[1] >> 3 & 7) == 2));
}

static void count_instruction(struct qemu_plugin_insn *insn)
{
    const qemu_plugin_u64 entry = {scoreboard, offsetof(struct counters, begun)};

    if (scoreboard)
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, entry, 1);
    else
        qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &counters->begun, 1);
}

static void count_accesses(struct qemu_plugin_insn *insn)
{
    const qemu_plugin_u64 entry = {scoreboard, offsetof(struct counters, accesses)};

    if (scoreboard)
        qemu_plugin_register_vcpu_mem_inline_per_vcpu(insn, QEMU_PLUGIN_MEM_RW, QEMU_PLUGIN_INLINE_ADD_U64,
                                                      entry, 1);
    else
        qemu_plugin_register_vcpu_mem_inline(insn, QEMU_PLUGIN_MEM_RW, QEMU_PLUGIN_INLINE_ADD_U64,
                                             &counters->accesses, 1);
}

static void look_for_mark(struct block *block, uint32_t index, struct qemu_plugin_insn *insn,
                          const uint8_t *code, size_t size)
{
    static const uint8_t begins[] = {0x0f, 0x1f, 0x84, 0x00}, ends[] = {0x62, 0x6c, 0x7a};
    struct mark *mark;

    if (size != 8 || memcmp(code, begins, sizeof(begins)) || memcmp(code + 5, ends, sizeof(ends)) ||
        code[4] < 1 || code[4] > 4)
        return;
    mark = allocate(sizeof(*mark));
    mark->block = block;
    mark->index = index;
    mark->window = code[4] <= 2 ? OF_RECEIVER : OF_SENDER;
    mark->opens = code[4] % 2;
    qemu_plugin_register_vcpu_insn_exec_cb(insn, meet_mark, QEMU_PLUGIN_CB_NO_REGS, mark);
}

static void read_code(const struct qemu_plugin_insn *insn, uint8_t *code, size_t size)
{
    if (scoreboard)
        qemu_plugin_insn_data(insn, code, size);
    else
        memcpy(code, insn_data_1(insn), size);
}

static void block_is_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t count = qemu_plugin_tb_n_insns(tb);
    struct block *block = allocate(sizeof(*block) + count);
    struct qemu_plugin_insn *insn = NULL;

    (void)id;
    if (scoreboard)
        counters = qemu_plugin_scoreboard_find(scoreboard, 0);
    block->address = block->end = qemu_plugin_tb_vaddr(tb);
    block->count = block->whole.end = (uint32_t)count;
    block->is_fault = fault && block->address == fault;
    for (int i = 0; i < softirq_count; i++)
        block->is_softirq |= block->address == softirqs[i];
    for (uint32_t index = 0; index < count; index++) {
        uint8_t code[SIZE_MAX_BYTES + 1] = {0};
        size_t size;

        insn = qemu_plugin_tb_get_insn(tb, index);
        size = qemu_plugin_insn_size(insn);
        if (size > SIZE_MAX_BYTES)
            fail("an instruction at %" PRIx64 " has %zu bytes", qemu_plugin_insn_vaddr(insn), size);
        read_code(insn, code, size);
        block->sizes[index] = (uint8_t)size;
        block->end += size;
        block->accesses = accesses_by(code, size);
        block->ends_by_call = is_call(code, size);
        count_instruction(insn);
        look_for_mark(block, index, insn, code, size);
        if (qemu_plugin_insn_vaddr(insn) >= switch_first && qemu_plugin_insn_vaddr(insn) < switch_end &&
            (code[code[0] == 0x41] & 0xf8) == 0x58) /* pop; with a prefix of r8 to r15 */
            /* It only reads; but QEMU 7.2 takes a read for both, and calls no callback for reads alone. */
            qemu_plugin_register_vcpu_mem_cb(insn, stack_is_popped, QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_RW, NULL);
    }
    if (insn)
        count_accesses(insn);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, block_begins, QEMU_PLUGIN_CB_NO_REGS, block);
    block->next = blocks;
    blocks = block;
}

/* -------------------------------------------------------------------------------------------- options */

static bool read_address(const char *text, uint64_t *address, char **rest)
{
    errno = 0;
    *address = strtoull(text, rest, 16);
    return !errno && *rest != text;
}

static bool read_option(const char *option)
{
    const char *value = strchr(option, '=');
    const size_t length = value ? (size_t)(value++ - option) : 0;
    char *rest = NULL;

    if (!value)
        return false;
    if (length == 3 && !strncmp(option, "out", length)) {
        out = fopen(value, "we");
        if (!out)
            fail("%s: %s", value, strerror(errno));
        return true;
    }
    if (length == 5 && !strncmp(option, "fault", length))
        return read_address(value, &fault, &rest) && !*rest;
    if (length == 7 && !strncmp(option, "softirq", length))
        return softirq_count < SOFTIRQS_MAX && read_address(value, &softirqs[softirq_count++], &rest) &&
               !*rest;
    if (length == 6 && !strncmp(option, "switch", length))
        return read_address(value, &switch_first, &rest) && *rest == '-' &&
               read_address(rest + 1, &switch_end, &rest) && !*rest;
    return false;
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (strcmp(info->target_name, "x86_64") || !info->system_emulation || info->system.max_vcpus != 1)
        fail("counts a whole x86-64 machine with one CPU only");
    for (int i = 0; i < argc; i++)
        if (!read_option(argv[i]))
            fail("%s: no such option, or not its form", argv[i]);
    if (!out)
        fail("out=FILE is missing");
    if (qemu_plugin_scoreboard_new)
        scoreboard = qemu_plugin_scoreboard_new(sizeof(struct counters));
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_is_translated);
    return 0;
}
