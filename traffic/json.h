/* SPDX-License-Identifier: Apache-2.0 */
/* Builds one JSON document on one line in memory, so that it is printed in one piece. */
#ifndef ZCLAB_JSON_H
#define ZCLAB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    char text[262144]; /* enough for a histogram with every bucket in use */
    size_t used;
    bool first; /* no comma before the next member */
    bool full;  /* the text did not fit: a bug, and never printed */
};

/* `key` is NULL for the outermost object and for elements of an array only. A value that is not `known` is
 * null; the functions that open something then return false, and there is nothing to close. */
void json_open(struct json *json, const char *key);
bool json_open_known(struct json *json, const char *key, bool known);
void json_close(struct json *json);
bool json_open_array(struct json *json, const char *key, bool known);
void json_close_array(struct json *json);
void json_pair(struct json *json, int64_t first, uint64_t second); /* an element [first, second] */
void json_bool(struct json *json, const char *key, bool known, bool value);
void json_integer(struct json *json, const char *key, int64_t value);
void json_count(struct json *json, const char *key, bool known, uint64_t value);
void json_decimal(struct json *json, const char *key, bool known, double value, int digits);
void json_seconds(struct json *json, const char *key, bool known, int64_t nanoseconds);
void json_string(struct json *json, const char *key, const char *value); /* NULL gives null */
/* Writes the line to stdout; false when that fails. */
bool json_print(struct json *json);

#endif
