# What the scripts of this folder share: where the cluster lies, which nodes it has, which processes are
# its own, and waiting for a state. To be sourced; it starts and ends nothing by itself.
#
# The rule that keeps other Slurms and databases of the machine safe: a process belongs to this cluster
# only if its environment names this cluster's slurm.conf, if it is a slurmstepd that writes to this
# cluster's log, or if it descends from or shares a control group with one. Nothing else is ever
# signalled. A pid file alone proves nothing.

cluster=${TORC_TEST_SLURM:-/tmp/torc-slurm-$(id -u)}
conf=$cluster/etc/slurm.conf
run=$cluster/run
log=$cluster/log
control_groups=/sys/fs/cgroup

main_nodes=(node1 node2 node3 node4)
thread_nodes=(thread1 thread2)
nodes=("${main_nodes[@]}" "${thread_nodes[@]}")

PATH=$PATH:/usr/sbin:/sbin
# The caller may itself be a job; what Slurm told it must not steer what is asked here.
unset "${!SLURM_@}" "${!SLURMD_@}" "${!SBATCH_@}" "${!SALLOC_@}"

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "only root can start Slurm's daemons and end all jobs; run this as root"; }

# need_node NODE: it is one of this cluster's, and the cluster is up.
need_node() {
    case " ${nodes[*]} " in *" $1 "*) ;; *) fail "no node '$1'; there are ${nodes[*]}" ;; esac
    runs slurmctld slurmctld || fail "there is no cluster in $cluster; tests/slurm/up brings it up"
}

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
            printf '%s: waited in vain until %s; see %s\n' "${0##*/}" "$what" "$log" >&2
            return 1
        fi
        sleep 0.1
    done
}

# program PID: the name of what it runs. Fails for a zombie too: that has ended, whoever is to reap it.
# Debian's alternatives add "-wlm" to some of Slurm's.
program() {
    local file
    file=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    file=${file% (deleted)}
    file=${file##*/}
    echo "${file%-wlm}"
}

# runs NAME PROGRAM: the process that NAME.pid names is alive, is PROGRAM, and is this cluster's.
runs() {
    local pid
    { read -r pid <"$run/$1.pid"; } 2>/dev/null || return 1
    [ "$(program "$pid")" = "$2" ] && grep -qzxF "SLURM_CONF=$conf" "/proc/$pid/environ" 2>/dev/null
}
slurmd_runs() { runs "slurmd.$1" slurmd; }
is_gone() { ! runs "$1" "${1%%.*}"; } # NAME

# daemon COMMAND...: starts it with nothing of the caller's, neither descriptors nor the environment (a
# job's variables, a virtual environment), which the cluster's jobs could inherit.
daemon() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SLURM_CONF="$conf" \
        setsid "$@" </dev/null >>"$log/start.log" 2>&1 9>&- && return
    printf '%s: this failed: %s; see %s\n' "${0##*/}" "$*" "$log" >&2
    return 1
}
start_slurmd() { slurmd_runs "$1" || daemon slurmd -N "$1" -f "$conf"; }

# ready NODE...: the controller can start jobs on all of these nodes, or has already.
ready() {
    local IFS=, state states
    states=$(SLURM_CONF=$conf sinfo --noheader --Node --nodes="$*" --format=%T 2>/dev/null) || return 1
    [ -n "$states" ] || return 1
    while read -r state; do
        case ${state%-} in idle | mixed | allocated | completing | planned | reserved) ;; *) return 1 ;; esac
    done <<<"$states"
}

# processes_with VARIABLE=VALUE...: the processes that were started with all of these in their environment.
processes_with() {
    local files=(/proc/[0-9]*/environ) variable
    for variable in "$@"; do
        # Processes end meanwhile, and then grep fails.
        mapfile -t files < <(grep -lzxF -e "$variable" "${files[@]}" 2>/dev/null || true)
        [ ${#files[@]} -gt 0 ] || return 0
    done
    printf '%s\n' "${files[@]}" | cut -d/ -f3
}

# daemons_of_cluster: a line "PID PROGRAM" for each, also if it has no pid file, or not yet.
daemons_of_cluster() {
    local pid program
    for pid in $(processes_with "SLURM_CONF=$conf"); do
        program=$(program "$pid") || continue
        case $program in munged | mariadbd | slurmdbd | slurmctld | slurmd) echo "$pid $program" ;; esac
    done
}

# slurmstepds_of NODE: they overwrite their environment, but each holds its node's log open.
slurmstepds_of() {
    local pid
    find /proc/[0-9]*/fd -lname "$log/slurmd.$1.log" 2>/dev/null | cut -d/ -f3 | while read -r pid; do
        [ "$(program "$pid")" != slurmstepd ] || echo "$pid"
    done
}

# descendants PID...: these processes and all that they started, as long as nobody between has ended.
descendants() {
    ps -e -o pid=,ppid= | awk -v roots="$*" '
        { parent[$1] = $2 }
        END {
            count = split(roots, list, " ")
            for (i = 1; i <= count; i++) wanted[list[i]] = 1
            for (pid in parent)
                for (up = pid; up in parent; up = parent[up])
                    if (up in wanted) { print pid; break }
        }'
}

# control_groups_of NODE: the folders that its slurmd made, deepest first; none without control groups.
control_groups_of() {
    local top
    case $(cat "$cluster/etc/cgroups" 2>/dev/null) in
    v1) top=$(echo $control_groups/*/"slurm_$1") ;;
    v2) top=$(echo $control_groups/system.slice/"$1"_slurmstepd.scope) ;;
    *) return 0 ;;
    esac
    # shellcheck disable=SC2086
    find $top -depth -type d 2>/dev/null || true
}

# steps_of NODE: all processes of all job steps there: slurmstepds, tasks, and what hides from one of
# the ways to find it: by leaving its parent, by clearing its environment.
steps_of() {
    local group pid stepds
    mapfile -t stepds < <(slurmstepds_of "$1")
    {
        [ ${#stepds[@]} = 0 ] || descendants "${stepds[@]}"
        processes_with "SLURM_CONF=$conf" "SLURMD_NODENAME=$1"
        for group in $(control_groups_of "$1"); do cat "$group/cgroup.procs" 2>/dev/null || true; done
    } | sort -un | while read -r pid; do
        ! program "$pid" >/dev/null || echo "$pid"
    done
}

# kill_steps NODE...: until there are none, since a process may start others while it is looked for.
kill_steps() { wait_until 20 "the processes of the jobs on $* have ended" kill_steps_once "$@"; }
kill_steps_once() {
    local node pids=()
    for node in "$@"; do mapfile -t -O ${#pids[@]} pids < <(steps_of "$node"); done
    [ ${#pids[@]} -gt 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    return 1
}
