"""Builds what the guests boot: a Debian 13 root file system, the newest backports kernel, an
initramfs.

    python3 scripts/guest/build.py       builds unless it is there already, and prints the directory

The result lies in ${RBLK_GUEST_DIR:-${XDG_CACHE_HOME:-~/.cache}/rblk-guest}/image-HASH, where HASH
covers the recipe (this file, packages.txt, initramfs.sh): a changed recipe is a new image. Images
that nobody has used for two weeks are removed then. Packages come through apt, signatures checked,
from the mirror that this machine itself uses. RBLK_GUEST_KERNEL=trixie takes Debian 13's own kernel
instead of the one in its backports.

    vmlinuz   root.img (ext4, read-only in use)   initramfs.gz   version (of the kernel)
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RECIPE = ('build.py', 'packages.txt', 'initramfs.sh')
SUITE = 'trixie'
KERNEL_SUITE = os.environ.get('RBLK_GUEST_KERNEL') or 'trixie-backports'
UNUSED_SECONDS = 14 * 24 * 3600
ROOT_IMAGE_MB = 1500

# program that is needed: the Debian package that has it
TOOLS = {
    'qemu-system-x86_64': 'qemu-system-x86',
    'mmdebstrap': 'mmdebstrap',
    'busybox': 'busybox-static',
    'cpio': 'cpio',
    'ip': 'iproute2',
    'mke2fs': 'e2fsprogs',
    'xz': 'xz-utils',
}
# What a guest boots from, as modules.
BOOT_MODULES = ('virtio_pci virtio_blk ext4 overlay 9p 9pnet_virtio virtio_net virtio_rng '
                'virtio_console').split()
# Most of a kernel's modules are drivers of devices that no guest here has.
UNUSED_MODULES = ('sound', *('drivers/' + name for name in (
    'gpu', 'hwmon', 'iio', 'input', 'media', 'net/ethernet', 'net/wireless', 'staging', 'usb')))

# With systemd as process 1 this unit starts the agent; without, the initramfs starts boot.sh itself.
AGENT_UNIT = '''[Unit]
Description=Command agent of the guest lab
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/bin/sh /host/.lab/boot.sh
[Install]
WantedBy=basic.target
'''


def image():
    """The directory of an image of the present recipe; builds it if needed (root)."""
    base = directory()
    wanted = os.path.join(base, f'image-{recipe_hash()}')
    if os.path.isdir(wanted):
        os.utime(wanted)
        return wanted
    if os.geteuid() != 0:
        raise SystemExit('Building the guest image needs root (it makes a root file system).')
    os.makedirs(base, exist_ok=True)
    with open(os.path.join(base, 'lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(wanted):
            build(base, wanted)
    return wanted


def directory():
    """Where images and runs are kept, outside the repository."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return os.environ.get('RBLK_GUEST_DIR') or os.path.join(cache, 'rblk-guest')


def recipe_hash():
    """Changes when anything changes that the image is made from."""
    digest = hashlib.sha256(KERNEL_SUITE.encode())
    for name in RECIPE:
        with open(os.path.join(HERE, name), 'rb') as file:
            digest.update(file.read() + b'\0')
    return digest.hexdigest()[:12]


def build(base, wanted):
    """Builds in a scratch directory that gets its name at the end: an image is whole or not there."""
    install_tools()
    scratch = os.path.join(base, 'building')
    shutil.rmtree(scratch, ignore_errors=True)
    root = os.path.join(scratch, 'root')
    os.makedirs(scratch)
    make_root(root)
    version = unpack_kernel(root, scratch)
    make_initramfs(root, version, scratch)
    with open(os.path.join(root, 'etc/systemd/system/lab-agent.service'), 'w') as file:
        file.write(AGENT_UNIT)
    run('chroot', root, 'systemctl', 'enable', 'lab-agent', 'systemd-networkd')
    run('truncate', '-s', f'{ROOT_IMAGE_MB}M', f'{scratch}/root.img')
    run('mke2fs', '-q', '-t', 'ext4', '-d', root, f'{scratch}/root.img')
    with open(os.path.join(scratch, 'version'), 'w') as file:
        file.write(version)
    shutil.rmtree(root)
    remove_unused(base)
    os.rename(scratch, wanted)


def remove_unused(base):
    """Removes images that were not used for long: other working copies have other recipes."""
    for image_directory in glob.glob(os.path.join(base, 'image-*')):
        if time.time() - os.stat(image_directory).st_mtime > UNUSED_SECONDS:
            shutil.rmtree(image_directory)


def install_tools():
    """Installs the programs that are missing here."""
    packages = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if packages:
        run('apt-get', 'update')
        run('apt-get', 'install', '-y', '--no-install-recommends', *packages)


def make_root(root):
    """A minimal Debian with the packages of packages.txt; its apt knows the kernel's suite as well."""
    mirror = find_mirror()
    packages = ','.join(read_packages())
    # The package lists stay for unpack_kernel, which removes them.
    sources = [f'deb {mirror} {suite} main' for suite in sorted({SUITE, KERNEL_SUITE})]
    run('mmdebstrap', '--variant=minbase', f'--include={packages}', '--skip=cleanup/apt', SUITE,
        root, *sources)


