/* SPDX-License-Identifier: Apache-2.0 */
#include "send_modes.h"

#include "clock.h"
#include "session.h"
#include "signals.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static bool zerocopy_prepare(struct sender *sender)
{
    struct session *session = sender->session;
    const int on = 1;

    if (setsockopt(session->fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0)
        return outcome_set(&session->outcome, OUTCOME_UNSUPPORTED,
                           "this kernel has no SO_ZEROCOPY for TCP, which Linux has since 4.14: %s",
                           strerror(errno));
    if (!completions_init(&session->completions))
        return outcome_set(&session->outcome, OUTCOME_ERROR, "no memory to account for completions");
    return true;
}

/* Reads all queued completions. False with the outcome set when that fails. */
static bool reap(struct sender *sender, bool *any)
{
    struct session *session = sender->session;
    enum reaped reaped =
        completions_reap(&session->completions, session->fd, sender->pool.pending, &session->counters.calls);

    *any = reaped == REAPED_SOME;
    if (reaped == REAPED_SOME)
        session_progress(session, clock_now());
    if (reaped != REAPED_FAILED)
        return true;
    if (errno == EPROTO)
        return outcome_set(&session->outcome, OUTCOME_ERROR,
                           "the kernel reported completions of sends never made");
    return session_failed(session, "reading completions", errno);
}

/* Waits up to one tick for completions and reads them. The error queue shows as POLLERR, which needs no
 * asking for; a hang-up or an error of the connection shows there too and stays, so it must not become a busy
 * loop. */
static bool wait_and_reap(struct sender *sender, bool *any)
{
    struct session *session = sender->session;
    const bool ready = session_poll(session, 0);
    int error;

    if (!reap(sender, any))
        return false;
    if (ready && !*any) {
        error = socket_option(session->fd, SO_ERROR);
        if (error > 0)
            return session_failed(session, "sending", error);
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
    }
    return true;
}

/* Completions are read only when the next buffer is still in flight: by then many have been merged into one
 * range, and reading them costs few calls. */
static bool zerocopy_acquire(struct sender *sender)
{
    struct session *session = sender->session;
    bool any;

    if (pool_busy(&sender->pool) && !reap(sender, &any))
        return false;
    /* Waiting for the kernel costs more than another buffer. */
    if (pool_busy(&sender->pool) && !completions_full(&session->completions) && pool_grow(&sender->pool))
        return true;
    while (pool_busy(&sender->pool) || completions_full(&session->completions))
        if (!session_may_go_on(session, clock_now(), "send completions") || !wait_and_reap(sender, &any))
            return false;
    return true;
}

static void zerocopy_sent(struct sender *sender)
{
    completions_sent(&sender->session->completions, sender->pool.next, sender->pool.pending);
}

/* Memory that the socket holds for notifications; -1 unknown. */
static int64_t option_memory(int fd)
{
    uint32_t values[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof(values);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &length) < 0 ||
        length < (SK_MEMINFO_OPTMEM + 1) * sizeof(values[0]))
        return -1;
    return values[SK_MEMINFO_OPTMEM];
}

static int64_t option_memory_limit(void)
{
    FILE *file = fopen("/proc/sys/net/core/optmem_max", "re");
    int64_t value = -1;

    if (!file)
        return -1;
    if (fscanf(file, "%" SCNd64, &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

/* ENOBUFS has two causes: the locked-memory limit (pages pinned) and net.core.optmem_max (notifications
 * held). The socket's own option memory tells them apart: near its limit it is the second. */
static bool explain_no_buffers(struct sender *sender, int64_t held)
{
    struct session *session = sender->session;
    const int64_t limit = option_memory_limit();
    const int64_t one_notification = 1024; /* the kernel's accounting of one, rounded up */
    struct rlimit locked = {0};

    getrlimit(RLIMIT_MEMLOCK, &locked);
    if (held >= 0 && limit >= 0 && held + one_notification > limit)
        return outcome_set(&session->outcome, OUTCOME_ERROR,
                           "zerocopy send: no memory for notifications: the socket holds %" PRId64
                           " bytes, net.core.optmem_max is %" PRId64 "; set net.core.optmem_max to 1048576",
                           held, limit);
    return outcome_set(
        &session->outcome, OUTCOME_ERROR,
        "zerocopy send: cannot pin %zu bytes a message: the locked-memory limit (ulimit -l) is %ju KiB "
        "for this user; set it to %zu KiB or more, or to unlimited",
        session->options->message_bytes, (uintmax_t)locked.rlim_cur / 1024,
        sender->pool.stride * (sender->pool.count + 1) / 1024);
}

static bool zerocopy_no_buffers(struct sender *sender)
{
    struct session *session = sender->session;
    struct completions *completions = &session->completions;
    const int64_t held = option_memory(session->fd);
    bool any = false;

    completions->no_buffers++;
    if (!reap(sender, &any))
        return false;
    if (any)
        return true;
    if (!completions->outstanding) /* no completion can follow */
        return explain_no_buffers(sender, held);
    while (!any)
        if (!session_may_go_on(session, clock_now(), "send completions") || !wait_and_reap(sender, &any))
            return false;
    return true;
}

static bool zerocopy_settle(struct sender *sender, int64_t deadline_ns)
{
    struct session *session = sender->session;
    struct completions *completions = &session->completions;
    bool any;

    if (!reap(sender, &any))
        return false;
    while (completions->outstanding && !signals_stop_repeated()) {
        if (clock_now() >= deadline_ns)
            return outcome_set(&session->outcome, OUTCOME_TIMEOUT,
                               "%" PRIu32 " of %" PRIu64 " zerocopy sends had not completed in time",
                               completions->outstanding, completions->sends);
        if (!wait_and_reap(sender, &any))
            return false;
    }
    return true;
}

const struct send_mode send_modes[] = {
    {.name = "copy", .help = "send() from page-aligned buffers"},
    {.name = "zerocopy",
     .help = "the same with MSG_ZEROCOPY; a buffer is used again only after its completion",
     .flags = MSG_ZEROCOPY,
     .prepare = zerocopy_prepare,
     .acquire = zerocopy_acquire,
     .sent = zerocopy_sent,
     .no_buffers = zerocopy_no_buffers,
     .settle = zerocopy_settle},
    {.name = NULL},
};

const struct send_mode *send_mode_find(const char *name)
{
    for (const struct send_mode *mode = send_modes; mode->name; mode++)
        if (!strcmp(mode->name, name))
            return mode;
    return NULL;
}
