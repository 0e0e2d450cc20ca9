# The configuration of the cluster: each function prints one file of it. Sourced by `up` after lib.bash.
# shellcheck shell=bash source-path=SCRIPTDIR source=lib.bash

slots_of() { case " ${wide_nodes[*]} " in *" $1 "*) echo 16 ;; *) echo 8 ;; esac } # NODE

# Classic spooling: every object is a text file, which can be read when something is amiss.
bootstrap() {
    cat <<END_OF_FILE
admin_user        none
default_domain    none
ignore_fqdn       false
spooling_method   classic
spooling_lib      libspoolc
spooling_params   $common;$master_spool
binary_path       $cluster/bin
qmaster_spool_dir $master_spool
security_mode     none
listener_threads  2
worker_threads    2
scheduler_threads 1
END_OF_FILE
}

# All names of this machine are one host. Without, whoever connects from 127.0.0.1 is "localhost", says
# that it is something else, and is refused.
host_aliases() {
    {
        echo localhost
        hostname
        getent hosts 127.0.0.1 "$(hostname)" | tr -s ' ' '\n' | grep -v '^[0-9.:]*$'
    } | awk '!seen[$1]++' | paste -sd ' '
}

# Debian's own, changed: root may submit jobs, nobody gets mail, and news comes at once.
configuration() {
    sed -e "s|^execd_spool_dir .*|execd_spool_dir $node_spool|" \
        -e 's|^mailer .*|mailer /bin/true|' \
        -e 's|^min_uid .*|min_uid 0|' \
        -e 's|^min_gid .*|min_gid 0|' \
        -e 's|^shell_start_mode .*|shell_start_mode unix_behavior|' \
        -e 's|^load_report_time .*|load_report_time 00:00:05|' \
        -e 's|^max_unheard .*|max_unheard 00:00:30|' \
        -e 's|^reporting_params .*|& accounting_flush_time=0|' \
        /usr/share/gridengine/default-configuration
}

# What differs from node to node.
node_configuration() { echo "gid_range $(first_group "$1")-$(last_group "$1")"; } # INDEX

# What waits starts within about two seconds, on the first nodes that are free, by their numbers.
scheduler() {
    cat <<'END_OF_FILE'
algorithm                       default
schedule_interval               0:0:2
maxujobs                        0
queue_sort_method               seqno
job_load_adjustments            NONE
load_adjustment_decay_time      0:7:30
load_formula                    np_load_avg
schedd_job_info                 true
flush_submit_sec                1
flush_finish_sec                1
params                          none
reprioritize_interval           0:0:0
halftime                        168
usage_weight_list               cpu=1.000000,mem=0.000000,io=0.000000
compensation_factor             5.000000
weight_user                     0.250000
weight_project                  0.250000
weight_department               0.250000
weight_job                      0.250000
weight_tickets_functional       0
weight_tickets_share            0
share_override_tickets          TRUE
share_functional_shares         TRUE
max_functional_jobs_to_schedule 200
report_pjob_tickets             TRUE
max_pending_tasks_per_job       50
halflife_decay_list             none
policy_hierarchy                OFS
weight_ticket                   0.500000
weight_waiting_time             0.278000
weight_deadline                 3600000.000000
weight_urgency                  0.500000
weight_priority                 0.000000
max_reservation                 10
default_duration                24:00:00
END_OF_FILE
}

# A job that asks for it shares its hosts with nobody.
exclusive() {
    cat <<'END_OF_FILE'
name        exclusive
shortcut    excl
type        BOOL
relop       EXCL
requestable YES
consumable  YES
default     0
urgency     1000
END_OF_FILE
}

# A node may claim more processors than the machine has, but not more memory.
exec_host() { # NODE
    local slots
    slots=$(slots_of "$1")
    cat <<END_OF_FILE
hostname       $1
load_scaling   NONE
complex_values slots=$slots,num_proc=$slots,mem_total=4G,exclusive=true
user_lists     NONE
xuser_lists    NONE
projects       NONE
xprojects      NONE
usage_scaling  NONE
report_variables NONE
END_OF_FILE
}

parallel_environment() { # NAME ALLOCATION_RULE
    cat <<END_OF_FILE
pe_name            $1
slots              9999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $2
control_slaves     TRUE
job_is_first_task  FALSE
urgency_slots      min
accounting_summary TRUE
qsort_args         NONE
END_OF_FILE
}

# Each node needs a folder for temporary files of its own: Grid Engine names a job's by its number, makes it
# when the job's first process starts on a node, and removes it when the last has ended there, whoever else
# is in it.
queue() { # NAME SLOTS PARALLEL_ENVIRONMENTS LONGEST NODE...
    local folders='' order='' node
    for node in "${@:5}"; do
        folders+=,[$node=$cluster/tmp/$node]
        order+=,[$node=${node#ge}]
    done
    cat <<END_OF_FILE
qname              $1
hostlist           ${*:5}
seq_no             0$order
load_thresholds    NONE
suspend_thresholds NONE
nsuspend           1
suspend_interval   00:05:00
priority           0
min_cpu_interval   00:05:00
processors         UNDEFINED
qtype              BATCH INTERACTIVE
ckpt_list          NONE
pe_list            $3
rerun              FALSE
slots              $2
tmpdir             $cluster/tmp$folders
shell              /bin/sh
prolog             NONE
epilog             NONE
shell_start_mode   unix_behavior
starter_method     $cluster/starter
suspend_method     NONE
resume_method      NONE
terminate_method   NONE
notify             00:00:03
owner_list         NONE
user_lists         NONE
xuser_lists        NONE
subordinate_list   NONE
complex_values     NONE
projects           NONE
xprojects          NONE
calendar           NONE
initial_state      default
END_OF_FILE
    printf '%s INFINITY\n' s_rt s_cpu h_cpu s_fsize h_fsize s_data h_data s_stack h_stack s_core h_core \
        s_rss h_rss s_vmem h_vmem
    echo "h_rt $4"
}

# What scripts and qrsh's commands are started by. Grid Engine takes LD_PRELOAD from a script's environment;
# here it comes back, so that the script is on its node too. Of a command it has made one text, for a shell.
starter() {
    cat <<END_OF_FILE
#!/bin/sh
LD_PRELOAD=$cluster/node.so
export LD_PRELOAD
[ "\$JOB_SCRIPT" != QRSH ] || exec "\${SHELL:-/bin/sh}" -c "\$*"
exec "\$@"
END_OF_FILE
}