def find_mirror():
    """The Debian mirror of this machine's own apt: that of the release it runs."""
    with open('/etc/os-release') as file:
        codename = re.search(r'^VERSION_CODENAME=(\S+)', file.read(), re.M)
    if not codename:
        raise SystemExit('/etc/os-release names no VERSION_CODENAME: this is not a Debian release.')
    targets = output('apt-get', 'indextargets', '--format', '$(COMPONENT) $(RELEASE) $(REPO_URI)',
                     'Created-By: Packages')
    for line in targets.splitlines():
        component, release, uri = line.split(maxsplit=2)
        if component == 'main' and release == codename[1]:
            return uri.rstrip('/')
    raise SystemExit(f'The apt configuration here has no "main" of {codename[1]}: no mirror known.')


def read_packages():
    """The names in packages.txt."""
    with open(os.path.join(HERE, 'packages.txt')) as file:
        lines = [line.split('#')[0].strip() for line in file]
    return [line for line in lines if line]


def unpack_kernel(root, scratch):
    """Puts the kernel's modules into the root and vmlinuz beside it. Its packages are only unpacked:
    their scripts would build an initramfs and set up a boot loader. Returns the kernel's version."""
    newest = ('-o', f'APT::Default-Release={KERNEL_SUITE}')
    about = output('chroot', root, 'apt-cache', *newest, '--no-all-versions', 'show',
                   'linux-image-amd64')
    version = re.search(r'^Depends:.*?linux-image-(\S+)', about, re.M)[1]
    closure = output('chroot', root, 'apt-cache', *newest, 'depends', '--recurse', '-i',
                     f'linux-image-{version}')
    names = sorted(set(re.findall(rf'\blinux-[a-z]+-{re.escape(version)}(?=\s|$)', closure)))
    debs = os.path.join(root, 'tmp/kernel')
    os.makedirs(debs)
    shutil.copy('/etc/resolv.conf', os.path.join(root, 'etc/resolv.conf'))
    run('chroot', root, 'sh', '-c', 'cd /tmp/kernel && apt-get -q download ' + ' '.join(names))
    kernel = os.path.join(scratch, 'kernel')
    for deb in glob.glob(f'{debs}/*.deb'):
        run('dpkg-deb', '-x', deb, kernel)
    shutil.rmtree(debs)
    run('chroot', root, 'sh', '-c', 'apt-get clean; rm -rf /var/lib/apt/lists/*')

    modules = os.path.join(root, 'usr/lib/modules', version)
    (source,) = glob.glob(f'{kernel}/usr/lib/modules/*') or glob.glob(f'{kernel}/lib/modules/*')
    os.makedirs(os.path.dirname(modules), exist_ok=True)
    shutil.move(source, modules)
    (vmlinuz,) = glob.glob(f'{modules}/vmlinuz') or glob.glob(f'{kernel}/boot/vmlinuz-*')
    shutil.move(vmlinuz, os.path.join(scratch, 'vmlinuz'))
    for unused in UNUSED_MODULES:
        shutil.rmtree(os.path.join(modules, 'kernel', unused), ignore_errors=True)
    run('chroot', root, 'depmod', version)
    shutil.rmtree(kernel)
    return version


def make_initramfs(root, version, scratch):
    """Busybox, the modules that reach the root image, and initramfs.sh."""
    tree = os.path.join(scratch, 'initramfs')
    os.makedirs(f'{tree}/bin')
    os.makedirs(f'{tree}/modules')
    shutil.copy(shutil.which('busybox'), f'{tree}/bin/busybox')
    shutil.copy(os.path.join(HERE, 'initramfs.sh'), f'{tree}/init')
    os.chmod(f'{tree}/init', 0o755)
    order = []
    for module in BOOT_MODULES:
        needs = output('chroot', root, 'modprobe', '-S', version, '--show-depends', module)
        for path in re.findall(r'^insmod (\S+)', needs, re.M):
            name = os.path.basename(path).removesuffix('.xz')
            if name not in order:
                order.append(name)
                expand_module(root + path, f'{tree}/modules/{name}')
    with open(f'{tree}/modules/order', 'w') as file:
        file.write('\n'.join(order) + '\n')
    run('sh', '-c', f'cd {tree} && find . | cpio --quiet -o -H newc | gzip -1 > ../initramfs.gz')
    shutil.rmtree(tree)


def expand_module(source, target):
    """Copies a module, uncompressed: busybox inserts nothing else."""
    with open(target, 'wb') as file:
        subprocess.run(['xz', '-dc', source] if source.endswith('.xz') else ['cat', source],
                       stdout=file, check=True)


def run(*command):
    """Runs a command, its output on our stderr; fails loudly."""
    subprocess.run(command, check=True, stdout=sys.stderr, env=ENVIRONMENT)


def output(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE,
                          env=ENVIRONMENT).stdout


ENVIRONMENT = dict(os.environ, LC_ALL='C.UTF-8', DEBIAN_FRONTEND='noninteractive',
                   PATH='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')

if __name__ == '__main__':
    print(image())
