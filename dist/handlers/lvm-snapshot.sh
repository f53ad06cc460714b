#!/bin/sh
# Keeps a snapshot of this node's data while a resync overwrites it: one script for both events.
#
#   [handlers]
#   before-resync-target = "/usr/local/lib/rblk/lvm-snapshot.sh"
#   after-resync-target = "/usr/local/lib/rblk/lvm-snapshot.sh"
#
# The disk of the resource must be a logical volume, and its volume group must have room: a snapshot of 20 % of the
# volume's size (or `SNAPSHOT_PERCENT=50 /usr/...` in the configuration) holds that much of changes; one that is full
# is lost, and the resync goes on. A thin volume needs no size.
#
# Before: without a snapshot there is no resync (the script fails, which forbids it). A snapshot that is there already
# is kept: it is older, and of data that was consistent. After: the snapshot is removed. Until then the data as it was
# can be read: `mount -o ro /dev/VG/NAME-before-resync /mnt`.
set -eu

disk=$DRBD_BACKING_DEV
percent=${SNAPSHOT_PERCENT:-20}

fields=vg_name,lv_name,lv_size,segtype
if ! volume=$(lvs --noheadings --options "$fields" --units b --nosuffix --separator ' ' "$disk"); then
    echo "$disk is not a logical volume: there can be no snapshot of it" >&2
    exit 1
fi
# shellcheck disable=SC2086 # four words
set -- $volume
group=$1 name=$2 size=$3 type=$4
snapshot="$name-before-resync"

exists() {
    lvs "$group/$snapshot" >/dev/null 2>&1
}

case $RBLK_EVENT in
    before-resync-target)
        if exists; then
            echo "$group/$snapshot is there already: it is kept"
        elif [ "$type" = thin ]; then
            lvcreate --snapshot --setactivationskip n --name "$snapshot" "$group/$name"
        else
            lvcreate --snapshot --size "$((size * percent / 100))b" --name "$snapshot" "$group/$name"
        fi
        ;;
    after-resync-target)
        if exists; then
            lvremove --yes "$group/$snapshot"
        fi
        ;;
    *)
        echo "for before-resync-target and after-resync-target, not for $RBLK_EVENT" >&2
        exit 1
        ;;
esac
