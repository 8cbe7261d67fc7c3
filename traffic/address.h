/* SPDX-License-Identifier: Apache-2.0 */
/* Numeric IPv4 and IPv6 addresses with a port. No name service: a static binary should not need one. */
#ifndef ZCLAB_ADDRESS_H
#define ZCLAB_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT 80 /* enough for an IPv6 address with %interface */

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

/* Reads "10.0.0.1", "fd00::1" or "fe80::1%data0"; false when it is none of these. */
bool address_parse(struct address *address, const char *text);
socklen_t address_length(const struct address *address);
void address_set_port(struct address *address, uint16_t port);
uint16_t address_port(const struct address *address);
int address_ip_version(const struct address *address); /* 4 or 6 */
/* Same host: ports are not looked at; a scope counts only where both have one. */
bool address_same_host(const struct address *a, const struct address *b);
const char *address_text(const struct address *address, char text[ADDRESS_TEXT]);

#endif
