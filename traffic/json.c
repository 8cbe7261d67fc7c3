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

/* Writes the key and, unless the value is known, null in its place; returns `known`. */
static bool put_key(struct json *json, const char *key, bool known)
{
    if (!json->first)
        put(json, ", ");
    json->first = false;
    if (key) {
        put_string(json, key);
        put(json, known ? ": " : ": null");
    }
    return known;
}

static void put_bracket(struct json *json, const char *bracket, bool opens)
{
    put(json, "%s", bracket);
    json->first = opens;
}

void json_open(struct json *json, const char *key)
{
    json_open_known(json, key, true);
}

bool json_open_known(struct json *json, const char *key, bool known)
{
    if (put_key(json, key, known))
        put_bracket(json, "{", true);
    return known;
}

void json_close(struct json *json)
{
    put_bracket(json, "}", false);
}

bool json_open_array(struct json *json, const char *key, bool known)
{
    if (put_key(json, key, known))
        put_bracket(json, "[", true);
    return known;
}

void json_close_array(struct json *json)
{
    put_bracket(json, "]", false);
}

void json_pair(struct json *json, int64_t first, uint64_t second)
{
    put_key(json, NULL, true);
    put(json, "[%" PRId64 ", %" PRIu64 "]", first, second);
}

void json_bool(struct json *json, const char *key, bool known, bool value)
{
    if (put_key(json, key, known))
        put(json, "%s", value ? "true" : "false");
}

void json_integer(struct json *json, const char *key, int64_t value)
{
    put_key(json, key, true);
    put(json, "%" PRId64, value);
}

void json_count(struct json *json, const char *key, bool known, uint64_t value)
{
    if (put_key(json, key, known))
        put(json, "%" PRIu64, value);
}

void json_decimal(struct json *json, const char *key, bool known, double value, int digits)
{
    if (put_key(json, key, known))
        put(json, "%.*f", digits, value);
}

void json_seconds(struct json *json, const char *key, bool known, int64_t nanoseconds)
{
    if (put_key(json, key, known))
        put(json, "%" PRId64 ".%09" PRId64, nanoseconds / NS_PER_S, nanoseconds % NS_PER_S);
}

void json_string(struct json *json, const char *key, const char *value)
{
    if (put_key(json, key, value != NULL))
        put_string(json, value);
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
