#!/bin/busybox sh
# First process of a guest: the image read-only below a RAM overlay, so that only the disks and
# /host outlive a boot.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /lower /rw /new
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules/order); do $B insmod "/modules/$module"; done
$B mount -t ext4 -o ro /dev/vda /lower || exec $B poweroff -f
$B mount -t tmpfs tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
$B mkdir -p /new/host
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /new/host
# What a test has installed is there again after each boot.
$B cp -af /new/host/.lab/root/. /new/
for dir in proc sys dev; do $B mount --move /$dir /new/$dir; done
exec $B switch_root /new $($B cat /new/host/.lab/init)
