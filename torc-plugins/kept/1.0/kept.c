/* A plugin of version 1.0 of the boundary, kept as it is: a torc to come has to load it, and understand it.
 *
 * It is all four interfaces at once. Each method looks whether the request has the fields that version 1.0 promised, and
 * gives an answer of that version; what is missing is an error that names it. Never change this file: what a later version has
 * to show goes into a folder of its own. */
#include "torc_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct instance {
    const struct torc_host *host;
    uint64_t number;
    const struct method *methods;
};

struct method {
    const char *name;
    /* Fields that the request has to have somewhere. */
    const char *fields[24];
    const char *answer;
};

static const struct method of_launcher[] = {
    {"plan",
     {"folder", "step", "id", "workflow", "job", "run", "attempt", "job_name", "argv", "env", "working_dir", "stdio", "stdout",
      "delete_on_success", "allocation", "nodes", "cores", "gpus", "layout", "ntasks_per_node", "limits", "termination_signal",
      "expected_files"},
     "{\"argv\": [\"true\", \"kept\"], \"env\": {\"KEPT\": \"1.0\"}, \"files\": [[\"hosts\", \"n1\\n\"]]}"},
    {0}};

static const struct method of_executor[] = {
    {"inventory", {0}, "{\"nodes\": [{\"name\": \"n1\", \"cores\": [0, 1], \"threads_per_core\": 1, \"memory\": 1024, \"gpus\": [\"0\"]}]}"},
    {"launch", {"step", "id", "argv", "env", "working_dir", "nodes", "limits", "termination_lead"}, "null"},
    {"signal", {"step", "workflow", "job", "run", "attempt", "signal"}, "null"},
    {"reconcile", {"steps", "workflow", "job", "run", "attempt"}, "[{\"state\": \"unknown\"}]"},
    {0}};

static const struct method of_scheduler[] = {
    {"shapes", {"name", "nodes", "walltime", "settings", "command", "working_dir", "output", "env", "umask", "after"},
     "{\"known\": [{\"cpus\": 2, \"threads_per_core\": 1, \"memory\": 1024, \"gpus\": 0, \"count\": 1}]}"},
    {"submit", {"request", "key", "name", "settings"}, "\"A1\""},
    {"find", {"key"}, "null"},
    {"observe", {"allocations"}, "[{\"state\": \"pending\", \"reason\": \"kept\", \"expected_start\": null}]"},
    {"cancel", {"allocation"}, "null"},
    {0}};

static const struct method of_placer[] = {
    {"plan", {"deltas", "now", "limit"},
     "{\"starts\": [{\"job\": 1, \"placement\": {\"a\": 1, \"s\": [{\"n\": 0, \"c\": [0], \"m\": 1024}]}}]}"},
    {"explain", {"deltas", "job", "now"}, "{\"waiting\": \"never\", \"cause\": \"cpus\", \"needs\": 128, \"largest\": 64}"},
    {"rebuild", {"snapshot", "classes", "allocations", "node_states", "running", "waiting"}, "null"},
    {0}};

/* The step that torc's test launches. */
static const char *const events[] = {
    "{\"event\": \"started\", \"step\": {\"workflow\": 1, \"job\": 1, \"run\": 1, \"attempt\": 1}, \"at\": 1767225600000}",
    "{\"event\": \"ended\", \"step\": {\"workflow\": 1, \"job\": 1, \"run\": 1, \"attempt\": 1}, \"at\": 1767225605000, "
    "\"outcome\": {\"outcome\": \"exited\", \"code\": 3}, \"usage\": {\"cpu_ms\": 5200, \"peak_memory\": 83886080}}"};

static void release(struct torc_buffer *buffer) {
    free(buffer->owner);
    buffer->owner = NULL;
    buffer->release = NULL;
}

/* A copy that torc has to release. */
static struct torc_buffer owned(const char *words) {
    size_t length = strlen(words);
    char *copy = malloc(length + 1);
    struct torc_buffer buffer = {(const uint8_t *)copy, 0, copy, release};
    if (copy != NULL) {
        memcpy(copy, words, length);
        buffer.len = length;
    }
    return buffer;
}

