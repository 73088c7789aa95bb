#!/bin/bash
# PID 1 of the cluster's namespaces: lays out mounts and network, starts the programs,
# and restarts none, so that a test that kills one sees it gone.
set -eu
state=$1
cd /
trap 'exit 0' TERM

# Mounts. The state is at a fixed place in here, however long or odd its name outside
# (a Unix socket's path may have 107 bytes), which the files in config/ rely on.
mount --make-rshared /
if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi # runtimes take a mixture of v1 and v2 for v2
mount -t tmpfs tmpfs /run
mkdir /run/cluster
mount --bind "$state" /run/cluster
for folder in /var/lib/cni /var/lib/kubelet /var/log/containers; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /run/cluster/volumes

# Network. The node's own address is on a pair of interfaces that exists only in here.
hostname node-1
ip link set lo up
ip link add node0 type veth peer name node1
ip address add 10.88.0.1/24 dev node0
ip link set node0 up
ip link set node1 up
ip route add default dev node0 # addresses of Services need some route before they are rewritten
echo 1 >/proc/sys/net/ipv4/ip_forward
# No way in and two ways out, before the uplink comes up.
nft -f /run/cluster/config/uplink.nft
until [ -d /sys/class/net/uplink ] || ip link show uplink >/dev/null 2>&1; do sleep 0.02; done
echo 1 >/proc/sys/net/ipv6/conf/uplink/disable_ipv6 2>/dev/null || true
ip address add 10.89.0.2/30 dev uplink
ip link set uplink up

# Programs.
. /run/cluster/environment
start() { bash /run/cluster/start.sh "$1"; }
"$TOOLBOX" pki /run/cluster/pki
start etcd
start kube-apiserver
start containerd
start registry
pki=/run/cluster/pki
# Before this the default roles are not there, and the others would give up.
until curl --silent --fail --max-time 5 --output /dev/null --cacert "$pki/ca.crt" \
	--cert "$pki/admin.crt" --key "$pki/admin.key" https://127.0.0.1:6443/readyz; do sleep 0.1; done
start kube-controller-manager
start kube-scheduler
until [ -S /run/cluster/containerd.sock ]; do sleep 0.1; done
start kubelet
start kube-proxy
start kube-router

sleep infinity &
wait
