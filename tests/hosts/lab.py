"""Two hosts on one machine: network namespaces on a bridge, real rblk daemons, disks in files.

    run ── own network, mount and process namespace (nothing can outlive it)
     ├── bridge "sw" ──── port a ── namespace "a": eth0 10.77.0.1, rblk daemon "alpha"
     │              └──── port b ── namespace "b": eth0 10.77.0.2, rblk daemon "beta"
     └── the test: NBD client, checker, cut() and heal()

A cut takes a port off the bridge: frames vanish in silence, nobody is told, no connection is reset. One
direction alone is cut by telling the bridge that the receiver sits behind the sender's own port.

`enter()` starts the own namespaces; it needs no root where the kernel lets users make namespaces.
"""

import atexit
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
PORT = 7790
_INSIDE = 'RBLK_HOSTS_INSIDE'
os.environ['PATH'] += ':/usr/sbin:/sbin'


class LabError(Exception):
    """The lab itself failed, not what it tests."""


def enter():
    """Runs this program again in namespaces of its own and ends with its exit code; returns when inside."""
    if os.environ.get(_INSIDE):
        _furnish()
        return
    folder = _scratch()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
    if os.geteuid() != 0:
        command.insert(1, '--map-root-user')
    environment = dict(os.environ, **{_INSIDE: folder})
    child = subprocess.Popen(command + [sys.executable] + sys.argv, env=environment)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: child.kill())
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.kill()    # its whole process namespace dies with it
        child.wait()
        code = 130
    sys.exit(code if code >= 0 else 128 - code)


def _scratch():
    """A folder on a file system that takes O_DIRECT, as real disks do."""
    here = os.path.dirname(os.path.abspath(__file__))
    candidates = [os.environ.get('RBLK_TEST_DIR'), os.environ.get('TMPDIR'), '/var/tmp', '/tmp', here]
    for parent in filter(None, candidates):
        with contextlib.suppress(OSError):
            folder = tempfile.mkdtemp(prefix='rblk-hosts-', dir=parent)
            probe = os.path.join(folder, 'probe')
            try:
                os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT))
                os.unlink(probe)
                return folder
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
    raise LabError('no folder takes O_DIRECT; set RBLK_TEST_DIR to one on a disk')


def _furnish():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _sh('mount', '-t', 'tmpfs', 'run', '/run')
    _sh('ip', 'link', 'set', 'lo', 'up')