static int is(struct torc_bytes method, const char *name) {
    return method.len == strlen(name) && memcmp(method.ptr, name, method.len) == 0;
}

static int has(struct torc_bytes request, const char *field) {
    char quoted[64];
    int length = snprintf(quoted, sizeof quoted, "\"%s\":", field);
    for (size_t at = 0; at + (size_t)length <= request.len; at++)
        if (memcmp(request.ptr + at, quoted, (size_t)length) == 0)
            return 1;
    return 0;
}

static torc_status open_as(const struct method *methods, const struct torc_host *host, uint64_t instance,
                           struct torc_bytes config, void **self, struct torc_buffer *error) {
    struct instance *made = malloc(sizeof *made);
    if (host->struct_size < sizeof *host || made == NULL || config.len == 0 || config.ptr[0] != '{') {
        free(made);
        *error = owned("torc does not keep to version 1.0");
        return TORC_INVALID;
    }
    *made = (struct instance){host, instance, methods};
    *self = made;
    struct torc_bytes line = {(const uint8_t *)"opened", 6};
    host->log(instance, TORC_INFO, line);
    return TORC_OK;
}

#define OPEN(name)                                                                                                     \
    static torc_status open_##name(const struct torc_host *host, uint64_t instance, struct torc_bytes config,         \
                                   void **self, struct torc_buffer *error) {                                          \
        return open_as(of_##name, host, instance, config, self, error);                                               \
    }
OPEN(launcher)
OPEN(executor)
OPEN(scheduler)
OPEN(placer)

static torc_status call_it(void *self, uint64_t op, struct torc_bytes method, struct torc_bytes request,
                           uint64_t deadline_ms, struct torc_buffer *out) {
    struct instance *instance = self;
    const struct method *called = instance->methods;
    while (called->name != NULL && !is(method, called->name))
        called++;
    if (called->name == NULL)
        return TORC_UNSUPPORTED;
    if (deadline_ms == 0) {
        *out = owned("torc does not say how long it waits");
        return TORC_INVALID;
    }
    for (const char *const *field = called->fields; *field != NULL; field++)
        if (!has(request, *field)) {
            char words[128];
            snprintf(words, sizeof words, "the request of %s lacks %s", called->name, *field);
            *out = owned(words);
            return TORC_INVALID;
        }
    if (instance->methods == of_executor && is(method, "launch"))
        for (size_t at = 0; at < sizeof events / sizeof *events; at++)
            instance->host->emit(instance->number, owned(events[at]));
    if (instance->methods == of_scheduler) {
        /* By way of `complete`; a second time is too often. */
        torc_status first = instance->host->complete(op, TORC_OK, owned(called->answer));
        torc_status again = instance->host->complete(op, TORC_OK, owned(called->answer));
        return first == TORC_OK && again == TORC_STALE ? TORC_PENDING : TORC_FATAL;
    }
    *out = owned(called->answer);
    return TORC_OK;
}

static torc_status close_it(void *self, uint64_t grace_ms) {
    (void)grace_ms;
    free(self);
    return TORC_OK;
}

#define TABLE(name) {sizeof(struct torc_vtable), 0, open_##name, call_it, close_it}
static const struct torc_vtable launcher = TABLE(launcher), executor = TABLE(executor), scheduler = TABLE(scheduler),
                                placer = TABLE(placer);

static const struct torc_interface interfaces[] = {
    {TORC_LAUNCHER, &launcher}, {TORC_EXECUTOR, &executor}, {TORC_SCHEDULER, &scheduler}, {TORC_PLACER, &placer}};

TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1 = {
    .magic = TORC_PLUGIN_MAGIC,
    .abi_major = TORC_ABI_MAJOR,
    .abi_minor = TORC_ABI_MINOR,
    .struct_size = sizeof(struct torc_plugin_v1),
    .interface_count = sizeof interfaces / sizeof *interfaces,
    .interfaces = interfaces,
    .name = "kept",
    .version = "1.0",
    .info = "{\"description\": \"as version 1.0 of the boundary has it\", \"schema\": {\"type\": \"object\"}}",
};
