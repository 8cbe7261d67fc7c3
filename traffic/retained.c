/* SPDX-License-Identifier: Apache-2.0 */
#include "retained.h"

#include <stdlib.h>
#include <sys/mman.h>

bool retained_init(struct retained *retained, size_t limit, size_t least)
{
    *retained = (struct retained){.limit = limit, .room = limit / least + 2};
    retained->areas = limit ? calloc(retained->room, sizeof(*retained->areas)) : NULL;
    return !limit || retained->areas;
}

static void give_back(struct retained *retained)
{
    const struct retained_area *oldest = &retained->areas[retained->first];

    munmap(oldest->at, oldest->length);
    retained->bytes -= oldest->length;
    retained->first = (retained->first + 1) % retained->room;
    retained->count--;
}

unsigned retained_add(struct retained *retained, void *at, size_t length)
{
    unsigned given = 0;

    if (!retained->limit) {
        munmap(at, length);
        return 1;
    }
    retained->areas[(retained->first + retained->count++) % retained->room] =
        (struct retained_area){.at = at, .length = length};
    retained->bytes += length;
    for (; retained->bytes > retained->limit || retained->count == retained->room; given++)
        give_back(retained);
    return given;
}

void retained_free(struct retained *retained)
{
    while (retained->count)
        give_back(retained);
    free(retained->areas);
    *retained = (struct retained){0};
}
