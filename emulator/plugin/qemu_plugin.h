/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this plugin uses of QEMU's plugin interface, which Debian packages no header of.
 *
 * Two versions of the interface are served by one file: 1 (QEMU 7.2), and 3 (QEMU 9.1 and later), in which an
 * inline operation counts per CPU in a scoreboard and the bytes of an instruction are copied. What only one
 * of them has is a weak symbol, null in the other. */
#ifndef ZCLAB_QEMU_PLUGIN_H
#define ZCLAB_QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))
#define IN_SOME __attribute__((weak))

typedef uint64_t qemu_plugin_id_t;

typedef struct {
    const char *target_name;
    struct {
        int min;
        int cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus;
        int max_vcpus;
    } system;
} qemu_info_t;

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;

typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };

EXPORTED int qemu_plugin_install(qemu_plugin_id_t, const qemu_info_t *, int, char **);

typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*qemu_plugin_vcpu_udata_cb_t)(unsigned int, void *);
typedef void (*qemu_plugin_vcpu_mem_cb_t)(unsigned int, uint32_t, uint64_t, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, qemu_plugin_vcpu_tb_trans_cb_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, qemu_plugin_vcpu_udata_cb_t,
                                          enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, qemu_plugin_vcpu_udata_cb_t,
                                            enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, qemu_plugin_vcpu_mem_cb_t,
                                      enum qemu_plugin_cb_flags, enum qemu_plugin_mem_rw, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

/* Version 1 returns a pointer to the bytes instead, and takes the instruction only. */
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
const void *insn_data_1(const struct qemu_plugin_insn *) __asm__("qemu_plugin_insn_data");

IN_SOME void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, enum qemu_plugin_op,
                                                        void *, uint64_t);
IN_SOME void qemu_plugin_register_vcpu_mem_inline(struct qemu_plugin_insn *, enum qemu_plugin_mem_rw,
                                                  enum qemu_plugin_op, void *, uint64_t);
IN_SOME void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *,
                                                                 enum qemu_plugin_op, qemu_plugin_u64,
                                                                 uint64_t);
IN_SOME void qemu_plugin_register_vcpu_mem_inline_per_vcpu(struct qemu_plugin_insn *,
                                                           enum qemu_plugin_mem_rw, enum qemu_plugin_op,
                                                           qemu_plugin_u64, uint64_t);
IN_SOME struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
IN_SOME void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *, unsigned int);

#endif
