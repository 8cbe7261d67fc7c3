/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc_modes.h"

#include "session.h"
#include "zerocopy_receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The next `bytes` of the message have arrived, the first of them at `at`. */
static void arrived(struct rpc *rpc, const void *at, size_t bytes)
{
    if (!rpc->have && bytes)
        rpc->kind = *(const unsigned char *)at;
    rpc->have += bytes;
}

/* Reads at most `want` bytes by copying. */
static enum consumed read_bytes(struct rpc *rpc, size_t want, int flags)
{
    unsigned char *to = rpc->in + rpc->have;
    struct iovec part = {.iov_base = to, .iov_len = want};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t got;

    rpc->counters.calls.recvmsg++;
    got = recvmsg(rpc->session->fd, &message, flags);
    if (got > 0) {
        rpc->counters.copied += (uint64_t)got;
        arrived(rpc, to, (size_t)got);
    }
    return consume_received(rpc->session, got);
}

/* One blocking call for a whole message, which returns early only at the end of a tick. */
static enum consumed recvmsg_consume(struct rpc *rpc)
{
    return read_bytes(rpc, rpc->in_bytes - rpc->have, MSG_WAITALL);
}

static enum consumed poll_recvmsg_consume(struct rpc *rpc)
{
    return read_bytes(rpc, rpc->in_bytes - rpc->have, MSG_DONTWAIT);
}

static enum consumed map_consume(struct rpc *rpc)
{
    const size_t rest = rpc->in_bytes - rpc->have;
    const size_t room = rpc->mode->copy_buffer ? rest : 0;
    unsigned char *copy_to = rpc->in + rpc->have;
    struct zerocopy_receive call;
    size_t copied, left;

    rpc->counters.calls.getsockopt++;
    if (zerocopy_receive(rpc->session->fd, &call, rpc->mapping, rpc->mapping_bytes, copy_to, room, 0) < 0) {
        if (errno == EINTR || errno == EAGAIN)
            return CONSUMED_NOTHING;
        if (errno == EIO) /* nothing queued and the peer has finished */
            return CONSUMED_END;
        return consume_failed(rpc->session, "TCP_ZEROCOPY_RECEIVE", errno);
    }
    if (call.copybuf_len < 0 || call.err) /* the call has cleared the socket's error */
        return consume_failed(rpc->session, "receiving", abs(call.err ? call.err : call.copybuf_len));
    copied = (size_t)call.copybuf_len;
    rpc->counters.mapped += call.length;
    rpc->counters.copied += copied;
    arrived(rpc, call.length ? rpc->mapping : copy_to, call.length + copied);
    if (rpc->have > rpc->in_bytes) { /* the mapping is whole pages and has room for more than the message */
        outcome_set(&rpc->session->outcome, OUTCOME_ERROR, "the peer sent more than one message of %zu bytes",
                    rpc->in_bytes);
        return CONSUMED_FAILED;
    }
    left = rpc->in_bytes - rpc->have;
    if (call.recv_skip_hint && left)
        return read_bytes(rpc, call.recv_skip_hint < left ? call.recv_skip_hint : left, MSG_DONTWAIT);
    if (call.length || copied)
        return CONSUMED_SOME;
    /* Readable, but nothing was mapped or copied: recvmsg() tells an end or an error from a spurious
     * wakeup. */
    return read_bytes(rpc, left, MSG_DONTWAIT);
}

const struct rpc_mode rpc_modes[] = {
    {.name = "recvmsg", .help = "one blocking recvmsg() for each message", .consume = recvmsg_consume},
    {.name = "poll_recvmsg",
     .help = "poll() and recvmsg(): waits as the mapping modes do, which is the fair comparison with them",
     .polls = true,
     .consume = poll_recvmsg_consume},
    {.name = "map_recvmsg",
     .help = "poll(), getsockopt(TCP_ZEROCOPY_RECEIVE), and recvmsg() for what it did not map",
     .polls = true,
     .maps = true,
     .consume = map_consume},
    {.name = "map_copy_buffer",
     .help = "poll(), getsockopt(TCP_ZEROCOPY_RECEIVE) with a copy buffer that holds the whole message: "
             "the kernel copies a small one in the same call",
     .polls = true,
     .maps = true,
     .copy_buffer = true,
     .consume = map_consume},
    {.name = NULL},
};

const struct rpc_mode *rpc_mode_find(const char *name)
{
    for (const struct rpc_mode *mode = rpc_modes; mode->name; mode++)
        if (!strcmp(mode->name, name))
            return mode;
    return NULL;
}
