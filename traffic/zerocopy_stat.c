/* SPDX-License-Identifier: Apache-2.0 */
#include "zerocopy_stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const fate_names[FATES] = {
    "mapped",        "copied",     "linear",         "short_segment", "unaligned",
    "compound_page", "page_cache", "less_than_page", "urgent",        "refused",
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
