/* A plugin in C for the tests, which builds it with one of these macros: WRONG_MAJOR, BAD_MAGIC, SHORT, LONG, NULL_SLOT,
 * NO_NAME, BAD_UTF8, BAD_INFO, MANY, TOO_OLD. Without any it is as it should be. */
#include "torc_plugin.h"

#include <stdlib.h>
#include <string.h>

static const struct torc_host *torc;
static uint64_t self_number;
static unsigned released;

static void release(struct torc_buffer *buffer) {
    released++;
    free(buffer->owner);
    buffer->owner = NULL;
}

static struct torc_buffer text(const char *words) {
    char *copy = strdup(words);
    struct torc_buffer buffer = {(const uint8_t *)copy, strlen(words), copy, release};
    return buffer;
}

static torc_status open_it(const struct torc_host *host, uint64_t instance, struct torc_bytes config, void **self,
                           struct torc_buffer *error) {
    (void)config;
    torc = host;
    self_number = instance;
    *self = &released;
    if (host->struct_size < sizeof *host) {
        *error = text("this torc is too old");
        return TORC_INVALID;
    }
    return TORC_OK;
}

static int is(struct torc_bytes method, const char *name) {
    return method.len == strlen(name) && memcmp(method.ptr, name, method.len) == 0;
}

#ifdef NULL_SLOT
__attribute__((unused))
#endif
static torc_status call_it(void *self, uint64_t op, struct torc_bytes method, struct torc_bytes request,
                           uint64_t deadline_ms, struct torc_buffer *out) {
    (void)self, (void)request, (void)deadline_ms;
    if (is(method, "plan")) {
        *out = text("{\"argv\": [\"true\"]}");
        return TORC_OK;
    }
    if (is(method, "twice")) {
        torc_status first = torc->complete(op, TORC_OK, text("1"));
        torc_status again = torc->complete(op, TORC_OK, text("2"));
        const char *words = first == TORC_OK && again == TORC_STALE ? "stale" : "wrong";
        struct torc_bytes line = {(const uint8_t *)words, strlen(words)};
        torc->log(self_number, TORC_INFO, line);
        torc->emit(self_number, text(words));
        return TORC_PENDING;
    }
    if (is(method, "status 99")) {
        *out = text("what is this");
        return 99;
    }
    if (is(method, "nothing")) {
        return TORC_INVALID;
    }
    if (is(method, "released")) {
        char *number = malloc(16);
        struct torc_buffer buffer = {(const uint8_t *)number, 1, number, release};
        number[0] = (char)('0' + released);
        *out = buffer;
        return TORC_OK;
    }
    return TORC_UNSUPPORTED;
}

static torc_status close_it(void *self, uint64_t grace_ms) {
    (void)self, (void)grace_ms;
    return TORC_OK;
}

static const struct torc_vtable functions = {
    .struct_size = sizeof(struct torc_vtable),
    .open = open_it,
#ifndef NULL_SLOT
    .call = call_it,
#endif
    .close = close_it,
};

static const struct torc_interface interfaces[] = {{TORC_LAUNCHER, &functions}, {"torc.future/7", &functions}};

#ifdef LONG
/* As a version to come would have it. */
struct longer {
    struct torc_plugin_v1 known;
    const char *more[4];
};
TORC_EXPORT const struct longer torc_plugin_v1_long __asm__("torc_plugin_v1") = {.known =
#elif defined(NO_SYMBOL)
TORC_EXPORT const struct torc_plugin_v1 another_name =
#else
TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1 =
#endif
    {
#ifdef BAD_MAGIC
        .magic = {'T', 'O', 'R', 'C', 'P', 'L', 'G', '!'},
#else
        .magic = TORC_PLUGIN_MAGIC,
#endif
#ifdef WRONG_MAJOR
        .abi_major = 2,
#else
        .abi_major = TORC_ABI_MAJOR,
#endif
        .abi_minor = TORC_ABI_MINOR,
#ifdef LONG
        .struct_size = sizeof(struct longer),
#elif defined(SHORT)
        /* As far as the version: there is no `info`. */
        .struct_size = offsetof(struct torc_plugin_v1, info),
        .info = (const char *)1,
#elif defined(TOO_OLD)
        .struct_size = 24,
#else
        .struct_size = sizeof(struct torc_plugin_v1),
#endif
#ifdef MANY
        .interface_count = 1u << 30,
#else
        .interface_count = 2,
#endif
        .interfaces = interfaces,
#ifdef BAD_UTF8
        .name = "odd\xff",
#elif !defined(NO_NAME)
        .name = "odd",
#endif
        .version = "1",
#ifdef BAD_INFO
        .info = "{\"description\": 7}",
#endif
    }
#ifdef LONG
}
#endif
;
