"""Two Primaries: both write to the same sectors, are cut from each other, die and come back. Real daemons, real
sockets; what each client may read is checked against what both have written."""

import contextlib
import random
import time

from checker import Checker, Load
from lab import MIB, Lab, until

DUAL = 'dual-primary = true\npeer-timeout-ms = 1500\n'
SECTOR = 512


@contextlib.contextmanager
def two_primaries(resource=''):
    """Both nodes UpToDate and Primary; the lab, and a client of each."""
    with Lab(mib=64, resource=DUAL + resource) as lab:
        clients = [lab.start(b=('--primary',)), lab.b.client()]
        yield lab, clients


def loads(clients, checker, **options):
    """The same checked load at both."""
    return [Load(client, checker, random.getrandbits(32), **options).start() for client in clients]


def finish(lab, clients, checker, settle=False):
    """Both see the same on their own devices and disks, and it is what was written."""
    for client in clients:
        assert not (faults := checker.check_device(client, settle)), faults[0]
        client.close()
    lab.finish(checker)


def test_two_hammer_the_same_sectors():
    with two_primaries() as (lab, clients):
        checker = Checker(clients[0].size, unit=SECTOR)
        events = lab.a.watch()
        both = loads(clients, checker, depth=24, largest=16 * SECTOR, region=(MIB, MIB + 64 * SECTOR),
                     mix={'write': 80, 'read': 10, 'fua': 5, 'flush': 3, 'zero': 2})
        time.sleep(30)
        for load in both:
            load.stop().expect_clean()
        print('      requests at each: ' + ', '.join(str(load.count) for load in both))
        assert lab.a.connection() == 'Connected'
        finish(lab, clients, checker)
        said = events.read()
        lost = [line for line in said.splitlines() if 'connection:' in line and 'Connecting' in line]
        assert len(lost) <= 1, f'the nodes parted: {lost}'  # the goodbye at the end


def test_twenty_random_cuts_leave_no_trace():
    with two_primaries() as (lab, clients):
        before = lab.a.generation()
        checker = Checker(clients[0].size, unit=SECTOR)
        both = loads(clients, checker, largest=64 * SECTOR, rate=400)
        for _ in range(20):
            time.sleep(random.uniform(0.1, 1.0))
            lab.network.cut()
            length = random.choice([random.uniform(0.2, 2), random.uniform(2, 5)])
            time.sleep(length)
            lab.network.heal()
            healed = time.monotonic()
            until('requests are answered', lambda: min(load.ends[-1][0] for load in both) > healed, 20)
        stall = max(load.longest_gap() for load in both)
        for load in both:
            load.stop().expect_clean()
        print(f'      longest stall {stall:.2f} s in cuts of up to 5 s')
        lab.synced()
        for node in lab.nodes:
            assert node.status()['role'] == 'Primary'
            assert node.generation() == before, 'a short cut left a trace'
        finish(lab, clients, checker)


def test_of_two_that_are_parted_one_goes_on_and_the_other_rejoins():
    with two_primaries('on-peer-lost = "prefer"\nprefer = "alpha"\nride-through-s = 5') as (lab, clients):
        checker = Checker(clients[0].size, unit=SECTOR)
        both = loads(clients, checker, largest=64 * SECTOR, rate=400)
        time.sleep(1)
        cut = time.monotonic()
        lab.network.cut()
        time.sleep(20)
        assert both[0].completions(cut + 8, cut + 20) > 0, 'nobody goes on'
        assert both[1].completions(cut + 2, cut + 20) == 0, 'both go on'
        print(f'      the preferred node stalled for {both[0].longest_gap(cut):.2f} s')
        lab.network.heal()
        until('the other learns that it is behind',
              lambda: any('went on without' in why for why in lab.b.status()['rblk']['why']['suspended']), 30)
        until('its requests fail', lambda: both[1].errors, 20)
        both[1].stop()
        clients[1].close()
        until('it is resynced by itself', lambda: lab.b.status()['devices'][0]['disk-state'] == 'UpToDate'
              and lab.b.connection() == 'Connected', 60)
        until('it is Primary again', lambda: lab.b.status()['role'] == 'Primary', 20)
        clients[1] = lab.b.client()
        both[0].stop().expect_clean()
        lab.synced()
        finish(lab, clients, checker, settle=True)


def test_a_killed_daemon_is_primary_again_beside_the_other():
    with two_primaries() as (lab, clients):
        before = lab.a.generation()
        checker = Checker(clients[0].size, unit=SECTOR)
        both = loads(clients, checker, largest=64 * SECTOR, rate=400)
        for _ in range(4):
            time.sleep(random.uniform(0.5, 1.5))
            killed = time.monotonic()
            lab.b.kill()
            both[1].stop()
            lab.b.attach('--primary')
            clients[1] = lab.b.client()
            both[1] = loads(clients[1:], checker, largest=64 * SECTOR, rate=400)[0]
            until('the other goes on', lambda: both[0].ends[-1][0] > killed + 0.2, 20)
        print(f'      the other stalled for {both[0].longest_gap():.2f} s at most')
        for load in both:
            load.stop().expect_clean()
        lab.synced()
        assert lab.a.generation() == before, 'a restart within the ride-through left a trace'
        finish(lab, clients, checker, settle=True)