def _sh(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    if result.returncode != 0:
        raise LabError(f'{" ".join(command)}: {result.stderr.strip() or result.stdout.strip()}')
    return result.stdout


def find_rblk():
    """The program under test: RBLK, else the newest build."""
    if os.environ.get('RBLK'):
        return os.environ['RBLK']
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    target = os.environ.get('CARGO_TARGET_DIR', os.path.join(root, 'target'))
    builds = [os.path.join(target, kind, 'rblk') for kind in ('release', 'debug')]
    builds = [path for path in builds if os.path.exists(path)]
    if not builds:
        raise LabError('no rblk is built: run `cargo build --release`, or set RBLK to the program')
    return max(builds, key=os.path.getmtime)


def until(what, condition, seconds, pause=0.05):
    """Waits for `condition()` to be true and returns its value; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'not within {seconds} s: {what}')
        time.sleep(pause)


class Network:
    """The bridge and its two ports. Works on whatever namespace the program is in: call `enter` first."""

    ADDRESS = {'a': '10.77.0.1', 'b': '10.77.0.2'}
    # An IPv6 address is used at once: nobody else has it.
    PREFIX = ('/24',)
    BRIDGE, PORTS, DEVICE = 'sw', 'port', 'eth0'

    def __init__(self):
        self._macs = {}
        self.remove()       # what an earlier one may have left in the middle of its making
        self._make_hosts()
        _sh('ip', 'link', 'add', self.BRIDGE, 'type', 'bridge')
        _sh('ip', 'link', 'set', self.BRIDGE, 'up')
        for side in self.ADDRESS:
            port = f'{self.PORTS}-{side}'
            _sh('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', self.DEVICE, 'netns', side)
            _sh('ip', 'link', 'set', port, 'master', self.BRIDGE, 'up')
            self.give_address(side)
            _sh('ip', '-n', side, 'link', 'set', self.DEVICE, 'up')
            link = json.loads(_sh('ip', '-n', side, '-j', 'link', 'show', self.DEVICE))
            self._macs[side] = link[0]['address']
        # Addresses are known for good: a cut must be found by the daemons, not by a failed ARP.
        for side, other in (('a', 'b'), ('b', 'a')):
            _sh('ip', '-n', side, 'neigh', 'replace', self.ADDRESS[other], 'lladdr', self._macs[other],
                'nud', 'permanent', 'dev', self.DEVICE)

    def _make_hosts(self):
        for side in self.ADDRESS:
            _sh('ip', 'netns', 'add', side)
            _sh('ip', '-n', side, 'link', 'set', 'lo', 'up')

    def give_address(self, side):
        """That host has its address on this network."""
        length, *flags = self.PREFIX
        _sh('ip', '-n', side, 'addr', 'add', f'{self.ADDRESS[side]}{length}', 'dev', self.DEVICE, *flags)

    def take_address(self, side):
        """It has it no more."""
        _sh('ip', '-n', side, 'addr', 'del', f'{self.ADDRESS[side]}{self.PREFIX[0]}', 'dev', self.DEVICE)

    def cut(self, side='b'):
        """Both directions, in silence."""
        _sh('ip', 'link', 'set', f'{self.PORTS}-{side}', 'nomaster')

    def cut_towards(self, side):
        """Frames to `side` vanish; those from it arrive."""
        other = 'a' if side == 'b' else 'b'
        # Sticky: or else the first frame from `side` would correct it.
        _sh('bridge', 'fdb', 'replace', self._macs[side], 'dev', f'{self.PORTS}-{other}', 'master', 'static',
            'sticky')

    def heal(self):
        """Everything arrives again."""
        for side in self.ADDRESS:
            _sh('ip', 'link', 'set', f'{self.PORTS}-{side}', 'master', self.BRIDGE, 'up')
            for port in self.ADDRESS:
                with contextlib.suppress(LabError):
                    _sh('bridge', 'fdb', 'del', self._macs[side], 'dev', f'{self.PORTS}-{port}', 'master')

    def remove(self):
        """Takes the network away."""
        for side in self.ADDRESS:
            # The link by itself: a socket still open on that host would keep it and its end of the link.
            with contextlib.suppress(LabError):
                _sh('ip', 'link', 'del', f'{self.PORTS}-{side}')
            self._remove_host(side)
        with contextlib.suppress(LabError):
            _sh('ip', 'link', 'del', self.BRIDGE)

    def _remove_host(self, side):
        with contextlib.suppress(LabError):
            _sh('ip', 'netns', 'del', side)

    @staticmethod
    def third_host(address):
        """From here on the tests themselves are a host on this network, with an address of its own."""
        _sh('ip', 'addr', 'replace', f'{address}/24', 'dev', 'sw')

    @staticmethod
    def inside(side):
        """What to put before a command that runs on that host."""
        return ['nsenter', f'--net=/run/netns/{side}']


class SecondNetwork(Network):
    """Another one between the same hosts, which must be there: a switch of its own, an interface on each."""

    ADDRESS = {'a': '10.78.0.1', 'b': '10.78.0.2'}
    BRIDGE, PORTS, DEVICE = 'sw2', 'port2', 'eth1'

    def _make_hosts(self):
        pass

    def _remove_host(self, side):
        pass


class SecondNetworkIpv6(SecondNetwork):
    """The same with IPv6."""

    ADDRESS = {'a': 'fd78::1', 'b': 'fd78::2'}
    PREFIX = ('/64', 'nodad')


def inside(side, action):
    """Runs `action` on that host, in a thread that has moved there; sockets made by it stay there."""
    outcome = {}

    def work():
        try:
            with open(f'/run/netns/{side}') as space:
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), 'setns')
            outcome['value'] = action()
        except BaseException as failure:
            outcome['failure'] = failure
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if 'failure' in outcome:
        raise outcome['failure']
    return outcome['value']


class Daemon:
    """A process of `rblk attach`. Its words are in `log`, unless they go to the open file `out`."""

    def __init__(self, command, log, out=None):
        self.log = log
        with open(log, 'ab') as file:
            words = out or file
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words,
                                             start_new_session=True)
        self.pid = self._process.pid

    def running(self):
        """True until it has ended."""
        return self._process.poll() is None

    def signal(self, number):
        """Sends a signal to this very process."""
        if self.running():
            os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait(30)

    def wait(self, seconds):
        """Its exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'the daemon did not end within {seconds} s, see {self.log}') from None

    def words(self):
        """All it wrote."""
        with open(self.log, errors='replace') as log:
            return log.read()

    def memory(self):
        """Bytes: resident now and at most; of these, pinned since they are registered with io_uring, and locked.
        `VmLck` would tell what is reserved, resident or not."""
        fields = {}
        for file in ('status', 'smaps_rollup'):
            with open(f'/proc/{self.pid}/{file}') as lines:
                fields.update(line.split(':', 1) for line in lines if ':' in line)
        names = {'resident': 'VmRSS', 'most': 'VmHWM', 'pinned': 'VmPin', 'locked': 'Locked'}
        return {name: int(fields[key].split()[0]) * 1024 for name, key in names.items()}


