"""What an operator orders: nodes taken apart and together again, a split brain decided, data declared void."""

import json
import mmap
import os
import random
import socket
import subprocess
import sys
import time

from apart import expect_only_difference
from checker import Checker, Load
from lab import MIB, PORT, Lab, Network, inside, make_disk, until

STALL_MAX = 1.0


def test_disconnect_and_connect_under_load():
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=16 << 10, rate=1000).start()
        time.sleep(2)
        for node in (lab.b, lab.a):
            fault = time.monotonic()
            node.rblk('disconnect', 't')
            other = lab.a if node is lab.b else lab.b
            until('the other notices', lambda: other.connection() == 'Connecting', 10)
            assert node.connection() == 'StandAlone'
            assert any('rblk connect t' in why for why in _why(node)), _why(node)
            assert any('has left or was disconnected' in why for why in _why(other)), _why(other)
            until('it steps back', lambda: lab.b.status()['devices'][0]['disk-state'] == 'Outdated', 5)
            refused = lab.b.rblk('promote', 't', check=False)
            assert refused.returncode == 1 and '--force' in refused.stderr
            time.sleep(3)
            assert node.connection() == 'StandAlone', 'it does not stay alone'
            returns = time.monotonic()
            node.rblk('connect', 't')
            figures = expect_only_difference(lab, load, fault, fault + STALL_MAX, returns)
            stall = load.longest_gap(fault)
            print(f'      longest stall {stall:.3f} s; {figures}')
            assert stall <= STALL_MAX, f'a stall of {stall:.2f} s'
            time.sleep(1)
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_a_node_that_stands_alone_does_not_listen():
    with Lab() as lab:
        client = lab.start()
        lab.b.rblk('disconnect', 't')

        def refused():
            try:
                inside('a', lambda: socket.create_connection((Network.ADDRESS['b'], PORT), 5)).close()
                return False
            except ConnectionRefusedError:
                return True
        until('nobody listens', refused, 5)
        for _ in range(20):     # faster than the ring lets go of the listener
            lab.b.rblk('connect', 't')
            lab.b.rblk('disconnect', 't')
        lab.b.rblk('connect', 't')
        lab.synced()
        client.close()
        lab.finish()


def test_a_restart_looks_for_the_peer_again():
    with Lab() as lab:
        lab.start().close()
        lab.a.rblk('disconnect', 't')
        lab.a.kill()
        lab.a.attach('--primary')
        lab.synced()
        lab.finish()


def test_split_brain_is_decided_by_the_operator():
    for victim_last in (False, True):
        with Lab(mib=64, resource='peer-timeout-ms = 1000') as lab:
            client = lab.start()
            events = lab.a.watch()
            client.write(0, bytes([1]) * MIB)
            client.flush()
            _split(lab, client)
            _both_stand_alone(lab)
            refused = lab.a.rblk('connect', 't', '--discard-my-data', check=False)
            assert refused.returncode == 1 and 'rblk demote t' in refused.stderr, refused.stderr
            first, second = (lab.a, lab.b) if victim_last else (lab.b, lab.a)
            for node in (first, second):
                node.rblk('connect', 't', *(['--discard-my-data'] if node is lab.b else []))
            lab.synced()
            copied = lab.a.status()['rblk']['resync']['since-connect-bytes']
            print(f'      {copied / MIB:.2f} MiB copied of 64 MiB')
            assert copied == 2 * MIB, f'{copied} bytes copied: a MiB was written on either side'
            assert client.read(MIB, MIB) == bytes([2]) * MIB
            assert client.read(8 * MIB, MIB) == bytes(MIB), 'what was discarded is there'
            client.close()
            lab.finish()
            _told_of_everything(events.read().splitlines())


def _told_of_everything(lines):
    """The changes of a split brain and its end, in order, from the node that was Primary throughout."""
    connection = 'change connection name:t peer-node-id:1 conn-name:beta connection:'
    expected = ['exists -', connection + 'Connecting', connection + 'StandAlone', connection + 'Connected',
                'replication:SyncSource', 'replication:Established', 'change resource name:t role:Secondary',
                'destroy resource name:t']
    for line in lines:
        if expected and expected[0] in line:
            expected.pop(0)
    assert not expected, f'never told: {expected}; {lines}'


