# What the scripts of this folder share: where the cluster lies, which nodes it has, which processes are
# its own, and waiting for a state. To be sourced; it starts and ends nothing by itself.
#
# The rule that keeps other processes of the machine safe: one belongs to this cluster only if its
# environment has GE_NODE_CLUSTER with this cluster's folder, which daemons get here and jobs from them.
# Nothing else is ever signalled. A pid file alone proves nothing. (What clears its environment is ended by
# Grid Engine, with its job, by an additional group; a group of this cluster may be someone else's too.)

cluster=${TORC_TEST_GRIDENGINE:-/tmp/torc-gridengine-$(id -u)}
master_spool=$cluster/spool/qmaster
node_spool=$cluster/spool/nodes
common=$cluster/default/common
log=$cluster/log
programs=/usr/lib/gridengine

main_nodes=(ge1 ge2 ge3)
wide_nodes=(ge4)
nodes=("${main_nodes[@]}" "${wide_nodes[@]}")

PATH=$PATH:/usr/sbin:/sbin
# The caller may itself be a job; what Grid Engine told it must not steer what is asked here.
unset "${!SGE_@}" "${!GE_NODE_@}" LD_PRELOAD

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "only root can start Grid Engine's daemons; run this as root"; }

# One script at a time changes a cluster. Whatever goes on after the script must not inherit descriptor
# 9, or the lock is held for good. Someone may have removed the file while we waited: then again.
lock() {
    while true; do
        exec 9>"$cluster.lock"
        flock -w 300 9 || fail "another script has been changing $cluster for 5 minutes"
        [ "$(stat -c %i "$cluster.lock" 2>/dev/null)" = "$(stat -Lc %i /proc/self/fd/9)" ] && return
    done
}

# wait_until SECONDS WHAT COMMAND...: asks COMMAND again and again until it succeeds.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            printf '%s: waited in vain until %s; see %s and %s\n' "${0##*/}" "$what" "$log" \
                "$cluster/spool/*/messages" >&2
            return 1
        fi
        sleep 0.1
    done
}

# The first of the two ports: sge_qmaster's, then that of every sge_execd.
port() { cat "$cluster/port"; }

# What a command needs to know of the cluster.
environment() {
    printf 'export SGE_ROOT=%q SGE_CELL=default SGE_ARCH=%q\n' "$cluster" "$(architecture)"
    printf 'export SGE_QMASTER_PORT=%d SGE_EXECD_PORT=%d\n' "$(port)" $(($(port) + 1))
    printf 'export TORC_TEST_GRIDENGINE=%q\n' "$cluster"
    # Debian's commands are scripts that take a tenth of a second each; these are what they start.
    # shellcheck disable=SC2016
    printf 'case :$PATH: in *:%q:*) ;; *) export PATH=%q:$PATH ;; esac\n' \
        "$cluster/commands" "$cluster/commands"
}
architecture() { /usr/share/gridengine/util/arch; }

# The nth node's address, from 0. Loopback addresses of their own, so that each node can have the same port.
address() { echo "127.71.0.$(($1 + 1))"; }

# The groups by which the nth node's daemon knows the processes of its jobs. No two nodes of the machine may
# share one: each would end the other's jobs. Below 65536, all that a container may have.
first_group() { echo $((40000 + ($(port) - first_port) * 10 + $1 * 50)); }
last_group() { echo $(($(first_group "$1") + 49)); }
first_port=20000
ports_apart=20

# program PID: the name of what it runs. Fails for a zombie too: that has ended, whoever is to reap it.
program() {
    local file
    file=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    file=${file% (deleted)}
    echo "${file##*/}"
}

# runs FILE PROGRAM: the process that the pid file names is alive, is PROGRAM, and is this cluster's.
runs() {
    local pid
    { read -r pid <"$1"; } 2>/dev/null || return 1
    [ "$(program "$pid")" = "$2" ] && grep -qzxF "GE_NODE_CLUSTER=$cluster" "/proc/$pid/environ" 2>/dev/null
}
master_runs() { runs "$master_spool/qmaster.pid" sge_qmaster; }
node_runs() { runs "$node_spool/$1/execd.pid" sge_execd; } # NODE

# processes: all of this cluster's, daemons and jobs, one id a line.
processes() {
    local pid
    # Processes end meanwhile, and then grep fails.
    { grep -lzxF "GE_NODE_CLUSTER=$cluster" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3 |
        while read -r pid; do ! program "$pid" >/dev/null || echo "$pid"; done
}

# Until there are none, since a process may start others while it is looked for.
end_processes() {
    local pids
    mapfile -t pids < <(processes)
    [ ${#pids[@]} -gt 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    return 1
}

# /etc/hosts is the one file outside the folder that a cluster needs. It may be a mount, so it is written
# in place; each cluster's lines end in its name, and go with it.
hosts_mark="# torc's test cluster $cluster"
hosts_of_others() { grep -vF -- "$hosts_mark" /etc/hosts || true; }
# shellcheck disable=SC2120
write_hosts() { # LINE...
    local text
    exec 8</etc/hosts
    flock -w 60 8 || fail "another script has been changing /etc/hosts for a minute"
    text=$(hosts_of_others && printf '%s\n' "$@")
    [ "$text" = "$(</etc/hosts)" ] || printf '%s\n' "$text" >/etc/hosts
    exec 8<&-
}
