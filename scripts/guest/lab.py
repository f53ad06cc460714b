"""Guests on a network of their own: real kernels to try rblk on.

    with Lab(guests=2) as lab:
        n1, n2 = lab.guests
        n1.sh('ping -c1 n2')

Guests are named n1, n2, ... with the addresses 10.77.0.1, 10.77.0.2, ...; guest.py says what they
can do. Each run has its own network namespace with a bridge, named after the process, so that runs
do not meet; namespace, machines and disks are gone at the end, however it ends: what a killed run
leaves, the next one removes. RBLK_GUEST_KEEP=1 keeps the run's directory (disks, consoles). Needs
root.
"""
import collections
import concurrent.futures
import ctypes
import os
import re
import shutil
import signal
import subprocess

import build
import zfs_image
from guest import Guest

# disks_mb: one disk each. cpus, memory_mb: of each guest. systemd: as process 1. append: kernel arguments.
Options = collections.namedtuple('Options', 'disks_mb cpus memory_mb systemd append')

NAMESPACE = 'rblk-guest-'
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Lab:
    """A network with guests on it. A context manager: they run inside the `with`."""

    def __init__(self, guests=2, disks_mb=(1024,), cpus=1, memory_mb=1024, systemd=False, zfs=False,
                 append=''):
        if os.geteuid() != 0:
            raise SystemExit('The guest lab needs root: network namespace, bridge, taps.')
        self.image = zfs_image.image() if zfs else build.image()
        self.options = Options(tuple(disks_mb), cpus, memory_mb, systemd, append)
        self.namespace = f'{NAMESPACE}{os.getpid()}'
        self.directory = os.path.join(build.directory(), 'runs', str(os.getpid()))
        remove_leftovers()
        os.makedirs(self.directory)
        # The kernel ends a guest together with the thread that started it: this one lives as long as we do.
        self.starter = concurrent.futures.ThreadPoolExecutor(1)
        self.guests = [Guest(self, number, self.options) for number in range(1, guests + 1)]

    def __enter__(self):
        try:
            self._make_network()
            for guest in self.guests:
                guest.start(wait=False)
            for guest in self.guests:
                guest.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the guests and removes all that was made."""
        for guest in self.guests:
            guest.kill()
        remove_namespace(self.namespace)
        if not os.environ.get('RBLK_GUEST_KEEP'):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _make_network(self):
        """A bridge with a tap for each guest."""
        ip('netns', 'add', self.namespace)
        inside = ('-n', self.namespace)
        ip(*inside, 'link', 'set', 'lo', 'up')
        ip(*inside, 'link', 'add', 'bridge', 'type', 'bridge')
        ip(*inside, 'link', 'set', 'bridge', 'up')
        for guest in self.guests:
            tap = f'tap{guest.number}'
            # vnet_hdr lets guests hand each other large segments: thrice the throughput.
            ip(*inside, 'tuntap', 'add', tap, 'mode', 'tap', 'vnet_hdr')
            ip(*inside, 'link', 'set', tap, 'master', 'bridge', 'up')

    def spawn(self, command, log):
        """Starts a process in the lab's network that dies with us."""
        def start():
            with open(log, 'w') as output:
                return subprocess.Popen(
                    ['ip', 'netns', 'exec', self.namespace, *command], stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        return self.starter.submit(start).result()


def die_with_parent():
    """Asks the kernel to kill this process when the thread that started it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ip(*arguments):
    """Runs the `ip` command."""
    subprocess.run(['ip', *arguments], check=True)


def remove_namespace(name):
    """Removes a network namespace with the bridge and taps in it, if it is there."""
    subprocess.run(['ip', 'netns', 'del', name], stderr=subprocess.DEVNULL, check=False)


def remove_leftovers():
    """Removes what runs left that were killed: their guests died with them."""
    listing = subprocess.run(['ip', 'netns', 'list'], text=True, stdout=subprocess.PIPE, check=True)
    for name, pid in re.findall(rf'^({NAMESPACE}(\d+))\b', listing.stdout, re.M):
        if not os.path.exists(f'/proc/{pid}') or int(pid) == os.getpid():
            remove_namespace(name)
    runs = os.path.join(build.directory(), 'runs')
    os.makedirs(runs, exist_ok=True)
    for pid in os.listdir(runs):
        if not os.path.exists(f'/proc/{pid}') or int(pid) == os.getpid():
            shutil.rmtree(os.path.join(runs, pid), ignore_errors=True)
