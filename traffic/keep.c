/* SPDX-License-Identifier: Apache-2.0 */
#include "keep.h"

#include <stdlib.h>
#include <sys/mman.h>

bool keep_init(struct keep *keep, size_t limit, size_t least)
{
    *keep = (struct keep){.limit = limit, .room = limit / least + 2};
    keep->areas = limit ? calloc(keep->room, sizeof(*keep->areas)) : NULL;
    return !limit || keep->areas;
}

static void give_back(struct keep *keep)
{
    const struct kept *oldest = &keep->areas[keep->first];

    munmap(oldest->at, oldest->length);
    keep->bytes -= oldest->length;
    keep->first = (keep->first + 1) % keep->room;
    keep->count--;
}

unsigned keep_add(struct keep *keep, void *at, size_t length)
{
    unsigned given = 0;

    if (!keep->limit) {
        munmap(at, length);
        return 1;
    }
    keep->areas[(keep->first + keep->count++) % keep->room] = (struct kept){.at = at, .length = length};
    keep->bytes += length;
    for (; keep->bytes > keep->limit || keep->count == keep->room; given++)
        give_back(keep);
    return given;
}

void keep_free(struct keep *keep)
{
    while (keep->count)
        give_back(keep);
    free(keep->areas);
    *keep = (struct keep){0};
}
