"""What is compared. Each system gets a file or two of its own, serves them, and says how fio reaches it.

All of them on one machine; each as its users would set it up so that a completed write is on both disks (or
on the one there is), not in the memory of a client. Where a system can only be had with less, it says so in `note`.
"""

import contextlib
import filecmp
import json
import os
import signal
import socket
import subprocess
import time

from benching import fio

MIB = 1 << 20


def until(what, condition, seconds=30):
    """Waits until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f'not within {seconds} s: {what}')
        time.sleep(0.05)


def write_file(path, mib):
    """A file without holes: a sparse one would measure the file system's allocation."""
    with open(path, 'wb') as out:
        for _ in range(mib):
            out.write(bytes(MIB))
        os.fsync(out.fileno())
        # Pages in memory would send the first direct write to each of them through a worker thread.
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sparse_file(path, mib):
    """A file that is all hole."""
    with open(path, 'wb') as out:
        out.truncate(mib * MIB)


class System:
    """Base: a folder, processes that are ended by their ids."""

    name, label, note = '', '', ''

    def __init__(self, folder, mib=256, make=write_file):
        self.folder, self.mib, self.make = folder, mib, make
        self.processes = []
        os.makedirs(folder)

    def path(self, name):
        """A file of this system."""
        return os.path.join(self.folder, name)

    def spawn(self, *command, **options):
        """A process that lives as long as the system."""
        with open(self.path('log'), 'ab') as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True, **options)
        self.processes.append(process)
        return process

    def target(self):
        """Options of fio that lead here."""
        raise NotImplementedError

    def run(self, folder, job, seconds, **changes):
        """Runs a job of fio."""
        return fio.run(folder, job, self.target(), seconds, servers=self.servers(), **changes)

    def servers(self):
        """Ids of the processes that serve it."""
        return [process.pid for process in self.processes]

    def start(self):
        """Serves."""

    def check(self):
        """Both disks are equal after a clean end. Called once nothing runs any more."""

    def stop(self):
        """Ends in good order, by force if need be."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
        self.processes = []


class Raw(System):
    """The ceiling."""

    name, label, note = 'raw', 'raw file, io_uring', 'one file, O_DIRECT, unreplicated: the ceiling'

    def start(self):
        self.make(self.path('disk'), self.mib)

    def target(self):
        return {'ioengine': 'io_uring', 'filename': self.path('disk')}


class RawPair(Raw):
    """The ceiling of everything that writes to two disks."""

    name, label = 'raw-pair', 'two raw files at once'
    note = 'the same load on two files at the same time, requests and IOPS of one: what no mirror here can exceed'

    def start(self):
        for disk in '01':
            self.make(self.path(f'disk.{disk}'), self.mib)

    def target(self):
        return {'ioengine': 'io_uring', 'numjobs': 2, 'filename_format': self.path('disk.$jobnum')}

    def run(self, folder, job, seconds, **changes):
        figures = super().run(folder, job, seconds, **changes)
        # Of one of them; processor time is of both, since a mirrored request is two.
        for key in ('iops', 'mib_s'):
            figures[key] /= 2
        for key in ('cpu_s_per_million', 'servers_cpu_s_per_million'):
            figures[key] *= 2
        return figures


class Nbdkit(System):
    """The cost of NBD alone."""

    name, label = 'nbdkit', 'nbdkit file'
    note = 'one file through the page cache, unreplicated: what NBD alone costs'

    def start(self):
        self.make(self.path('disk'), self.mib)
        self.spawn('nbdkit', '-f', '-U', self.path('s'), 'file', self.path('disk'))
        until('nbdkit serves', lambda: os.path.exists(self.path('s')))

    def target(self):
        return {'ioengine': 'nbd', 'uri': f'nbd+unix:///?socket={self.path("s")}'}


def free_port():
    """A TCP port of 127.0.0.1 that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Rblk(System):
    """Two daemons over TCP on loopback."""

    name, label = 'rblk', 'rblk'
    note = 'two daemons, two files with O_DIRECT, TCP on loopback, NBD on a UNIX socket'
    program = ''
    options = ''

    def start(self, sync=True):
        """`sync`: both disks are declared equal, and both nodes run."""
        nodes = ''.join(f'[[node]]\nname = "{node}"\naddress = "127.0.0.1:{free_port()}"\n'
                        f'disk = "{self.path(node)}.disk"\n' for node in 'ab')
        self.configure(f'[resource]\nname = "bench"\n{self.options}\n', nodes)
        for node in 'ab':
            self.make(self.path(f'{node}.disk'), self.mib + max(4, self.mib // 8192))
            if sync:
                self.rblk(node, 'create', '--in-sync')
        if sync:
            self.attach('b')
            self.attach('a', '--primary')
            self.rblk('a', 'wait', 'synced', '--timeout', '30')
            until('rblk serves', lambda: os.path.exists(self.path('a.nbd')))

    def configure(self, resource, nodes):
        """A file for each node: the same."""
        for node in 'ab':
            with open(self.path(f'{node}.toml'), 'w') as out:
                out.write(f'{resource}[net]\nsecurity = "none"\n{nodes}')

    def command(self, node, verb, *arguments):
        """The command line of a verb."""
        run_dir = self.path(f'run-{node}')
        os.makedirs(run_dir, exist_ok=True)
        common = ['--config', self.path(f'{node}.toml'), '--node', node, '--run-dir', run_dir]
        return [self.program, verb, 'bench', *arguments, *common]

    def rblk(self, node, verb, *arguments):
        """Runs a verb to its end. Returns what it printed."""
        command = self.command(node, verb, *arguments)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if ended.returncode != 0:
            raise RuntimeError(f'rblk {verb}: {ended.stderr.strip()}')
        return ended.stdout

    def attach(self, node, *options):
        """Starts a daemon; returns when it answers."""
        front = f'nbd=unix:{self.path(node)}.nbd'
        process = self.spawn(*self.command(node, 'attach', '--front', front, *options))

        def answers():
            if process.poll() is not None:
                raise RuntimeError(f'rblk attach ended, see {self.path("log")}')
            command = self.command(node, 'status', '--json')
            return subprocess.run(command, capture_output=True).returncode == 0
        until('rblk answers', answers)
        return process

    def target(self):
        return {'ioengine': 'nbd', 'uri': f'nbd+unix:///bench?socket={self.path("a.nbd")}'}

    def stop(self):
        if self.processes and all(process.poll() is None for process in self.processes):
            for node in 'ab':
                with contextlib.suppress(RuntimeError):
                    self.rblk(node, 'detach')
        super().stop()

    def check(self):
        with open(self.path('a.disk'), 'rb') as one, open(self.path('b.disk'), 'rb') as other:
            for at in range(self.mib):
                if one.read(MIB) != other.read(MIB):
                    raise RuntimeError(f'rblk: the disks differ in MiB {at}')


class RblkTls(Rblk):
    """The same, within TLS."""

    name, label = 'rblk-tls', 'rblk, TLS'
    note = 'as rblk, without security = "none" in [net]: TLS'

    def configure(self, resource, nodes):
        for node in 'ab':
            line = self.rblk(node, 'keygen', '--file', self.path(f'{node}.key'))
            nodes = nodes.replace(f'{node}.disk"\n', f'{node}.disk"\n{line}')
        for node in 'ab':
            lock = f'[net]\nkey-file = "{self.path(node)}.key"\n'
            with open(self.path(f'{node}.toml'), 'w') as out:
                out.write(resource + lock + nodes)


class Qemu(System):
    """QEMU's mirror job, which writes to both before it answers."""

    name, label = 'qemu', 'QEMU mirror'
    note = 'blockdev-mirror, copy-mode=write-blocking, two qemu-storage-daemons, io_uring, O_DIRECT, UNIX sockets'

    def start(self):
        for disk in 'ab':
            self.make(self.path(f'{disk}.disk'), self.mib)

        def daemon(disk, *more):
            file = f'driver=file,node-name={disk}f,filename={self.path(disk)}.disk,cache.direct=on,aio=io_uring'
            server = f'addr.type=unix,addr.path={self.path(disk)}.sock,max-connections=8'
            self.spawn('qemu-storage-daemon', '--blockdev', file,
                       '--blockdev', f'driver=raw,node-name={disk},file={disk}f', *more, '--nbd-server', server,
                       '--export', f'type=nbd,id=e{disk},node-name={disk},name={disk},writable=on')
            until('qemu serves', lambda: os.path.exists(self.path(f'{disk}.sock')))
        daemon('b')
        peer = f'driver=nbd,node-name=peer,server.type=unix,server.path={self.path("b.sock")},export=b'
        monitor = f'socket,id=qmp,path={self.path("qmp")},server=on,wait=off'
        daemon('a', '--blockdev', peer, '--chardev', monitor, '--monitor', 'chardev=qmp')
        until('qemu has a monitor', lambda: os.path.exists(self.path('qmp')))
        self._mirror()

    def _mirror(self):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(self.path('qmp'))
            lines = monitor.makefile('rw')
            lines.readline()

            def ask(command, **arguments):
                print(json.dumps({'execute': command, 'arguments': arguments}), file=lines, flush=True)
                while True:
                    answer = json.loads(lines.readline())
                    if 'error' in answer:
                        raise RuntimeError(f'qemu: {answer["error"]["desc"]}')
                    if 'return' in answer:
                        return answer['return']
            ask('qmp_capabilities')
            ask('blockdev-mirror', **{'job-id': 'm', 'device': 'a', 'target': 'peer', 'sync': 'full',
                                      'copy-mode': 'write-blocking'})
            until('qemu has mirrored', lambda: any(job['ready'] for job in ask('query-block-jobs')), 120)

    def target(self):
        return {'ioengine': 'nbd', 'uri': f'nbd+unix:///a?socket={self.path("a.sock")}'}

    def check(self):
        if not filecmp.cmp(self.path('a.disk'), self.path('b.disk'), shallow=False):
            raise RuntimeError('qemu: the disks differ')


class Gluster(System):
    """GlusterFS with two replicas, through fio's gfapi engine."""

    name, label = 'gluster', 'GlusterFS replica 2'
    note = 'gfapi, strict-o-direct, no write-behind: without these it answers from the memory of the client'
    ADDRESS = '10.99.0.1'

    def start(self):
        # glusterd refuses loopback addresses and keeps its state in fixed places: namespaces of its own.
        self.holder = self.spawn('unshare', '--net', '--mount', 'sleep', 'infinity')
        until('a namespace', lambda: os.readlink(f'/proc/{self.holder.pid}/ns/net') != os.readlink('/proc/self/ns/net'))
        self.inside(f'''
            ip link set lo up
            ip link add g0 type veth peer name g1
            ip addr add {self.ADDRESS}/24 dev g0
            ip link set g0 up
            ip link set g1 up
            mkdir -p /var/lib/glusterd /run/gluster /var/log/glusterfs {self.path("b1")} {self.path("b2")}
            for place in /var/lib/glusterd /run/gluster /var/log/glusterfs; do mount -t tmpfs gluster $place; done''')
        self.spawn(*self._enter(), 'glusterd', '-N')
        until('glusterd answers', lambda: self._gluster('volume list').returncode == 0)
        bricks = ' '.join(f'{self.ADDRESS}:{self.path(brick)}/d' for brick in ('b1', 'b2'))
        for words in (f'volume create rv replica 2 transport tcp {bricks} force',
                      'volume set rv network.remote-dio disable', 'volume set rv performance.strict-o-direct on',
                      'volume set rv performance.write-behind off', 'volume start rv'):
            ended = self._gluster(words)
            if ended.returncode != 0:
                raise RuntimeError(f'gluster {words}: {ended.stderr or ended.stdout}')
        self.run(self.path('fill'), 'write-1m-4', 1, time_based=0)

    def _enter(self):
        return ['nsenter', '-t', str(self.holder.pid), '--net', '--mount']

    def inside(self, script):
        """Runs a script in the namespaces."""
        subprocess.run([*self._enter(), 'sh', '-ec', script], check=True, capture_output=True)

    def _gluster(self, words):
        command = [*self._enter(), 'gluster', '--mode=script', *words.split()]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def target(self):
        return {'ioengine': 'gfapi_async', 'volume': 'rv', 'brick': self.ADDRESS, 'filename': 'disk0'}

    def run(self, folder, job, seconds, **changes):
        return fio.run(folder, job, self.target(), seconds, within=self._enter(), servers=self.servers(), **changes)

    def servers(self):
        daemons = subprocess.run(['pgrep', '-x', 'glusterfsd'], capture_output=True, text=True).stdout.split()
        here = os.readlink(f'/proc/{self.holder.pid}/ns/net')
        return [int(pid) for pid in daemons if os.readlink(f'/proc/{pid}/ns/net') == here]

    def stop(self):
        self._gluster('volume stop rv force')
        super().stop()

    def check(self):
        if not filecmp.cmp(self.path('b1/d/disk0'), self.path('b2/d/disk0'), shallow=False):
            raise RuntimeError('gluster: the replicas differ')


ALL = {system.name: system for system in (Raw, RawPair, Nbdkit, Rblk, RblkTls, Qemu, Gluster)}
