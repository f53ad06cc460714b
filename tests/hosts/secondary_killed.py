"""The secondary is killed under load: no client error, no stall over a second; on its return only what was
written meanwhile is copied."""

import random
import time

from apart import expect_only_difference
from checker import Checker, Load
from lab import Lab

STALL_MAX = 1.0


def test_writes_go_on_without_the_secondary():
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=16 << 10, rate=2000).start()
        time.sleep(3)
        for _ in range(2):
            fault = time.monotonic()
            lab.b.kill()
            time.sleep(5)
            load.expect_clean()
            assert load.completions(fault + STALL_MAX, fault + 5) > 0, 'nothing is written any more'
            returns = time.monotonic()
            lab.b.attach()
            figures = expect_only_difference(lab, load, fault, fault + STALL_MAX, returns)
            stall, slowest = load.longest_gap(fault), load.slowest(fault)
            print(f'      longest stall {stall:.3f} s, slowest request {slowest:.3f} s; {figures}')
            assert stall <= STALL_MAX, f'a stall of {stall:.2f} s'
            assert slowest <= STALL_MAX, f'a request took {slowest:.2f} s'
            time.sleep(1)
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_secondary_killed_during_its_resync():
    """The resync does not start over, and nothing is taken for done that is not."""
    with Lab(mib=256) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=1000).start()
        lab.b.kill()
        time.sleep(4)
        for _ in range(5):
            lab.b.attach(ready=False)
            time.sleep(random.uniform(0.05, 1.0))
            lab.b.kill()
        lab.b.attach()
        lab.synced()
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)
