"""The image of guests that have ZFS: an ordinary one with zfsutils-linux, and the modules built by zfs-dkms.

    python3 scripts/guest/zfs_image.py         builds unless it is there already, and prints the directory

The kernel is Debian 13's own, not the newest of its backports: that one is often newer than the newest that the
packaged ZFS can be built for. Building takes minutes (zfs_image.sh), so that only tests that say LAB = {'zfs': True}
do it. Where the image lies, and when it goes, build.py tells.
"""
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

import build

KERNEL_SUITE = 'trixie'
RECIPE = ('zfs_image.py', 'zfs_image.sh')


def image():
    """The directory of the image; builds it if needed (root)."""
    base = ordinary_image()
    digest = hashlib.sha256()
    for name in RECIPE:
        with open(os.path.join(build.HERE, name), 'rb') as file:
            digest.update(file.read() + b'\0')
    wanted = f'{base}-zfs-{digest.hexdigest()[:12]}'
    with open(os.path.join(build.directory(), 'lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(wanted):
            make(base, wanted)
    os.utime(wanted)
    return wanted


def ordinary_image():
    """The image with Debian 13's own kernel. Which one it is, is read from the environment once: hence the process."""
    return subprocess.run([sys.executable, os.path.join(build.HERE, 'build.py')], check=True, text=True,
                          stdout=subprocess.PIPE,
                          env=dict(os.environ, RBLK_GUEST_KERNEL=KERNEL_SUITE)).stdout.split()[-1]


def make(base, wanted):
    """Builds in a scratch directory: an image is whole or not there."""
    scratch = os.path.join(build.directory(), 'building-zfs')
    shutil.rmtree(scratch, ignore_errors=True)
    work, result = os.path.join(scratch, 'work'), os.path.join(scratch, 'result')
    os.makedirs(work)
    os.makedirs(result)
    # Nobody waits for it but its test: others that use the machine come first.
    build.run('nice', '-n', '10', 'unshare', '--mount', '--propagation', 'private', 'sh',
              os.path.join(build.HERE, 'zfs_image.sh'), base, work)
    os.rename(os.path.join(work, 'root.img'), os.path.join(result, 'root.img'))
    for name in ('vmlinuz', 'initramfs.gz', 'version'):
        os.link(os.path.join(base, name), os.path.join(result, name))
    os.rename(result, wanted)
    shutil.rmtree(scratch)


if __name__ == '__main__':
    print(image())
