"""`rblk resize`: disks grow below a volume in use, metadata follows their end, the volume follows both disks."""

import os
import random
import signal
import subprocess

from checker import Checker, Load
from lab import MIB, Lab, until


def test_a_volume_grows_under_load():
    with Lab(mib=64) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), depth=8, rate=2000).start()
        for node in lab.nodes:
            _grow(node, 160)
        _refused(lab.b, 'beta has no room', 'systemctl restart rblk@t')
        _refused(lab.a, 'this node is Primary', 'rblk resize t')

        # First the Secondary, then the Primary: one of them without a word.
        lab.b.detach()
        _moves(lab.b)
        lab.synced()
        _refused(lab.b, 'alpha has no room')
        load.expect_clean()
        lab.a.daemon.signal(signal.SIGKILL)
        until('the load notices', lambda: client.lost, 10)
        load.stop()
        lab.a.daemon.kill()
        client.close()
        _moves(lab.a, '--primary')
        lab.synced()
        client = lab.a.client()
        assert client.size == checker.size, 'not without an order'

        load = Load(client, checker, random.getrandbits(32), depth=8, rate=2000).start()
        said = lab.b.rblk('resize', 't').stderr
        assert 'has grown from 6' in said and 'on both nodes' in said, said
        load.expect_clean()
        lab.synced()
        load.stop()
        assert not load.faults and not load.errors, (load.faults + load.errors)[0]
        _ends_well(lab, client, checker)


def test_what_differed_before_differs_after():
    """Bits, and the extents that a crash leaves in the log, move with the rest."""
    with Lab(mib=64) as lab:
        client = lab.start()
        checker = Checker(client.size)
        lab.b.kill()
        load = Load(client, checker, random.getrandbits(32), depth=8, region=(8 * MIB, 12 * MIB)).start()
        until('some of it is written', lambda: load.bytes_written(0, float('inf')) > 2 * MIB, 30)
        lab.a.kill()
        load.stop()
        client.close()
        for node in lab.nodes:
            _grow(node, 256)
        _moves(lab.a, '--primary')
        before = lab.a.status()['connections'][0]['peer_devices'][0]['out-of-sync']
        assert 1024 <= before <= 20 * 1024, f'{before} KiB out of sync'
        _moves(lab.b)
        lab.synced()
        copied = lab.a.status()['rblk']['resync']['since-connect-bytes']
        assert copied <= 20 * MIB, f'{copied} bytes copied'
        client = lab.a.client()
        lab.b.rblk('resize', 't')
        lab.synced()
        _ends_well(lab, client, checker)


def test_a_node_that_is_away_catches_up():
    """The Primary is killed as soon as the other one has the new size: whatever it has on record then, it grows."""
    with Lab(mib=64) as lab:
        for node in lab.nodes:
            node.create('--in-sync')
            _grow(node, 96)
        lab.b.attach()
        lab.a.attach('--primary')
        lab.synced()
        # Never agreed on before: the larger disks are the volume.
        client = lab.a.client()
        assert client.size > 90 * MIB
        checker = Checker(60 * MIB)
        for node in lab.nodes:
            _grow(node, 160)
        lab.a.kill()
        until('it notices', lambda: lab.b.status()['connections'][0]['connection-state'] != 'Connected', 20)
        _refused(lab.b, 'alpha is not connected')
        _moves(lab.a, '--primary')
        lab.synced()
        lab.b.detach()
        _moves(lab.b)
        lab.synced()
        client.close()
        order = lab.b.command('resize', 't')
        with subprocess.Popen(order, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until('it has the size', lambda: lab.b.status()['devices'][0]['size'] > 150 * 1024, 20)
            lab.a.kill()
            process.wait(30)
        lab.a.attach('--primary')
        lab.synced()
        assert lab.b.status()['devices'][0]['size'] * 1024 == lab.volume_bytes()
        client = lab.a.client()
        _ends_well(lab, client, checker)


def _grow(node, mib):
    """The disk is larger, and what is added holds anything."""
    before = os.path.getsize(node.disk)
    with open(node.disk, 'r+b') as disk:
        disk.truncate(mib * MIB)
        for at in range(before, mib * MIB, 4 * MIB):
            disk.seek(at)
            disk.write(random.randbytes(64 << 10))


def _moves(node, *options):
    node.attach(*options)
    until('it is told', lambda: 'the disk has grown from' in node.daemon.words(), 10)
    until('all copies are there', lambda: node.rblk('dump-meta', node.disk, check=False).returncode == 0, 10)


def _refused(node, *parts):
    result = node.rblk('resize', 't', check=False)
    assert result.returncode == 1, result
    for part in parts:
        assert part in result.stderr, f'{part!r} in {result.stderr}'


def _ends_well(lab, client, checker):
    """A client that comes now sees all of it, uses its end, and both disks are equal."""
    client.close()
    client = lab.a.client()
    assert client.size == lab.volume_bytes() == lab.data_bytes() > checker.size
    _refused(lab.b, 'beta has no room')
    tail = random.randbytes(64 << 10)
    client.write(client.size - len(tail), tail, fua=True)
    assert client.read(client.size - len(tail), len(tail)) == tail
    faults = checker.check_device(client, settle=True)
    assert not faults, f'{len(faults)} faults, first: {faults[0]}'
    lab.compare_running()
    client.close()
    lab.finish(checker)
