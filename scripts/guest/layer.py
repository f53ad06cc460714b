"""Builds what a guest may have beyond its root file system: a second image that is laid over it.

    python3 scripts/guest/layer.py zfs      builds unless it is there already, and prints the image

ZFS is no part of Debian's kernel: its modules are compiled for the guest's, which takes minutes (6 on two cores).
That is why it is not in the root image: only the tests that say LAB = {'layer': 'zfs'} need it.
"""
import fcntl
import glob
import hashlib
import os
import shutil
import sys

import build
from build import run

ZFS_IMAGE_MB = 200


def layer(name):
    """The image of a layer for the present root image; builds it if needed (root)."""
    image = build.image()
    with open(__file__, 'rb') as file:
        wanted = os.path.join(image, f'{name}-{hashlib.sha256(file.read()).hexdigest()[:12]}.img')
    if not os.path.exists(wanted):
        with open(os.path.join(image, 'lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(wanted):
                scratch = os.path.join(image, f'building-{name}')
                shutil.rmtree(scratch, ignore_errors=True)
                os.makedirs(scratch)
                tree = {'zfs': zfs}[name](image, scratch)
                run('truncate', '-s', f'{ZFS_IMAGE_MB}M', f'{scratch}/layer.img')
                run('mke2fs', '-q', '-t', 'ext4', '-d', tree, f'{scratch}/layer.img')
                os.rename(f'{scratch}/layer.img', wanted)
                shutil.rmtree(scratch)
    return wanted


def zfs(image, scratch):
    """The modules and programs of ZFS, from the suite of the kernel."""
    with open(os.path.join(image, 'version')) as file:
        version = file.read()
    root, tree = os.path.join(scratch, 'root'), os.path.join(scratch, 'tree')
    mirror = build.find_mirror()
    sources = [f'deb {mirror} {suite} main contrib' for suite in sorted({build.SUITE, build.KERNEL_SUITE})]
    # The packages of the guest, so that apt knows what zfsutils-linux needs beyond them.
    status = os.path.join(scratch, 'status')
    run('debugfs', '-R', f'dump /var/lib/dpkg/status {status}', f'{image}/root.img')
    download = (f'chroot "$1" apt-get -y -o Dir::State::status=/tmp/status -o Dir::Cache::archives=/debs '
                '--no-install-recommends --download-only install zfsutils-linux')
    run('mmdebstrap', '--variant=minbase', f'--aptopt=APT::Default-Release "{build.KERNEL_SUITE}"',
        f'--include=dkms,linux-headers-{version},zfs-dkms', '--skip=cleanup/apt',
        f'--customize-hook=chroot "$1" dkms autoinstall -k {version}', '--customize-hook=mkdir -p "$1/debs/partial"',
        f'--customize-hook=upload {status} /tmp/status', f'--customize-hook={download}', build.SUITE, root, *sources)
    os.makedirs(tree)
    for deb in glob.glob(f'{root}/debs/*.deb'):
        run('dpkg-deb', '-x', deb, tree)
    # What is a link in the root must not be a directory above it.
    for name in ('bin', 'sbin', 'lib', 'lib64'):
        if os.path.isdir(f'{tree}/{name}'):
            run('sh', '-c', f'mkdir -p {tree}/usr/{name} && cp -a {tree}/{name}/. {tree}/usr/{name}/ && '
                            f'rm -r {tree}/{name}')
    modules = os.path.join('usr/lib/modules', version)
    os.makedirs(f'{scratch}/all/usr/lib/modules')
    run('debugfs', '-R', f'rdump /{modules} {scratch}/all/usr/lib/modules', f'{image}/root.img')
    os.symlink('usr/lib', f'{scratch}/all/lib')
    for directory in (f'{scratch}/all/{modules}/updates', f'{tree}/{modules}/updates'):
        shutil.copytree(f'{root}/{modules}/updates/dkms', directory)
    run('depmod', '-b', f'{scratch}/all', version)
    for index in glob.glob(f'{scratch}/all/{modules}/modules.*'):
        shutil.copy(index, f'{tree}/{modules}/')
    return tree


if __name__ == '__main__':
    print(layer(sys.argv[1]))
