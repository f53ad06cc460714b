"""The Primary's daemon is killed under load and started again: only extents of the activity log and dirty
blocks are copied, and no acknowledged write is missing on either node."""

import random
import signal
import time

from checker import Checker, Load
from lab import MIB, Lab, until

EXTENT = 4 * MIB
REGION = 16 * MIB       # four extents of the sixty-four


def test_primary_killed_and_restarted():
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)
        for _ in range(3):
            client = _kill_under_load(lab, client, checker, lambda: lab.a.kill(), [lab.a])
        client.close()
        lab.finish(checker)


def test_both_killed_and_restarted():
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)

        def kill_both():
            for node in lab.nodes:
                node.daemon.signal(signal.SIGKILL)
            for node in lab.nodes:
                node.kill()
        for _ in range(3):
            client = _kill_under_load(lab, client, checker, kill_both, [lab.b, lab.a])
        client.close()
        lab.finish(checker)


def test_small_writes_survive_too():
    """Half of the blocks are written in part: sectors are tracked, not only blocks."""
    with Lab(mib=64) as lab:
        client = lab.start()
        checker = Checker(client.size, unit=512)
        client = _kill_under_load(lab, client, checker, lambda: lab.a.kill(), [lab.a])
        client.close()
        lab.finish(checker)


def _kill_under_load(lab, client, checker, kill, restarted):
    low = random.randrange(0, checker.size - REGION, EXTENT)
    load = Load(client, checker, random.getrandbits(32), depth=32, region=(low, low + REGION)).start()
    time.sleep(random.uniform(2, 4))
    load.expect_clean()
    kill()
    until('the load notices', lambda: client.lost, 10)
    load.stop()
    assert not load.faults, load.faults[0]
    client.close()
    for node in restarted:
        node.attach(*(['--primary'] if node is lab.a else []))
    lab.synced()
    copied = max(node.status()['rblk']['resync']['since-connect-bytes'] for node in lab.nodes)
    print(f'      {copied / MIB:.2f} MiB resynced of {checker.size // MIB} MiB, {REGION // MIB} MiB active')
    assert copied <= REGION + EXTENT, f'{copied / MIB:.1f} MiB resynced of {REGION // MIB} MiB active'
    client = lab.a.client()
    faults = checker.check_device(client, settle=True)
    assert not faults, f'{len(faults)} faults, first: {faults[0]}'
    return client
