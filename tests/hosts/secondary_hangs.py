"""The secondary's disk hangs while its daemon lives and answers: one stall of at most 5 s, then writes go on, however
often the two greet. After disk-timeout that disk is given up, and both say so."""

import random
import time

from checker import Checker, Load
from lab import Lab, until

STALL_MAX = 5.0
OPERATIONS = 2500           # of its disk, then nothing ends any more: some seconds of the load below


def test_a_disk_that_hangs_stalls_once():
    with Lab(resource='disk-timeout-ms = 15000') as lab:
        client = lab.start(b=('--faults', f'hang-after={OPERATIONS}'))
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=16 << 10, rate=500).start()
        until('the link is lost', lambda: lab.a.connection() == 'Connecting', 60)
        lost = time.monotonic()
        time.sleep(6)
        why = lab.b.rblk('explain', lab.b.resource).stdout
        assert "this node's disk has not ended what it was given" in why, why
        why = lab.a.rblk('explain', lab.a.resource).stdout
        assert 'has not said what its data is' in why, why
        until('it is given up', lambda: lab.a.peer_device()['peer-disk-state'] == 'Diskless', 30)
        time.sleep(10)
        load.expect_clean()
        stalls = [gap for ended, gap, _ in load.ends if gap > 0.9]
        assert len(stalls) == 1, f'not one stall: {stalls}'
        stall, slowest = load.longest_gap(), load.slowest()
        assert stall <= STALL_MAX, f'a stall of {stall:.2f} s'
        assert slowest <= STALL_MAX, f'a request took {slowest:.2f} s'
        ended = time.monotonic()
        went_on = load.completions(lost, ended)
        assert went_on > (ended - lost) * 50, f'only {went_on} requests after the stall'
        lab.b.kill()
        lab.b.attach()
        lab.synced()
        load.stop().expect_clean()
        client.close()
        print(f'      longest stall {stall:.2f} s, slowest request {slowest:.2f} s, {went_on} requests after it')
        lab.finish(checker)
