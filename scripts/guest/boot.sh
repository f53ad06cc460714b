#!/bin/sh
# Second process of a guest: what the agent needs. Alone as process 1, or as a unit below systemd.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
name=$(cat /host/.lab/name)
number=$(cat /host/.lab/number)

if [ $$ = 1 ]; then
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /tmp
    mkdir -p /dev/pts /dev/shm /run/lock /run/udev
    mount -t devpts devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t configfs none /sys/kernel/config
    mount -t debugfs none /sys/kernel/debug
    /lib/systemd/systemd-udevd --daemon
    udevadm trigger
fi

if [ $$ = 1 ]; then
    hostname "$name"
    ip link set lo up
    ip addr add "10.77.0.$number/24" dev eth0
    ip link set eth0 up
fi
# The shell stays: process 1 must take in the processes whose parents have ended.
python3 /host/.lab/agent.py &
wait
