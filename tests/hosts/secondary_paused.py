"""The secondary hangs with its connections open, or vanishes without a reset: one stall of at most 5 s at the
default, 2 s when so configured, then writes go on; on its return only the difference is copied."""

import random
import time

from apart import expect_only_difference
from checker import Checker, Load
from lab import Lab


def test_paused_for_a_minute():
    _stalls_once('', 5.0, 60, lambda lab: lab.b.pause(), lambda lab: lab.b.resume())


def test_cut_off_with_a_short_timeout():
    _stalls_once('peer-timeout-ms = 1500', 2.0, 12, lambda lab: lab.network.cut(),
                 lambda lab: lab.network.heal())


def test_paused_with_a_short_timeout():
    _stalls_once('peer-timeout-ms = 1500', 2.0, 12, lambda lab: lab.b.pause(), lambda lab: lab.b.resume())


def _stalls_once(resource, stall_max, seconds, break_it, mend_it):
    with Lab(mib=256, resource=resource) as lab:
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=16 << 10, rate=500).start()
        time.sleep(3)
        fault = time.monotonic()
        break_it(lab)
        time.sleep(seconds)
        load.expect_clean()
        stalls = [gap for ended, gap, _ in load.ends if ended > fault and gap > 0.9]
        assert len(stalls) <= 1, f'more than one stall: {stalls}'
        stall, slowest = load.longest_gap(fault), load.slowest(fault)
        assert stall <= stall_max, f'a stall of {stall:.2f} s'
        assert slowest <= stall_max, f'a request took {slowest:.2f} s'
        went_on = load.completions(fault + stall_max, fault + seconds)
        assert went_on > (seconds - stall_max) * 50, f'only {went_on} requests after the stall'
        returns = time.monotonic()
        mend_it(lab)
        figures = expect_only_difference(lab, load, fault, fault + stall_max, returns)
        load.stop().expect_clean()
        client.close()
        print(f'      longest stall {stall:.2f} s, slowest request {slowest:.2f} s; {figures}')
        lab.finish(checker)
