/* A launcher for torc: the ranks of a step are started by a program that takes their number and a file of hosts, as
 * mpiexec does. Replace what `plan` writes down by what your site needs. */
#define _POSIX_C_SOURCE 200809L
#include "torc_plugin.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An instance. */
struct starter {
    char *program;
};

static void release(struct torc_buffer *buffer) {
    free(buffer->owner);
    buffer->owner = NULL;
}

/* Hands text over that was allocated with malloc. */
static struct torc_buffer owned(char *text) {
    struct torc_buffer buffer = {(const uint8_t *)text, text ? strlen(text) : 0, text, release};
    return buffer;
}

/* Says in words what is wrong. */
static torc_status refuse(torc_status status, struct torc_buffer *out, const char *words) {
    *out = owned(strdup(words));
    return status;
}

static json_t *read_json(struct torc_bytes bytes) {
    return json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
}

static torc_status open_it(const struct torc_host *host, uint64_t instance, struct torc_bytes config, void **self,
                           struct torc_buffer *error) {
    (void)host, (void)instance;
    json_t *settings = read_json(config);
    json_t *program = json_object_get(settings, "program");
    struct starter *starter = NULL;
    torc_status status = TORC_OK;
    if (program && !json_is_string(program)) {
        status = refuse(TORC_INVALID, error, "`program` has to be text");
    } else if (!(starter = malloc(sizeof *starter))) {
        status = refuse(TORC_FATAL, error, "there is no memory left");
    } else {
        starter->program = strdup(program ? json_string_value(program) : "mpiexec");
        *self = starter;
    }
    json_decref(settings);
    return status;
}

/* The file of hosts: a line `name:ranks` for each. */
static json_t *hosts(json_t *nodes, json_int_t each) {
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) {
        return NULL;
    }
    size_t index;
    json_t *node;
    json_array_foreach(nodes, index, node) {
        const char *name = json_string_value(json_object_get(node, "name"));
        fprintf(out, "%s:%" JSON_INTEGER_FORMAT "\n", name ? name : "", each);
    }
    fclose(out);
    json_t *hosts = json_stringn(text, length);
    free(text);
    return hosts;
}

/* What to execute for a step. torc writes the files of a plan into `folder` before it starts the program. */
static json_t *plan(const struct starter *starter, json_t *request) {
    json_t *step = json_object_get(request, "step");
    const char *folder = json_string_value(json_object_get(request, "folder"));
    json_t *command = json_object_get(step, "argv");
    json_t *nodes = json_object_get(step, "nodes");
    json_int_t each = json_integer_value(json_object_get(json_object_get(step, "layout"), "ntasks_per_node"));
    if (!json_is_array(command) || !json_is_array(nodes) || !folder || each < 1) {
        return NULL;
    }
    json_t *ranks = json_sprintf("%" JSON_INTEGER_FORMAT, each * (json_int_t)json_array_size(nodes));
    json_t *argv = json_pack("[s, s, o, s, o]", starter->program, "-n", ranks, "-f", json_sprintf("%s/hosts", folder));
    json_array_extend(argv, command);
    return json_pack("{s: o, s: [[s, o]]}", "argv", argv, "files", "hosts", hosts(nodes, each));
}

static torc_status call_it(void *self, uint64_t op, struct torc_bytes method, struct torc_bytes request,
                           uint64_t deadline_ms, struct torc_buffer *out) {
    (void)op, (void)deadline_ms;
    if (method.len != strlen("plan") || memcmp(method.ptr, "plan", method.len) != 0) {
        return TORC_UNSUPPORTED;
    }
    json_t *asked = read_json(request);
    json_t *answer = plan(self, asked);
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    json_decref(asked);
    if (!text) {
        return refuse(TORC_INVALID, out, "this step cannot be read");
    }
    *out = owned(text);
    return TORC_OK;
}

static torc_status close_it(void *self, uint64_t grace_ms) {
    (void)grace_ms;
    struct starter *starter = self;
    free(starter->program);
    free(starter);
    return TORC_OK;
}

static const struct torc_vtable functions = {
    .struct_size = sizeof(struct torc_vtable),
    .open = open_it,
    .call = call_it,
    .close = close_it,
};

static const struct torc_interface interfaces[] = {{TORC_LAUNCHER, &functions}};

TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1 = {
    .magic = TORC_PLUGIN_MAGIC,
    .abi_major = TORC_ABI_MAJOR,
    .abi_minor = TORC_ABI_MINOR,
    .struct_size = sizeof(struct torc_plugin_v1),
    .interface_count = sizeof interfaces / sizeof interfaces[0],
    .interfaces = interfaces,
    .name = "@NAME@",
    .version = "0.1.0",
    .info = "{\"description\": \"starts ranks by a program that takes -n and -f, as mpiexec does\","
            " \"schema\": {\"type\": \"object\","
            "  \"properties\": {\"program\": {\"type\": \"string\","
            "   \"description\": \"the program; mpiexec unless it is said\"}},"
            "  \"additionalProperties\": false}}",
};
