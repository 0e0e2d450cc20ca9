# The configuration of the cluster: each function prints one file of it. Sourced by `up` after lib.bash;
# needs $port, the first of a block of free ports, and $cgroups: v1, v2 or none.

ports_needed=$((2 + ${#nodes[@]}))

# Ports: slurmctld, slurmdbd, then each node's slurmd.
slurm_conf() {
    local host n=0 node
    host=$(hostname -s)
    cat <<END
ClusterName=torc
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$run/munge.socket
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.%n.pid
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd.%n.log
MailProg=/bin/true
SlurmctldDebug=info
SlurmdDebug=info

# Nodes may claim more than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
$(confinement)

# What waits starts within about a second.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
PrologSlurmctld=$cluster/etc/prolog
CompleteWait=0
KillWait=3
# Far fewer than usual, so that a test can come to it.
MaxStepCount=400
# The QOS urgent ends jobs of the QOS normal that are in its way.
PreemptType=preempt/qos
PreemptMode=CANCEL
# Jobs that have ended stay known for a while, as on a real cluster, then only sacct knows them.
MinJobAge=120
# After twice this many seconds a dead node is noticed. With less, nodes of a busy machine look dead.
SlurmdTimeout=15
SlurmctldTimeout=30
MessageTimeout=20
InactiveLimit=0
ReturnToService=2

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 1))
AccountingStoragePass=$run/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu

END
    for node in "${main_nodes[@]}"; do
        echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2 + n++))" \
            "CPUs=8 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=32768 Gres=gpu:2"
    done
    for node in "${thread_nodes[@]}"; do
        echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2 + n++))" \
            "CPUs=16 Sockets=1 CoresPerSocket=8 ThreadsPerCore=2 RealMemory=32768"
    done
    local IFS=,
    echo "PartitionName=main Nodes=${main_nodes[*]} Default=YES MaxTime=1-00:00:00 DefaultTime=00:30:00 State=UP"
    echo "PartitionName=threads Nodes=${thread_nodes[*]} MaxTime=12:00:00 DefaultTime=00:30:00 State=UP"
}

# Where the machine's control groups allow it, the kernel ends what exceeds its memory, and nothing gets
# away from its step. Otherwise memory is sampled, and what leaves its parents stays behind.
confinement() {
    case $cgroups in
    none) printf '%s\n' ProctrackType=proctrack/linuxproc TaskPlugin=task/none JobAcctGatherParams=OverMemoryKill ;;
    *) printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup ;;
    esac
}

# A job whose comment says so is being made ready for some seconds, as where nodes have to boot.
prolog() {
    cat <<'END'
#!/bin/sh
case $SLURM_JOB_COMMENT in *slow_prolog*) sleep 4 ;; esac
END
}

cgroup_conf() {
    case $cgroups in
    v1) echo CgroupPlugin=cgroup/v1 ;;
    v2) printf '%s\n' CgroupPlugin=cgroup/v2 IgnoreSystemd=yes ;;
    # The plugin of version 1 does nothing unless asked; without one named, slurmd looks for groups and may fail.
    none) printf '%s\n' CgroupPlugin=cgroup/v1 ConstrainRAMSpace=no && return ;;
    esac
    echo ConstrainRAMSpace=yes
    # A step over its memory must not go on in swap. Some kernels do not count swap for v1.
    if [ "$cgroups" = v2 ] || [ -e $control_groups/memory/memory.memsw.limit_in_bytes ]; then
        printf '%s\n' ConstrainSwapSpace=yes AllowedSwapSpace=0
    fi
}

# Links to /dev/null stand for the GPUs' devices: Slurm wants device files, and opening these does no harm.
gres_conf() {
    local IFS=,
    echo "NodeName=${main_nodes[*]} Name=gpu File=$cluster/dev/gpu[0-1]"
}

# The database has no port: its socket in our folder lets root in, and nobody else.
slurmdbd_conf() {
    cat <<END
AuthType=auth/munge
AuthInfo=socket=$run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 1))
SlurmUser=root
PidFile=$run/slurmdbd.pid
LogFile=$log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
END
}