def _split(lab, client):
    """`a` goes on, `b` is made Primary by force beside it and demoted again; then the cable is back."""
    lab.network.cut()
    client.write(MIB, bytes([2]) * MIB)
    until('the loss is noticed', lambda: lab.b.connection() == 'Connecting', 10)
    lab.b.rblk('promote', 't', '--force')
    other = lab.b.client()
    other.write(8 * MIB, bytes([3]) * MIB)
    other.close()
    lab.b.rblk('demote', 't')
    lab.network.heal()


def _both_stand_alone(lab):
    for node in lab.nodes:
        node.stands_alone()
        text = node.rblk('status', 't').stdout
        assert 'split brain' in text and 'rblk connect t --discard-my-data' in text, text
        told = node.rblk('explain', 't').stdout
        for part in ('split brain', 'this node: ', ' since 20', 'parted after generation', '\n  rblk connect t'):
            assert part in told, (part, told)
        assert told.count('1.0 MiB changed apart') == 2, told
    said = [node.daemon.words().count('split brain') for node in lab.nodes]
    time.sleep(12)
    assert [node.daemon.words().count('split brain') for node in lab.nodes] == said, 'they go on meeting'


def test_a_disk_declared_void_is_copied_whole():
    with Lab(mib=64) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=500).start()
        time.sleep(1)
        for order in ((lab.b, []), (lab.a, ['--peer'])):
            node, options = order
            _ruin(lab.b.disk, lab.volume_bytes())
            node.rblk('invalidate', 't', *options)
            until('the copy begins', lambda: lab.b.peer_device()['replication-state'] == 'SyncTarget'
                  or lab.a.status()['rblk']['resync']['since-connect-bytes'] > 0, 10)
            lab.synced()
            copied = lab.a.status()['rblk']['resync']['since-connect-bytes']
            assert copied >= lab.volume_bytes(), f'{copied / MIB:.2f} MiB copied of {lab.volume_bytes() / MIB:.2f}'
            load.expect_clean()
        load.stop().expect_clean()
        refused = lab.a.rblk('invalidate', 't', check=False)
        assert refused.returncode == 1 and 'Primary' in refused.stderr, refused.stderr
        client.close()
        lab.finish(checker)


def test_nothing_is_not_forced_over_data():
    """A disk was replaced, and the other node cannot tell whether it has the newest data: somebody has to say so. Who
    says it on the wrong node is told which is the right one."""
    with Lab(mib=64) as lab:
        client = lab.start()
        client.write(0, b'data' * 1024)
        client.flush()
        lab.a.kill()
        os.unlink(lab.a.disk)
        make_disk(lab.a.disk, 65 * MIB)
        lab.a.create()
        lab.a.attach()
        until('they meet', lambda: lab.a.status()['rblk']['why'].get('not-connected'), 20)
        told = json.loads(lab.a.rblk('explain', 't', '--json').stdout)
        assert told['commands-there'] == ['rblk promote t --force'] and not told['commands'], told
        assert json.loads(lab.b.rblk('explain', 't', '--json').stdout)['commands'] == ['rblk promote t --force']
        assert 'no data' in lab.a.rblk('explain', 't').stdout
        assert lab.b.status()['rblk']['peer']['generation'].get('current') is None
        refused = lab.a.rblk('promote', 't', '--force', check=False)
        assert refused.returncode == 1 and f'run it on {lab.b.name}' in refused.stderr, refused.stderr
        lab.b.rblk('promote', 't', '--force')
        lab.synced()
        lab.b.rblk('demote', 't')
        lab.a.rblk('promote', 't')
        client = lab.a.client()
        assert client.read(0, 4096) == b'data' * 1024
        client.close()
        lab.finish()


