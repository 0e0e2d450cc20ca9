# What the scripts of this folder share: where the cluster lies, which nodes it has, whether a process is
# one of its own, and waiting for a state. It is sourced, and starts and ends nothing by itself.
#
# The rule that keeps other Slurms and databases of the machine safe: a process belongs to this cluster
# only if its environment says so (SLURM_CONF is this cluster's slurm.conf), or it sits in the control
# group of one of this cluster's nodes. Nothing else is ever signalled. A pid file alone proves nothing.

cluster=${TORC_TEST_SLURM:-/tmp/torc-slurm-$(id -u)}
conf=$cluster/etc/slurm.conf
run=$cluster/run
log=$cluster/log

main_nodes=(node1 node2 node3 node4)
thread_nodes=(thread1 thread2)
nodes=("${main_nodes[@]}" "${thread_nodes[@]}")

PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "slurmctld and slurmd must be started by root here; run this as root"; }

# One script at a time changes a cluster. Every daemon is started with descriptor 9 closed: one that
# inherited it would hold the lock for good.
lock() {
    exec 9>"$cluster.lock"
    flock -w 300 9 || fail "another script has been changing $cluster for 5 minutes"
}

# wait_until SECONDS WHAT COMMAND...: asks COMMAND again and again until it succeeds.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            printf '%s: waited in vain: %s\n' "${0##*/}" "$what" >&2
            return 1
        fi
        sleep 0.1
    done
}

# is_ours PID: this cluster's, by the environment that the process was started with.
is_ours() { grep -qzxF "SLURM_CONF=$conf" "/proc/$1/environ" 2>/dev/null; }

# runs NAME PROGRAM: the daemon whose pid file is NAME.pid is alive, is PROGRAM, and is ours.
runs() {
    local pid
    read -r pid 2>/dev/null <"$run/$1.pid" || return 1
    [ "$(readlink "/proc/$pid/exe" 2>/dev/null | sed 's/-wlm$//;s|.*/||')" = "$2" ] && is_ours "$pid"
}

# daemon COMMAND...: starts it with an environment of its own, so that nothing of the caller's (a job's
# variables, a virtual environment) reaches the jobs of the cluster, and with nothing open of the caller's.
daemon() {
    env -i PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG=C.UTF-8 SLURM_CONF="$conf" \
        setsid "$@" </dev/null >>"$log/start.log" 2>&1 9>&-
}

slurmd_runs() { runs "slurmd.$1" slurmd; }
start_slurmd() { slurmd_runs "$1" || daemon slurmd -N "$1" -f "$conf"; }

# ready NODE...: the controller can start jobs on all of these nodes, or already does.
ready() {
    local IFS=, state states
    states=$(SLURM_CONF=$conf sinfo --noheader --Node --nodes="$*" --format=%T 2>/dev/null) && [ -n "$states" ] || return 1
    while read -r state; do
        case $state in idle | mixed | allocated | completing) ;; *) return 1 ;; esac
    done <<<"$states"
}

# The step daemons of a node: each has its node's log open.
step_daemons() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] || continue
        if ls -l "$process/fd" 2>/dev/null | grep -qF "$log/slurmd.$1.log"; then echo "${process#/proc/}"; fi
    done
}

# kill_tree PID: it and all below it, none of which can start another meanwhile.
kill_tree() {
    local child
    kill -STOP "$1" 2>/dev/null || return 0
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do kill_tree "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}

# kill_node NODE: its slurmd, and all that its step daemons hold.
kill_node() {
    local pid
    if slurmd_runs "$1"; then kill -KILL "$(cat "$run/slurmd.$1.pid")"; fi
    for pid in $(step_daemons "$1"); do kill_tree "$pid"; done
}

# stop NAME PROGRAM: ends a daemon of this cluster, gently at first.
stop() {
    local pid
    runs "$1" "$2" || return 0
    read -r pid <"$run/$1.pid"
    kill -TERM "$pid" 2>/dev/null || return 0
    wait_until 20 "$2 ends" is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
}

is_gone() { ! is_ours "$1"; }

check_node() {
    local node
    for node in "${nodes[@]}"; do [ "$node" != "${1:-}" ] || return 0; done
    fail "which node? one of ${nodes[*]}"
}
