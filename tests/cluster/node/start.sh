#!/bin/bash
# Starts one of programs/ in the background, inside the cluster: at first by inside.sh,
# later by a test that killed it.
set -eu
name=$1
set -a
. /run/cluster/environment
set +a
setsid bash "/run/cluster/programs/$name" >>"/run/cluster/logs/$name.log" 2>&1 </dev/null &
echo $! >"/run/cluster/$name.pid" # as seen inside the PID namespace
