#!/bin/sh
# Starts a command once for each line of a hostfile, on that node, as `julia --machine-file` does by ssh: here by
# the job's own srun, which needs no password. Ends with the first failure.
hostfile=$1
shift
while read -r node; do
    srun --nodes=1 --ntasks=1 --nodelist="$node" "$@" </dev/null &
    started="$started $!"
done <"$hostfile"
for process in $started; do
    wait "$process" || exit
done
