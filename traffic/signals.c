/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* Lock-free, so the handler may write it and every stream's thread may read it. */
static atomic_int requests;

static void on_signal(int number)
{
    (void)number;
    if (requests < 2)
        requests++;
}

void signals_install(void)
{
    /* No SA_RESTART: a waiting system call should return at once. */
    struct sigaction action = {.sa_handler = on_signal};
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigaction(numbers[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void *watch(void *unused)
{
    char discarded[256];
    ssize_t got;

    (void)unused;
    do
        got = read(STDIN_FILENO, discarded, sizeof(discarded));
    while (got > 0 || (got < 0 && errno == EINTR));
    kill(getpid(), SIGTERM); /* blocked in this thread, so the main thread's wait is the one interrupted */
    return NULL;
}

bool signals_watch_stdin(struct outcome *outcome)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, watch, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return outcome_set(outcome, OUTCOME_ERROR, "--watch-stdin: cannot start a thread: %s",
                           strerror(error));
    return true;
}

bool signals_stop_requested(void)
{
    return atomic_load_explicit(&requests, memory_order_relaxed) > 0;
}

bool signals_stop_repeated(void)
{
    return requests > 1;
}
