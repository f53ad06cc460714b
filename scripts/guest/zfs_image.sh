#!/bin/sh
# Puts ZFS into a copy of a guest's root file system: zfs_image.sh BASE SCRATCH, by zfs_image.py, in a mount namespace
# of its own, so that nothing stays mounted however this ends.
#
# BASE has root.img and the kernel's version. SCRATCH gets a root.img of its own. The compiler and the kernel's headers
# are in a layer above it that is thrown away: of it only the modules are kept.
set -eu
base=$1 scratch=$2
version=$(cat "$base/version")
cd "$scratch"

# layer NAME LOWER: a file system NAME above LOWER, in which Debian's programs run.
layer() {
    mkdir "$1" "$1.upper" "$1.work"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$1.upper,workdir=$1.work" "$1"
    mount -t proc proc "$1/proc"
    mount --bind /dev "$1/dev"
}

# unlayer NAME: it can be read, or be below another one.
unlayer() {
    umount "$1/dev" "$1/proc" "$1"
}

# get NAME PACKAGE...: installs in a layer what is needed and no more.
get() {
    layer_name=$1
    shift
    chroot "$layer_name" apt-get -q -y install --no-install-recommends "$@"
}

mkdir lower
mount -o loop,ro "$base/root.img" lower
layer root lower
cp /etc/resolv.conf root/etc/resolv.conf
sed 's/ main$/ main contrib/' lower/etc/apt/sources.list >root/etc/apt/sources.list
# No service is started in here.
printf '#!/bin/sh\nexit 101\n' >root/usr/sbin/policy-rc.d
chmod 755 root/usr/sbin/policy-rc.d
chroot root apt-get -q update
get root zfsutils-linux
unlayer root

layer kit root.upper:lower
if ! chroot kit apt-cache show "linux-headers-$version" >/dev/null 2>&1; then
    echo "Debian has no headers for kernel $version any more: remove $base, which is then built with a newer one." >&2
    exit 1
fi
get kit "linux-headers-$version"
# Its script builds the modules for the kernel whose headers are there; what it leaves out, dkms says.
get kit dkms zfs-dkms
module=$(chroot kit dkms status | sed -n 's|^\(zfs/[^,:]*\).*|\1|p' | head -n 1)
chroot kit dkms install "$module" -k "$version" || {
    cat "kit/var/lib/dkms/$module/build/make.log" >&2
    exit 1
}
mkdir modules
find "kit/usr/lib/modules/$version/updates" -name '*.ko*' -exec cp {} modules/ \;
unlayer kit

mount -t overlay overlay -o "lowerdir=lower,upperdir=root.upper,workdir=root.work" root
mkdir -p "root/usr/lib/modules/$version/updates"
cp modules/* "root/usr/lib/modules/$version/updates/"
chroot root depmod "$version"
rm root/usr/sbin/policy-rc.d
chroot root sh -c 'apt-get clean; rm -rf /var/lib/apt/lists/*'
truncate -s "$(stat -c %s "$base/root.img")" root.img
mke2fs -q -t ext4 -d root root.img
