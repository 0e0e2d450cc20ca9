/* A launcher for programs of MPICH and Intel MPI: the ranks of a job on several nodes are started by Hydra's mpiexec, so
 * that no command has to say so. On which nodes mpiexec is told by torc in mode direct. A job on one node is started as
 * it is.
 *
 * Built by: cc -shared -fPIC -I../sdk/include hydra.c -ljansson -o libtorc_hydra.so
 *
 * Settings: `program`, what is called (mpiexec), and `options`, words for it.
 */
#include "torc_plugin.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What an instance is made of: its settings. */
struct hydra {
    json_t *settings;
};

static void release_text(struct torc_buffer *buffer) {
    free(buffer->owner);
    buffer->owner = NULL;
}

/* Hands words over, which have to come from malloc. */
static struct torc_buffer hand_over(char *words) {
    struct torc_buffer buffer = {NULL, 0, NULL, NULL};
    if (words) {
        buffer.ptr = (const uint8_t *)words;
        buffer.len = strlen(words);
        buffer.owner = words;
        buffer.release = release_text;
    }
    return buffer;
}

static torc_status open_hydra(const struct torc_host *host, uint64_t instance, struct torc_bytes config, void **self,
                             struct torc_buffer *error) {
    (void)host, (void)instance;
    json_error_t wrong;
    json_t *settings = json_loadb((const char *)config.ptr, config.len, 0, &wrong);
    struct hydra *hydra = calloc(1, sizeof *hydra);
    if (!settings || !hydra) {
        json_decref(settings);
        free(hydra);
        *error = hand_over(strdup("the settings cannot be read"));
        return TORC_INVALID;
    }
    hydra->settings = settings;
    *self = hydra;
    return TORC_OK;
}

static json_int_t number(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

/* Adds an option with a number. */
static void add(json_t *argv, const char *option, json_int_t value) {
    char word[32];
    snprintf(word, sizeof word, "%lld", (long long)value);
    json_array_append_new(argv, json_string(option));
    json_array_append_new(argv, json_string(word));
}

static json_t *plan(const struct hydra *hydra, const json_t *step) {
    const json_t *nodes = json_object_get(step, "nodes");
    json_int_t count = (json_int_t)json_array_size(nodes);
    json_t *argv = json_array();
    if (count > 1) {
        const char *program = json_string_value(json_object_get(hydra->settings, "program"));
        json_int_t each = number(json_object_get(step, "layout"), "ntasks_per_node");
        json_array_append_new(argv, json_string(program ? program : "mpiexec"));
        add(argv, "-ppn", each);
        add(argv, "-n", count * each);
        json_array_extend(argv, json_object_get(hydra->settings, "options"));
    }
    json_array_extend(argv, json_object_get(step, "argv"));
    return json_pack("{s:o}", "argv", argv);
}

static torc_status call_hydra(void *self, uint64_t op, struct torc_bytes method, struct torc_bytes request,
                             uint64_t deadline_ms, struct torc_buffer *out) {
    (void)op, (void)deadline_ms;
    if (method.len != 4 || memcmp(method.ptr, "plan", 4) != 0) return TORC_UNSUPPORTED;
    json_error_t wrong;
    json_t *asked = json_loadb((const char *)request.ptr, request.len, 0, &wrong);
    const json_t *step = json_object_get(asked, "step");
    if (!json_is_array(json_object_get(step, "nodes")) || !json_is_array(json_object_get(step, "argv"))) {
        json_decref(asked);
        *out = hand_over(strdup("the request has no step"));
        return TORC_INVALID;
    }
    json_t *answer = plan(self, step);
    *out = hand_over(json_dumps(answer, JSON_COMPACT));
    json_decref(answer);
    json_decref(asked);
    return out->ptr ? TORC_OK : TORC_FATAL;
}

static torc_status close_hydra(void *self, uint64_t grace_ms) {
    struct hydra *hydra = self;
    (void)grace_ms;
    json_decref(hydra->settings);
    free(hydra);
    return TORC_OK;
}

static const struct torc_vtable launcher = {
    .struct_size = sizeof launcher, .open = open_hydra, .call = call_hydra, .close = close_hydra};

static const struct torc_interface interfaces[] = {{TORC_LAUNCHER, &launcher}};

TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1 = {
    .magic = TORC_PLUGIN_MAGIC,
    .abi_major = TORC_ABI_MAJOR,
    .abi_minor = TORC_ABI_MINOR,
    .struct_size = sizeof torc_plugin_v1,
    .interface_count = 1,
    .interfaces = interfaces,
    .name = "hydra",
    .version = "1.0.0",
    .info = "{\"description\": \"starts the ranks of jobs on several nodes by mpiexec of MPICH or Intel MPI\", \"schema\": {\"type\": \"object\", \"properties\": {"
            "\"program\": {\"type\": \"string\"}, \"options\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}}},"
            "\"additionalProperties\": false}}",
};
