"""Verify: a bit that changed on one disk is found and repaired; beside load and broken links nothing else is."""

import json
import random
import time

from checker import Checker, Load
from lab import MIB, Lab, until

AT = 5 * MIB + 4096 + 77


def test_one_bit_is_found_from_either_side_and_repaired():
    with Lab() as lab:
        client = lab.start()
        client.write(0, random.randbytes(16 * MIB))
        client.flush()
        said = lab.a.rblk('verify', 't')
        assert 'both disks hold the same' in said.stdout, said.stdout
        _flip(lab.b, AT)
        for node in (lab.b, lab.a):
            said = node.rblk('verify', 't', check=False)
            assert said.returncode == 1 and '--repair' in said.stderr, (said.returncode, said.stderr)
            assert f'at byte {AT // 4096 * 4096}: 4.0 KiB' in said.stdout, said.stdout
            found = node.status()['rblk']['verify']
            assert found['differing-bytes'] == 4096 and found['unreadable-bytes'] == 0, found
            assert found['done-bytes'] == found['total-bytes'] == client.size, found
            assert 'verified at' in node.rblk('status', 't').stdout
            assert node.peer_device()['out-of-sync'] == 0, 'it is told, and nothing is decided'
        refused = lab.b.rblk('verify', 't', '--repair', '--found', check=False)
        assert refused.returncode == 1 and 'alpha is Primary' in refused.stderr, refused.stderr
        lab.a.rblk('verify', 't', '--repair', '--found')
        found = lab.a.status()['rblk']['verify']
        assert found['repair-bytes'] == found['repaired-bytes'] == 4096 and found['differing-bytes'] == 0, found
        again = lab.a.rblk('verify', 't', '--repair', '--found', check=False)
        assert again.returncode == 1 and 'rblk verify t' in again.stderr, again.stderr
        said = json.loads(lab.b.rblk('verify', 't', '--json').stdout)
        assert said['state'] == 'done' and said['differing-bytes'] == 0 and said['differences'] == [], said
        client.close()
        lab.finish()


def test_verify_and_repair_in_one():
    with Lab() as lab:
        client = lab.start()
        client.write(0, random.randbytes(MIB))
        client.flush()
        for at in range(0, MIB, 128 << 10):
            _flip(lab.b, at)
        said = lab.a.rblk('verify', 't', '--repair')
        assert '32.0 KiB differ' in said.stdout and '32.0 KiB copied' in said.stderr, (said.stdout, said.stderr)
        assert lab.a.rblk('verify', 't').returncode == 0
        client.close()
        lab.finish()


def test_load_cuts_and_a_killed_peer_are_no_difference():
    with Lab(mib=256, resource='peer-timeout-ms = 1000') as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=64 << 10, rate=800).start()
        time.sleep(1)
        rounds = 0
        for node in (lab.a, lab.b):
            node.rblk('verify', 't', '--no-wait')
            if node is lab.a:
                lab.network.cut()
                time.sleep(1.5)
                lab.network.heal()
                lab.b.kill()
                time.sleep(1)
                lab.b.attach()
                lab.synced()
            until('the verify is done', lambda: _done(node), 120)
            found = node.status()['rblk']['verify']
            assert found['differing-bytes'] == 0 and found['done-bytes'] == found['total-bytes'], found
            print(f'      {node.name}: {found["total-bytes"] / MIB:.0f} MiB in {found["duration-ms"]} ms')
            rounds += 1
        assert rounds == 2
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_it_ends_when_told_and_is_refused_alone():
    with Lab(mib=512) as lab:
        client = lab.start(b=('--faults', 'read-delay-ms=200'))
        lab.a.rblk('verify', 't', '--no-wait')
        busy = lab.a.rblk('verify', 't', check=False)
        assert busy.returncode == 1 and '--stop' in busy.stderr, busy.stderr
        assert 'verify [' in lab.a.rblk('status', 't').stdout
        lab.a.rblk('verify', 't', '--stop')
        found = lab.a.status()['rblk']['verify']
        assert found['state'] == 'stopped' and found['done-bytes'] < found['total-bytes'], found
        lab.b.kill()
        until('the loss is noticed', lambda: lab.a.connection() == 'Connecting', 10)
        alone = lab.a.rblk('verify', 't', check=False)
        assert alone.returncode == 1 and 'beta is not connected' in alone.stderr, alone.stderr
        client.close()


def _flip(node, at):
    """One bit of the disk, behind the daemon's back."""
    with open(node.disk, 'r+b', buffering=0) as disk:
        disk.seek(at)
        byte = disk.read(1)[0]
        disk.seek(at)
        disk.write(bytes([byte ^ 4]))


def _done(node):
    return node.status()['rblk']['verify']['state'] == 'done'
