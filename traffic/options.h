/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line asked for, checked; command_line.c reads it, and prints the help. */
#ifndef ZCLAB_OPTIONS_H
#define ZCLAB_OPTIONS_H

#include "address.h"
#include "affinity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_MIN 8  /* bytes */
#define TOKEN_MAX 32 /* bytes */
#define NO_OFFSET UINT64_MAX

enum end { END_RECEIVE, END_SEND, END_RPC_SERVE, END_RPC_CALL };

struct options {
    enum end end;
    struct address bind; /* with the port at the receiver and the RPC server */
    struct address peer; /* with the port at the sender and the RPC client */
    uint16_t port;       /* of the end that listens; 0 there: any */
    uint8_t token[TOKEN_MAX];
    size_t token_bytes;
    const char *mode; /* a name from the mode table of this end */
    int streams;
    struct affinity affinity;
    int64_t baseline_ns; /* 0: none */
    int64_t warmup_ns;
    int64_t seconds_ns;      /* 0: the window is the whole transfer of `bytes` */
    uint64_t bytes;          /* 0: by time */
    int64_t idle_timeout_ns; /* longest time without any progress */
    bool watch_stdin;
    bool verify; /* every byte says where it belongs, and is checked */
    size_t message_bytes; /* 0: not given (receiver) */
    size_t header_bytes;  /* in front of each message; 0: none */
    /* receiver */
    size_t chunk_bytes;
    size_t keep_bytes; /* 0: none are retained */
    double inject_usec_per_mib; /* CPU to burn, for tests */
    int rcvlowat;       /* 0: not asked */
    size_t copy_buffer; /* 0: none */
    int rcvbuf;         /* 0: automatic */
    int64_t accept_timeout_ns;
    /* sender */
    double pace_gbit; /* 0: unpaced */
    int sndbuf;       /* 0: automatic */
    size_t inflight_bytes;
    bool cork;
    int64_t connect_timeout_ns;
    int64_t margin_ns;
    uint64_t inject_wrong_byte; /* its offset in stream 0, or NO_OFFSET */
    bool inject_early_reuse;
    /* RPC */
    size_t request_bytes;
    size_t reply_bytes;
};

enum parsed { PARSED_RUN, PARSED_HELP, PARSED_WRONG };

/* Fills `options`; help goes to stdout, a mistake as one line to stderr. */
enum parsed options_parse(struct options *options, int argc, char **argv);

#endif