class Node:
    """One host: its disk, its configuration, its daemon."""

    def __init__(self, lab, side, name):
        self.lab, self.side, self.name = lab, side, name
        self.resource = lab.name
        self.disk = os.path.join(lab.folder, f'{name}.disk')
        self.run_dir = f'/run/rblk-{name}'
        self.socket = f'{self.run_dir}/t.nbd'
        self.config = lab.config
        self.daemon = None
        self._starts = 0
        os.makedirs(self.run_dir, exist_ok=True)

    def command(self, verb, *arguments, program=None):
        """The command line of a verb on this node."""
        common = ['--config', self.config, '--node', self.name, '--run-dir', self.run_dir]
        return Network.inside(self.side) + [program or self.lab.rblk, verb, *common, *map(str, arguments)]

    def rblk(self, verb, *arguments, check=True, seconds=60):
        """Runs a verb to its end; with `check` it must succeed."""
        command = self.command(verb, *arguments)
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{self.name}: rblk {verb} did not end within {seconds} s') from None
        if check and result.returncode != 0:
            raise AssertionError(f'{self.name}: rblk {verb} {" ".join(map(str, arguments))}: '
                                 f'exit {result.returncode}: {result.stderr.strip()}')
        return result

    def watch(self):
        """`rblk events` in the background: its lines, which end when the daemon does."""
        return subprocess.Popen(self.command('events', self.resource), stdout=subprocess.PIPE, text=True).stdout

    def create(self, *options):
        """Writes fresh metadata."""
        self.rblk('create', self.resource, *options)

    def attach(self, *options, ready=True, out=None):
        """Starts the daemon; `ready`: waits until it answers. Its log goes to the open file `out`, if there is one."""
        assert self.daemon is None or not self.daemon.running(), f'{self.name} is attached already'
        self._starts += 1
        log = os.path.join(self.lab.folder, f'{self.name}.{self._starts}.log')
        front = ('--front', f'nbd=unix:{self.socket}')
        # RBLK_OLD: each daemon is of that build or of this one. Orders are always given by this one.
        old = os.environ.get('RBLK_OLD')
        program = random.choice([self.lab.rblk, old]) if old else None
        self.daemon = Daemon(self.command('attach', self.resource, *front, *options, program=program), log, out)
        self.lab.daemons.append(self.daemon)
        if ready:
            until(f'{self.name} answers', self._ready, 20)
        return self.daemon

    def _ready(self):
        if not self.daemon.running():
            raise AssertionError(f'{self.name}: the daemon ended: {self.daemon.words()[-2000:]}')
        return self.rblk('status', self.resource, '--json', check=False).returncode == 0

    def wait(self, state, seconds=30):
        """Until `connected`, `uptodate` or `synced`."""
        self.rblk('wait', self.resource, state, '--timeout', seconds, seconds=seconds + 20)

    def status(self):
        """The resource's object of `status --json`."""
        return json.loads(self.rblk('status', self.resource, '--json').stdout)[0]

    def connection(self):
        """The state of the connection, as `status` says."""
        return self.status()['connections'][0]['connection-state']

    def stands_alone(self, seconds=30):
        """Waits until it does."""
        until('it stands alone', lambda: self.connection() == 'StandAlone', seconds)

    def peer_device(self):
        """What `status` knows of the volume at the peer."""
        return self.status()['connections'][0]['peer_devices'][0]

    def generation(self):
        """The generation of the data, as the daemon says."""
        return self.status()['rblk']['generation']['current']

    def metadata(self):
        """The metadata on disk, read without the daemon. Damage, such as a kill in the middle of a write
        leaves, is told in it."""
        result = self.rblk('dump-meta', self.disk, '--json', check=False)
        assert result.stdout, f'{self.name}: rblk dump-meta: {result.stderr.strip()}'
        return json.loads(result.stdout)

    def client(self):
        """An NBD client of this node's device, once it is there."""
        import nbd
        until(f'{self.name} serves', lambda: os.path.exists(self.socket), 20)
        return until(f'{self.name} takes clients', lambda: _connect(nbd, self.socket), 20)

    def detach(self, seconds=30):
        """Leaves in good order; the daemon must end well."""
        self.rblk('detach', self.resource, seconds=seconds)
        code = self.daemon.wait(seconds)
        assert code == 0, f'{self.name}: the daemon ended with {code}: {self.daemon.words()[-2000:]}'

    def kill(self):
        """kill -9."""
        self.daemon.kill()

    def pause(self):
        """Stops the process where it stands: its connections stay open and silent."""
        self.daemon.signal(signal.SIGSTOP)

    def resume(self):
        """Lets it go on."""
        self.daemon.signal(signal.SIGCONT)


