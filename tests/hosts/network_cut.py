"""The network is cut: writes go on after at most one stall, and on return only the difference is copied."""

import random
import time

from apart import expect_only_difference
from checker import Checker, Load
from lab import MIB, Lab

STALL_MAX = 5.0


def test_cut_of_thirty_seconds():
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=16 << 10, rate=1000).start()
        time.sleep(2)
        fault = time.monotonic()
        lab.network.cut()
        time.sleep(30)
        load.expect_clean()
        assert load.completions(fault + STALL_MAX + 1, fault + 30) > 0, 'nothing is written any more'
        returns = time.monotonic()
        lab.network.heal()
        figures = expect_only_difference(lab, load, fault, fault + STALL_MAX, returns)
        stall, slowest = load.longest_gap(fault), load.slowest(fault)
        print(f'      longest stall {stall:.2f} s, slowest request {slowest:.2f} s; {figures}')
        assert stall <= STALL_MAX, f'a stall of {stall:.2f} s'
        assert slowest <= STALL_MAX, f'a request took {slowest:.2f} s'
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_ten_random_cuts_in_a_minute():
    with Lab(mib=256, resource='peer-timeout-ms = 1000') as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=1000).start()
        begun = time.monotonic()
        cuts = [lab.network.cut, lambda: lab.network.cut_towards('a'), lambda: lab.network.cut_towards('b')]
        for _ in range(10):
            random.choice(cuts)()
            time.sleep(random.uniform(0.1, 4.0))
            lab.network.heal()
            time.sleep(random.uniform(0.1, 1.8))
        assert time.monotonic() - begun < 75
        load.expect_clean()
        lab.synced()
        status = lab.a.status()['rblk']
        copied, written = status['resync']['since-connect-bytes'], status['written-apart-bytes']
        load.stop().expect_clean()
        stall = load.longest_gap(begun)
        print(f'      longest stall {stall:.2f} s with a timeout of 1 s; after the last cut '
              f'{copied / MIB:.2f} MiB resynced, {written / MIB:.2f} MiB written apart')
        assert stall <= STALL_MAX and copied <= written
        client.close()
        lab.finish(checker)


def test_short_cut_leaves_no_trace():
    """A flap that TCP bridges by itself diverges nothing: the generation stays."""
    with Lab() as lab:
        client = lab.start()
        before = lab.a.generation()
        client.write(0, bytes([1]) * 4096)
        lab.network.cut()
        time.sleep(0.5)
        lab.network.heal()
        client.write(4096, bytes([2]) * 4096)
        lab.synced()
        assert lab.a.generation() == before, 'a new generation without divergence'
        client.close()
        lab.finish()


def test_idle_cut_leaves_no_trace():
    """Nothing is written while apart: same generation, nothing to copy."""
    with Lab(resource='peer-timeout-ms = 1000') as lab:
        client = lab.start()
        client.write(0, bytes([1]) * 4096, fua=True)
        time.sleep(2)       # longer than an idle flush
        before = lab.a.generation()
        lab.network.cut()
        time.sleep(4)
        lab.network.heal()
        lab.synced()
        assert lab.a.generation() == before, 'a new generation without divergence'
        assert lab.a.status()['rblk']['resync']['since-connect-bytes'] == 0
        client.close()
        lab.finish()
