"""OCFS2 mounted on two Primaries: load on both, a cut cable, a power cut; at the end it is sound, the disks equal."""
import os
import random
import time

import ocfs2
from dual import DUAL, begin, both_primary, generation, link
from probe import probe, probed
from volume import attach, compare_disks, device, prepare, status

LAB = {'guests': 2, 'disks_mb': (320,)}
FRESH = True
LONG = True

PROBED = f'{ocfs2.PLACE}/probe'
RIDE_THROUGH_SECONDS = 15


def test_a_file_of_one_is_read_on_the_other(lab):
    one, two = lab.guests
    devices = begin(lab)
    one.sh(ocfs2.MKFS + devices[0], timeout=300)
    for guest, path in zip(lab.guests, devices):
        ocfs2.mount_by_hand(guest, path)
    one.sh(f'echo from-n1 > {ocfs2.PLACE}/x')
    assert two.sh(f'cat {ocfs2.PLACE}/x') == 'from-n1\n'


def test_both_work(lab):
    ocfs2.both_work(lab, 300 if lab.long else int(os.environ.get('RBLK_DIPOLE_SECONDS', '30')))


def rides_through(lab, lengths):
    """Cuts of these lengths under load: nothing parts, nobody mounts anew, nobody waits 2 s longer than the cut."""
    before = [generation(guest) for guest in lab.guests]
    mounts = [ocfs2.mount_number(guest) for guest in lab.guests]
    for length in lengths:
        jobs = [(guest, probe(guest, length + 15, f'{PROBED}.{guest.name}')) for guest in lab.guests]
        time.sleep(6)
        link(lab, False)
        time.sleep(length)
        link(lab, True)
        for guest, job in jobs:
            longest, errors = probed(guest, job, f'cable cut for {length:.1f} s')
            assert errors == 0 and longest < length + 2, f'{guest.name}: {errors} errors, {longest} s'
    both_primary(lab)
    assert [generation(guest) for guest in lab.guests] == before, 'the data parted'
    assert [ocfs2.mount_number(guest) for guest in lab.guests] == mounts, 'it was mounted anew'


def test_a_cut_of_ten_seconds_leaves_no_trace(lab):
    rides_through(lab, [10])


def test_random_cuts_leave_no_trace(lab):
    rides_through(lab, [random.uniform(0.2, 12) for _ in range(20 if lab.long else 1)])


def test_after_a_power_cut_the_other_goes_on_and_the_dead_one_returns(lab):
    one, two = lab.guests
    ocfs2.writes(two, 200, 'dying')
    job = probe(one, 40, f'{PROBED}.{one.name}')
    time.sleep(8)
    two.kill()
    longest, errors = probed(one, job, 'power of n2 cut')
    assert errors == 0 and longest < RIDE_THROUGH_SECONDS + 1, longest
    two.start()
    prepare(lab, two, resource=DUAL)
    attach(two)
    both_primary(lab)
    ocfs2.mount_by_hand(two, device(two))
    confirmed = ocfs2.synced(two, 'dying')
    for guest in lab.guests:
        lines = int(guest.sh(f'wc -l < {ocfs2.PLACE}/dying'))
        assert lines >= confirmed > 0, f'{guest.name} has {lines} lines of {confirmed} that were synced'
    copied = status(one)['rblk']['resync']['since-connect-bytes'] / (1 << 20)
    print(f'    {confirmed} lines were synced before, and are there; {copied:.1f} MiB were resynced')


def test_it_ends_sound_and_equal(lab):
    for guest in lab.guests:
        guest.sh(f'umount {ocfs2.PLACE}', timeout=120)
    ocfs2.is_sound(lab.guests[0], device(lab.guests[0]))
    compare_disks(lab)
