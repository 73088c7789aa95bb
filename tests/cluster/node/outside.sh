#!/bin/bash
# Holds the cluster from outside: makes its namespaces and the uplink, and takes
# everything away when it ends, for whatever reason.
#
#   outside.sh STATE        starts; ends the cluster again if stdin closes before a line
#                           "keep" came (so it does not outlive a starter that is interrupted)
#   outside.sh STATE clean  only takes away what a killed predecessor left
#
# Ask it to end with SIGTERM. Its environment: TESTCLUSTER, TOOLBOX, KUBE_ROUTER, IMAGES_BASE,
# IMAGES_PACKED, IMAGES_ON_DEMAND.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$1
uplink=rda-uplink # the host's end; Pods know it as 10.89.0.1

# Ends every process in the cluster's network namespace: those that were entered
# into it from outside hold it open beyond the death of its first process.
kill_all() {
	local netns process
	netns=$(cat "$state/netns" 2>/dev/null) || return 0
	for _ in $(seq 50); do
		local left=
		for process in /proc/[0-9]*; do
			if [ "$(readlink "$process/ns/net" 2>/dev/null)" = "$netns" ]; then
				kill -KILL "${process#/proc/}" 2>/dev/null && left=1
			fi
		done
		[ -n "$left" ] || return 0
		sleep 0.1
	done
}

clean() {
	local code=$?
	trap '' TERM INT HUP
	trap - EXIT
	set +e
	kill_all
	ip link delete "$uplink" 2>/dev/null
	# Folders of control groups stay behind when their processes are gone.
	local root group
	for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
		for group in "$root/kubepods" "$root/k8s.io"; do
			[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
		done
	done
	rmdir /var/lib/cni /var/lib/kubelet /var/log/containers 2>/dev/null # only mount points for inside.sh
	rm -f "$state/cluster.pid" "$state/netns"
	# An interrupted start leaves nothing but its logs.
	[ -n "${kept:-}" ] || find "$state" -mindepth 1 -maxdepth 1 ! -name logs -exec rm -rf {} +
	exit "$code"
}

if [ "${2:-}" = clean ]; then
	kept=1
	clean
fi

trap clean EXIT
trap 'exit 0' TERM INT HUP
mkdir -p "$state/logs" /var/lib/cni /var/lib/kubelet /var/log/containers
for name in TESTCLUSTER TOOLBOX KUBE_ROUTER IMAGES_BASE IMAGES_PACKED IMAGES_ON_DEMAND; do
	printf '%s=%q\n' "$name" "${!name}"
done >"$state/environment"

unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc --propagation private \
	bash "$here/inside.sh" "$state" >>"$state/logs/inside.log" 2>&1 </dev/null &
unshare=$!
init=
until [ -n "$init" ]; do
	kill -0 "$unshare"
	read -r init _ <"/proc/$unshare/task/$unshare/children" || true
	sleep 0.02
done
until [ "$(readlink "/proc/$init/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
readlink "/proc/$init/ns/net" >"$state/netns"

ip link add "$uplink" type veth peer name uplink netns "$init"
ip link set dev "$uplink" alias "$state" # whose it is, for a second cluster that finds it
ip address add 10.89.0.1/30 dev "$uplink"
ip link set "$uplink" up

# Process ids with the time each began, as those may be given out again.
began() { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; }
echo "$init $(began "$init") $$ $(began $$)" >"$state/cluster.pid.part"
mv "$state/cluster.pid.part" "$state/cluster.pid"

read -r word || true
[ "${word:-}" = keep ] || exit 1
kept=1
exec 0</dev/null
wait "$unshare" || true
