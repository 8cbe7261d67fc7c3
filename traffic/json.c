/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void put(struct json *json, const char *format, ...)
{
    size_t left = sizeof(json->text) - json->used;
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(json->text + json->used, left, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= left)
        json->full = true;
    else
        json->used += (size_t)length;
}

static void put_string(struct json *json, const char *text)
{
    put(json, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            put(json, "\\%c", c);
        else if (c < 0x20 || c > 0x7e) /* bytes that may not be UTF-8 are shown as Latin-1 */
            put(json, "\\u%04x", c);
        else
            put(json, "%c", c);
    }
    put(json, "\"");
}

static void put_key(struct json *json, const char *key)
{
    if (!json->first)
        put(json, ", ");
    json->first = false;
    put_string(json, key);
    put(json, ": ");
}

void json_open(struct json *json, const char *key)
{
    if (key)
        put_key(json, key);
    else if (!json->first)
        put(json, ", ");
    put(json, "{");
    json->first = true;
}

void json_close(struct json *json)
{
    put(json, "}");
    json->first = false;
}

void json_open_array(struct json *json, const char *key)
{
    put_key(json, key);
    put(json, "[");
    json->first = true;
}

void json_close_array(struct json *json)
{
    put(json, "]");
    json->first = false;
}

void json_pair(struct json *json, int64_t first, uint64_t second)
{
    put(json, "%s[%" PRId64 ", %" PRIu64 "]", json->first ? "" : ", ", first, second);
    json->first = false;
}

void json_null(struct json *json, const char *key)
{
    put_key(json, key);
    put(json, "null");
}

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    put(json, "%s", value ? "true" : "false");
}

void json_integer(struct json *json, const char *key, int64_t value)
{
    put_key(json, key);
    put(json, "%" PRId64, value);
}

void json_count(struct json *json, const char *key, bool known, uint64_t value)
{
    put_key(json, key);
    if (known)
        put(json, "%" PRIu64, value);
    else
        put(json, "null");
}

void json_decimal(struct json *json, const char *key, double value, int digits)
{
    put_key(json, key);
    put(json, "%.*f", digits, value);
}

void json_seconds(struct json *json, const char *key, bool known, int64_t nanoseconds)
{
    put_key(json, key);
    if (known)
        put(json, "%" PRId64 ".%09" PRId64, nanoseconds / NS_PER_S, nanoseconds % NS_PER_S);
    else
        put(json, "null");
}

void json_string(struct json *json, const char *key, const char *value)
{
    put_key(json, key);
    if (value)
        put_string(json, value);
    else
        put(json, "null");
}

bool json_print(struct json *json)
{
    const char *from = json->text;
    size_t left;

    put(json, "\n");
    if (json->full)
        return false;
    for (left = json->used; left;) {
        ssize_t wrote = write(STDOUT_FILENO, from, left);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        from += wrote;
        left -= (size_t)wrote;
    }
    return true;
}
