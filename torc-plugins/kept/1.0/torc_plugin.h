/* The plugin boundary of torc, version 1, for C (C11) and C++ (C++17).
 *
 * A plugin is a shared library that exports one object, `torc_plugin_v1`. torc reads it before it calls
 * anything. What is passed besides is JSON; docs/plugins.md has the messages of each interface, and an
 * example of each.
 *
 * Rules
 *  - No function may throw, or leave by longjmp: an exception that reaches torc ends the process.
 *  - Bytes that are passed in (`struct torc_bytes`) are borrowed: they are gone when the call returns.
 *  - A buffer (`struct torc_buffer`) belongs to whoever receives it, who calls its `release` exactly once.
 *    One without `release` has nothing to be released: its bytes live as long as the library.
 *  - One instance is called by one thread at a time; several instances may be called at once.
 *  - Structures grow at their ends only. `struct_size` says how much of one is there: do not touch a field
 *    of torc's that lies beyond it.
 */
#ifndef TORC_PLUGIN_H
#define TORC_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TORC_PLUGIN_MAGIC {'T', 'O', 'R', 'C', 'P', 'L', 'G', '\0'}
#define TORC_ABI_MAJOR 1u
#define TORC_ABI_MINOR 0u

/* No message is longer, in bytes. */
#define TORC_LONGEST_MESSAGE ((size_t)64 * 1024 * 1024)

/* The interfaces of this version. Others are ignored. */
#define TORC_LAUNCHER "torc.launcher/1"
#define TORC_EXECUTOR "torc.executor/1"
#define TORC_SCHEDULER "torc.scheduler/1"
#define TORC_PLACER "torc.placer/1"

/* What a call came to. torc takes any other number for TORC_FATAL. */
typedef int32_t torc_status;
enum {
    /* It was done; the buffer has the answer. */
    TORC_OK = 0,
    /* It is under way: `complete` of the host is called later, exactly once. Not for launchers and placers. */
    TORC_PENDING = 1,
    /* The request cannot be met, however often it is made. The buffer says why, in words. */
    TORC_INVALID = 2,
    /* It may be met later. The buffer says why, in words. */
    TORC_TRANSIENT = 3,
    /* There is no such method. */
    TORC_UNSUPPORTED = 4,
    /* The plugin is broken, but was caught. */
    TORC_PANIC = 5,
    /* `complete` came too late, or a second time, or for nothing that was asked. */
    TORC_STALE = 6,
    /* The plugin cannot go on; it is not called any more. The buffer says why, in words. */
    TORC_FATAL = 7
};

/* How much a line of the log matters. */
enum { TORC_ERROR = 1, TORC_WARN = 2, TORC_INFO = 3, TORC_DEBUG = 4 };

/* Borrowed bytes. `ptr` may be null when `len` is 0. Text is UTF-8 and has no NUL at its end. */
struct torc_bytes {
    const uint8_t *ptr;
    size_t len;
};

/* Owned bytes. */
struct torc_buffer {
    const uint8_t *ptr;
    size_t len;
    /* Whatever `release` needs. */
    void *owner;
    void (*release)(struct torc_buffer *buffer);
};

/* What torc offers. It lives as long as the process; any of it may be called from any thread. */
struct torc_host {
    uint32_t struct_size;
    uint32_t abi_minor;
    /* Answers a call that returned TORC_PENDING, by its `op`. TORC_OK, or TORC_STALE: nobody waits for it. */
    torc_status (*complete)(uint64_t op, torc_status status, struct torc_buffer result);
    /* Tells what happened to a step. Executors only. */
    void (*emit)(uint64_t instance, struct torc_buffer event);
    /* Writes a line to the log of torc. Never write secrets. */
    void (*log)(uint64_t instance, int32_t level, struct torc_bytes message);
};

/* What a plugin offers for one interface. */
struct torc_vtable {
    uint32_t struct_size;
    uint32_t reserved;
    /* Makes an instance. `instance` is its number, for `emit` and `log`; `config` its settings, a JSON object.
     * `*self` is handed to the other two. What is wrong goes into `*error`, in words. */
    torc_status (*open)(const struct torc_host *host, uint64_t instance, struct torc_bytes config, void **self,
                        struct torc_buffer *error);
    /* Calls a method. `deadline_ms` is how long torc waits for the answer, in milliseconds; an answer that comes
     * later is TORC_STALE. `*out` is the answer, or says in words what is wrong. */
    torc_status (*call)(void *self, uint64_t op, struct torc_bytes method, struct torc_bytes request,
                        uint64_t deadline_ms, struct torc_buffer *out);
    /* Ends an instance, which is not called any more. What is under way may go on for `grace_ms` milliseconds. */
    torc_status (*close)(void *self, uint64_t grace_ms);
};

struct torc_interface {
    /* One of the names above. */
    const char *id;
    const struct torc_vtable *vtable;
};

/* The first 24 bytes are the same in all versions. */
struct torc_plugin_v1 {
    char magic[8];
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t struct_size;
    uint32_t interface_count;
    const struct torc_interface *interfaces;
    /* The name that specs and settings use: letters, digits, `-` and `_`. */
    const char *name;
    const char *version;
    /* A JSON object: `description`, and `schema`, the JSON Schema of the settings. Null: neither. */
    const char *info;
};

#if defined(__GNUC__)
#define TORC_EXPORT __attribute__((visibility("default")))
#else
#define TORC_EXPORT
#endif

/* What the library exports:
 *
 *   TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1 = {...};
 */
extern TORC_EXPORT const struct torc_plugin_v1 torc_plugin_v1;

#ifdef __cplusplus
}
#endif

#endif
