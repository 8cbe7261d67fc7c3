/* SPDX-License-Identifier: Apache-2.0 */
#include "streams.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

struct task {
    struct session *session;
    void (*body)(struct session *session);
};

static void *work(void *argument)
{
    const struct task *task = argument;

    task->body(task->session);
    return NULL;
}

void streams_run(struct session *sessions, int streams, void (*body)(struct session *session))
{
    static pthread_t threads[STREAMS_MAX];
    static struct task tasks[STREAMS_MAX];
    sigset_t all, before;
    struct group *group = sessions->group;
    int started = 1;

    /* Signals are the main thread's; the others see what they ask for within a tick. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; started < streams; started++) {
        int error;

        tasks[started] = (struct task){.session = &sessions[started], .body = body};
        error = pthread_create(&threads[started], NULL, work, &tasks[started]);
        if (error) {
            outcome_set(&sessions[0].outcome, OUTCOME_ERROR, "cannot start a thread for stream %d: %s",
                        started, strerror(error));
            pthread_mutex_lock(&group->lock); /* the others wait for those that have started only */
            group->members = started;
            group->broken = true;
            pthread_mutex_unlock(&group->lock);
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    body(&sessions[0]);
    for (int i = 1; i < started; i++)
        pthread_join(threads[i], NULL);
    for (int i = started; i < streams; i++)
        session_close(&sessions[i]);
}