def test_who_was_primary_is_told_after_its_death():
    with Lab(mib=64) as lab:
        lab.start().close()
        lab.a.kill()
        until('it is lost', lambda: lab.b.connection() != 'Connected', 20)
        told = lab.b.rblk('explain', 't').stdout
        assert f'{lab.a.name}: Primary' in told, told


def _ruin(path, size):
    """Noise over a disk's data, behind its daemon's back; past the page cache, as the daemon itself writes."""
    noise = mmap.mmap(-1, MIB)
    disk = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        for offset in range(0, size // MIB * MIB, MIB):
            noise.seek(0)
            noise.write(os.urandom(MIB))
            os.pwrite(disk, noise, offset)
    finally:
        os.close(disk)


def _why(node):
    return node.status()['rblk']['why']['not-connected']


# Becomes user 1000, who may not search the folder of the program: it is started by its descriptor.
STRANGER = """if True:
    import os, sys
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    os.execve(int(sys.argv[1]), sys.argv[2:], os.environ)
"""
# Becomes user 1000, takes all the connections that he gets, and tells what he hears.
CROWD = """if True:
    import contextlib, os, socket, sys
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    turned_away, kept = 0, []
    for _ in range(40):
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].settimeout(20)
        kept[-1].connect(sys.argv[1])
        with contextlib.suppress(BrokenPipeError):  # turned away before it asks
            kept[-1].sendall(b'{"v":1,"request":"status"}\\n')
        turned_away += b'users who may only look' in kept[-1].recv(1 << 16)
    print(turned_away, flush=True)
    sys.stdin.read()
"""


def _as_stranger(node, *arguments):
    program = os.open(node.lab.rblk, os.O_RDONLY)
    try:
        return subprocess.run([sys.executable, '-c', STRANGER, str(program), 'rblk', arguments[0], '--run-dir',
                               node.run_dir, *arguments[1:]], pass_fds=[program], capture_output=True, text=True,
                              timeout=60)
    finally:
        os.close(program)


def _other_users():
    """True where this program may become somebody else."""
    with open('/proc/self/uid_map', encoding='ascii') as ranges:
        return any(int(line.split()[0]) <= 1000 < int(line.split()[0]) + int(line.split()[2]) for line in ranges)


def test_another_user_may_look_where_he_is_let_in_and_change_nothing():
    if not _other_users():
        print('      not tested: only root has other users')
        return
    with Lab() as lab:
        client = lab.start()
        control = f'{lab.a.run_dir}/t.sock'
        assert os.stat(control).st_mode & 0o777 == 0o600
        refused = _as_stranger(lab.a, 'status', 't')
        assert refused.returncode == 1 and 'run the command as root' in refused.stderr, refused.stderr
        os.chmod(control, 0o666)
        looked = _as_stranger(lab.a, 'status', 't', '--json')
        assert looked.returncode == 0 and '"UpToDate"' in looked.stdout, looked.stderr
        before = lab.a.status()['devices'], lab.a.generation()
        for order in ('promote', 'promote --force', 'demote', 'detach', 'detach --force', 'detach --hand-over',
                      'disconnect', 'connect', 'connect --discard-my-data', 'invalidate', 'invalidate --peer',
                      'verify', 'verify --stop', 'verify --repair', 'resize'):
            verb, *options = order.split()
            refused = _as_stranger(lab.a, verb, 't', *options)
            assert refused.returncode == 1, f'{order}: {refused}'
            for word in ('user 1000 may look', 'change nothing', 'as root'):
                assert word in refused.stderr, f'{order}: {refused.stderr}'
        assert (lab.a.status()['devices'], lab.a.generation()) == before
        assert lab.a.connection() == 'Connected' and lab.a.status()['role'] == 'Primary'
        crowd = subprocess.Popen([sys.executable, '-c', CROWD, control], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        assert crowd.stdout.readline() == '24\n', 'sixteen of the forty are served'
        lab.a.status()
        lab.a.rblk('disconnect', 't')
        crowd.communicate(timeout=10)
        lab.a.rblk('connect', 't')
        lab.synced()
        client.close()
        lab.finish()
