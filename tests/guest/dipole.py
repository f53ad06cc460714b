"""OCFS2 mounted on both servers, from DRBD's configuration: two Primaries, systemd, cuts, restarts, a power cut."""
import os
import random
import time

import swarm
from ocfs2 import CLUSTER, MKFS, PLACE, both_work, is_sound, mount_number, writes
from probe import probe, probed
from units import keep, until
from volume import compare_detached
from writer import synced

LAB = {'guests': 2, 'disks_mb': (400,), 'systemd': True}
FRESH = True
LONG = None

PROBED = f'{PLACE}/probe'
FSTAB = (f'/dev/rblk/swarm {PLACE} ocfs2 noauto,_netdev,noatime,x-systemd.automount,'
         'x-systemd.requires=o2cb.service 0 0')


def mounted_by_access(guest, seconds=240):
    """Whoever looks into it finds it mounted."""
    until(guest, f'ls {PLACE} > /dev/null && findmnt -t ocfs2 {PLACE}', seconds)


def probe_both(lab, seconds):
    """A probe on each, each with a file of its own."""
    return [(guest, probe(guest, seconds, f'{PROBED}.{guest.name}')) for guest in lab.guests]


def probed_both(jobs, what, limit):
    """No error, and nobody waited longer than this."""
    for guest, job in jobs:
        longest, errors = probed(guest, job, what)
        assert errors == 0 and longest < limit, f'{guest.name}: {errors} errors, {longest} s of at most {limit}'


def test_the_configuration_of_drbd_drives_it(lab):
    for guest in lab.guests:
        swarm.configure(guest)
        guest.sh(f"printf '%s' '{CLUSTER}' > /etc/ocfs2/cluster.conf; echo '{FSTAB}' >> /etc/fstab\n"
                 'sed -i s/ENABLED=false/ENABLED=true/ /etc/default/o2cb; systemctl daemon-reload\n'
                 'systemctl enable o2cb')
        keep(guest)
        guest.sh('cd /; cp -a --parents etc/ocfs2 etc/default/o2cb /host/.lab/root/; systemctl start o2cb')
    swarm.start(*lab.guests)
    swarm.both_primary(lab)


def test_a_file_of_one_is_read_on_the_other(lab):
    one, two = lab.guests
    until(one, 'systemctl is-active dev-rblk-swarm.device')
    one.sh(MKFS + swarm.DEVICE, timeout=300)
    for guest in lab.guests:
        guest.sh('systemctl start srv-swarm.automount')
        mounted_by_access(guest)
    one.sh(f'echo from-n1 > {PLACE}/x')
    assert two.sh(f'cat {PLACE}/x') == 'from-n1\n'


def test_both_work(lab):
    both_work(lab, 300 if lab.long else int(os.environ.get('RBLK_DIPOLE_SECONDS', '30')))


def test_a_restart_of_the_daemon_is_a_wait_and_no_error(lab):
    before = [mount_number(guest) for guest in lab.guests]
    for restarted in lab.guests:
        jobs = probe_both(lab, 12)
        time.sleep(4)
        restarted.sh('systemctl restart rblk@swarm', timeout=120)
        probed_both(jobs, f'restart on {restarted.name}', 10)
        swarm.both_primary(lab)
    assert [mount_number(guest) for guest in lab.guests] == before


def rides_through(lab, lengths):
    """Cuts of these lengths under load: nothing parts, nobody mounts anew, nobody waits 2 s longer than the cut."""
    before = [swarm.generation(guest) for guest in lab.guests]
    mounts = [mount_number(guest) for guest in lab.guests]
    for length in lengths:
        jobs = probe_both(lab, length + 8)
        time.sleep(3)
        swarm.cut(lab)
        time.sleep(length)
        swarm.heal(lab)
        probed_both(jobs, f'cable cut for {length:.1f} s', length + 2)
    swarm.both_primary(lab)
    assert [swarm.generation(guest) for guest in lab.guests] == before
    assert [mount_number(guest) for guest in lab.guests] == mounts


def test_a_cut_of_ten_seconds_leaves_no_trace(lab):
    rides_through(lab, [10])


def test_twenty_random_cuts_leave_no_trace(lab):
    rides_through(lab, [random.uniform(0.2, 12) for _ in range(20 if lab.long else 2)])


def test_after_a_power_cut_the_other_goes_on_and_the_dead_one_returns(lab):
    one, two = lab.guests
    job = probe(one, 35, f'{PROBED}.{one.name}')
    writes(two, 60, 'dying')
    time.sleep(8)
    two.kill()
    longest, errors = probed(one, job, 'power of n2 cut')
    assert errors == 0 and longest < 16, longest
    two.start()
    swarm.both_primary(lab)
    mounted_by_access(two)
    confirmed = synced(two, 'dying')
    for guest in lab.guests:
        lines = guest.sh(f'wc -l < {PLACE}/dying')
        assert int(lines) >= confirmed > 0, f'{guest.name} has {lines} lines of {confirmed} that were synced'
    copied = swarm.status(one)['rblk']['resync']['since-connect-bytes'] >> 20
    print(f'    {confirmed} lines were synced before, and are there; {copied} MiB were resynced')


def test_it_ends_clean_and_equal(lab):
    one, _ = lab.guests
    for guest in lab.guests:
        guest.sh(f'systemctl stop srv-swarm.automount; umount {PLACE}; ! findmnt -t ocfs2 {PLACE}', timeout=120)
    is_sound(one, swarm.DEVICE)
    for guest in lab.guests:
        guest.sh('systemctl stop rblk@swarm', timeout=120)
    compare_detached(lab)
