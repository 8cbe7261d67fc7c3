/* SPDX-License-Identifier: Apache-2.0 */
#include "completions.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* last: it uses struct timespec without declaring it */

bool completions_init(struct completions *completions)
{
    completions->owner = calloc(COMPLETIONS_MAX, sizeof(*completions->owner));
    return completions->owner != NULL;
}

void completions_free(struct completions *completions)
{
    free(completions->owner);
    completions->owner = NULL;
}

bool completions_full(const struct completions *completions)
{
    return completions->owner[completions->next_id % COMPLETIONS_MAX] != 0;
}

void completions_sent(struct completions *completions, uint32_t owner, uint32_t *pending)
{
    completions->owner[completions->next_id % COMPLETIONS_MAX] = owner + 1;
    completions->next_id++;
    completions->outstanding++;
    completions->sends++;
    pending[owner]++;
}

bool completions_range(struct completions *completions, uint32_t lo, uint32_t hi, bool copied,
                       uint32_t *pending)
{
    const uint32_t count = hi - lo + 1; /* right across the wrap, too */

    /* Both ends must lie among the last COMPLETIONS_MAX ids given out. */
    if (count == 0 || count > COMPLETIONS_MAX || completions->next_id - lo > COMPLETIONS_MAX ||
        completions->next_id - lo < count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!completions->owner[(lo + i) % COMPLETIONS_MAX])
            return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *owner = &completions->owner[(lo + i) % COMPLETIONS_MAX];

        pending[*owner - 1]--;
        *owner = 0;
    }
    completions->outstanding -= count;
    completions->completed += count;
    if (copied)
        completions->copied += count;
    return true;
}

static const struct sock_extended_err *find_report(struct msghdr *message)
{
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one))
        if ((one->cmsg_level == SOL_IP && one->cmsg_type == IP_RECVERR) ||
            (one->cmsg_level == SOL_IPV6 && one->cmsg_type == IPV6_RECVERR)) {
            const struct sock_extended_err *report = (const void *)CMSG_DATA(one);

            if (report->ee_errno == 0 && report->ee_origin == SO_EE_ORIGIN_ZEROCOPY)
                return report;
        }
    return NULL;
}

enum reaped completions_reap(struct completions *completions, int fd, uint32_t *pending, uint64_t *calls)
{
    enum reaped reaped = REAPED_NOTHING;

    for (;;) {
        _Alignas(struct cmsghdr) unsigned char control[256];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
        const struct sock_extended_err *report;

        ++*calls;
        if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN ? reaped : REAPED_FAILED;
        }
        report = find_report(&message);
        if (!report)
            continue; /* not about zero-copy */
        if (!completions_range(completions, report->ee_info, report->ee_data,
                               report->ee_code & SO_EE_CODE_ZEROCOPY_COPIED, pending)) {
            errno = EPROTO;
            return REAPED_FAILED;
        }
        reaped = REAPED_SOME;
    }
}
