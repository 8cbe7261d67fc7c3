/* SPDX-License-Identifier: Apache-2.0 */
#include "zerocopy_stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const fate_names[FATES] = {
    [FATE_MAPPED] = "mapped",
    [FATE_COPIED] = "copied",
    [FATE_LINEAR] = "linear",
    [FATE_SHORT_SEGMENT] = "short_segment",
    [FATE_UNALIGNED] = "unaligned",
    [FATE_COMPOUND_PAGE] = "compound_page",
    [FATE_PAGE_CACHE] = "page_cache",
    [FATE_LESS_THAN_PAGE] = "less_than_page",
    [FATE_URGENT] = "urgent",
    [FATE_REFUSED] = "refused",
};

void zerocopy_stat_take(struct zerocopy_stat *stat)
{
    FILE *file = fopen("/proc/net/tcp_zerocopy", "re");
    char name[32];
    uint64_t bytes;

    *stat = (struct zerocopy_stat){.known = file != NULL};
    if (!file)
        return;
    /* Each line: mapping interface, what became of the bytes, how many. */
    while (fscanf(file, "%*31s %31s %" SCNu64, name, &bytes) == 2)
        for (int fate = 0; fate < FATES; fate++)
            if (!strcmp(name, fate_names[fate]))
                stat->bytes[fate] += bytes;
    fclose(file);
}
