/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

bool address_parse(struct address *address, const char *text)
{
    char host[ADDRESS_TEXT];
    const char *scope = strchr(text, '%');
    size_t length = scope ? (size_t)(scope - text) : strlen(text);

    memset(address, 0, sizeof(*address));
    if (length >= sizeof(host))
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (!scope && inet_pton(AF_INET, host, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) != 1)
        return false;
    address->v6.sin6_family = AF_INET6;
    if (scope) {
        address->v6.sin6_scope_id = if_nametoindex(scope + 1);
        return address->v6.sin6_scope_id != 0;
    }
    return true;
}

socklen_t address_length(const struct address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->v6.sin6_port = htons(port);
    else
        address->v4.sin_port = htons(port);
}

uint16_t address_port(const struct address *address)
{
    return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}

int address_ip_version(const struct address *address)
{
    return address->any.sa_family == AF_INET6 ? 6 : 4;
}

bool address_same_host(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    if (a->v6.sin6_scope_id && b->v6.sin6_scope_id && a->v6.sin6_scope_id != b->v6.sin6_scope_id)
        return false;
    return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
}

const char *address_text(const struct address *address, char text[ADDRESS_TEXT])
{
    if (address->any.sa_family == AF_INET)
        return inet_ntop(AF_INET, &address->v4.sin_addr, text, ADDRESS_TEXT);
    inet_ntop(AF_INET6, &address->v6.sin6_addr, text, ADDRESS_TEXT);
    if (address->v6.sin6_scope_id) {
        char name[IF_NAMESIZE] = "?";
        size_t used = strlen(text);

        if_indextoname(address->v6.sin6_scope_id, name);
        snprintf(text + used, ADDRESS_TEXT - used, "%%%s", name);
    }
    return text;
}