def _connect(nbd, address):
    try:
        return nbd.Client(address)
    except OSError:
        return None


class Lab:
    """Two nodes and what is between them. `a` dials and `b` listens; `a` is Primary unless a test says so."""

    def __init__(self, mib=64, disk_mib=None, name='t', resource=''):
        self.name, self.rblk = name, find_rblk()
        self.folder = tempfile.mkdtemp(prefix='lab-', dir=os.environ[_INSIDE])
        self.config = os.path.join(self.folder, f'{name}.toml')
        self.daemons = []
        self.network = Network()
        self.a, self.b = Node(self, 'a', 'alpha'), Node(self, 'b', 'beta')
        self.nodes = (self.a, self.b)
        self.primary = self.a
        write_config(self.config, name, self.nodes, resource)
        for node in self.nodes:
            make_disk(node.disk, (disk_mib or mib + 1) * MIB)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.report()
        self.close()

    def close(self):
        """Ends all daemons by their process ids, and takes network and disks away."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGCONT)
            daemon.kill()
        self.network.remove()
        for node in self.nodes:
            shutil.rmtree(node.run_dir, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def report(self, lines=25):
        """The last words of the daemons, for who reads a failure."""
        for daemon in self.daemons:
            words = daemon.words().splitlines()
            print(f'--- {os.path.basename(daemon.log)}: last of {len(words)} lines', file=sys.stderr)
            print('\n'.join(words[-lines:]), file=sys.stderr)

    def start(self, *options_a, b=()):
        """Both disks in sync, both daemons up, `a` Primary, both UpToDate. Returns a client of `a`."""
        for node in self.nodes:
            node.create('--in-sync')
        self.b.attach(*b)
        self.a.attach('--primary', *options_a)
        self.synced()
        return self.a.client()

    def synced(self, seconds=60):
        """Waits until both disks are equal and both nodes know it."""
        for node in self.nodes:
            node.wait('synced', seconds)

    def volume_bytes(self):
        """What clients see, as the daemon says."""
        return self.primary.status()['devices'][0]['size'] * 1024

    def detach(self):
        """Both leave in good order: the Primary first."""
        for node in sorted(self.nodes, key=lambda node: node is not self.primary):
            node.detach()

    def data_bytes(self):
        """Size of the volume: of the smaller data area."""
        return min(node.metadata()['layout']['data-bytes'] for node in self.nodes)

    def compare(self):
        """The first byte in which the data areas differ is an error. Both nodes must be detached."""
        self._compare(self.data_bytes())

    def compare_running(self):
        """The same while both nodes run, in sync and without a request in flight."""
        self._compare(self.volume_bytes())

    def _compare(self, size):
        step = MIB
        with open(self.a.disk, 'rb') as one, open(self.b.disk, 'rb') as two:
            for offset in range(0, size, step):
                length = min(step, size - offset)
                first, second = one.read(length), two.read(length)
                if first != second:
                    place = next(i for i in range(length) if first[i] != second[i])
                    raise AssertionError(f'the disks differ from byte {offset + place} on: '
                                         f'{first[place:place + 16].hex()} on {self.a.name}, '
                                         f'{second[place:place + 16].hex()} on {self.b.name}')

    def finish(self, checker=None):
        """Detaches both; the disks must be equal and hold what `checker` expects."""
        self.detach()
        self.compare()
        if checker:
            for node in self.nodes:
                faults = checker.check_file(node.disk)
                assert not faults, f'{node.name}: {len(faults)} faults, first: {faults[0]}'


def write_config(path, name, nodes, resource=''):
    """One file for both nodes, as the README shows it."""
    text = f'[resource]\nname = "{name}"\n{resource}\n\n[net]\nsecurity = "none"\n'
    for node in nodes:
        text += (f'\n[[node]]\nname = "{node.name}"\naddress = "{Network.ADDRESS[node.side]}:{PORT}"\n'
                 f'disk = "{node.disk}"\n')
    with open(path, 'w') as file:
        file.write(text)


def make_disk(path, size):
    """A disk of zeroes."""
    with open(path, 'wb') as file:
        file.truncate(size)
