"""A ZFS pool on rblk follows the role, and loses nothing in ten failovers by power cut under load; scrubs are clean."""
import json
import random
import time

from units import journal, until
from volume import CONFIG, compare_detached, wait_for
from writer import synced

LAB = {'guests': 2, 'disks_mb': (320,), 'systemd': True, 'zfs': True}
FRESH = True
LONG = True

FAILOVERS = 10
DEVICE = '/dev/rblk/vol'
PLACE = '/srv/vol'
# Appends a line, syncs it, and says so outside the volume, until the power is cut.
WRITER = r'''
import os, sys
name = sys.argv[1]
data = os.open(f'/srv/vol/{name}', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
told = os.open(f'/host/{name}', os.O_CREAT | os.O_WRONLY)
for count in range(10**8):
    os.write(data, b'%08d\n' % count)
    os.fsync(data)
    os.pwrite(told, b'%08d\n' % (count + 1), 0)
'''
FIO = (f'fio --name=load --directory={PLACE} --size=8M --rw=randwrite --bs=8k --ioengine=psync --fsync=16 '
       '--time_based --runtime=600')
# A label's state: 0 is a pool that somebody uses, or used when his power was cut.
EXPORTED = 'state: 1'


def configure(guest):
    """What an administrator does once on each server, after scripts/install."""
    guest.sh(f"set -e; cat > /etc/rblk/vol.toml << 'END'\n{CONFIG}END\n"
             f'mkdir -p {PLACE}; zgenhostid -f 0000000{guest.number}; rblk create vol --in-sync; '
             'systemctl enable rblk.target rblk@vol')
    keep(guest)


def keep(guest):
    """The administrator's files are there again after a boot; ZFS tells hosts apart by the last one."""
    guest.sh('cd /; cp -a --parents etc/rblk etc/systemd/system etc/hostid /host/.lab/root/')


def imported(guest, seconds=180):
    """Waits until the pool is here, and its file system mounted."""
    until(guest, f'systemctl is-active rblk-zfs@vol && findmnt -t zfs {PLACE}', seconds)


def label_state(guest):
    """What the labels on the disk below say, wherever the pool is."""
    return guest.sh('zdb -l /dev/vdb | grep -o -m 1 "state: ."').strip()


def test_a_pool_is_made_on_the_primary(lab):
    one, two = lab.guests
    for guest in lab.guests:
        configure(guest)
        said = guest.sh('systemd-analyze verify /usr/local/lib/systemd/system/rblk-zfs@vol.service')
        assert 'rblk' not in said, said
    for guest, job in [(guest, guest.bg('systemctl start rblk.target rblk@vol')) for guest in lab.guests]:
        guest.join(job)
    wait_for(one, 'synced')
    one.sh('systemctl enable --now rblk-primary@vol')
    until(one, f'test -b {DEVICE}')
    one.sh(f'set -e; zpool create -o cachefile=none -O mountpoint={PLACE} -O atime=off vol {DEVICE}; '
           f'systemctl enable --now rblk-zfs@vol; echo kept > {PLACE}/file; sync {PLACE}/file')
    two.sh('systemctl enable rblk-zfs@vol')
    for guest in lab.guests:
        keep(guest)
    print('    ' + one.sh('zfs version; uname -r').strip().replace('\n', ', '))
    assert 'no pools' in two.sh('zpool list', check=False)


def test_demote_refuses_while_the_pool_is_imported(lab):
    one, _ = lab.guests
    answer = one.result(one.bg('rblk demote vol'))
    print('    ' + ' / '.join(line.strip() for line in answer.output.splitlines()))
    assert answer.status == 1 and 'a ZFS pool' in answer.output, answer.output
    imported(one)


def test_a_restart_of_the_daemon_is_a_wait_for_the_pool(lab):
    one, _ = lab.guests
    writes(one, 'restarts')
    for how in ('systemctl restart rblk@vol', 'systemctl kill --signal=KILL --kill-whom=main rblk@vol'):
        before = synced(one, 'restarts')
        one.sh(how)
        until_synced(one, 'restarts', before + 20)
    one.sh('systemctl stop writer')
    wait_for(one, 'synced', 120)
    is_sound(one)
    said = one.sh('zdb -l /dev/vdb | grep -m 1 ashift; zpool trim -w vol && zpool status -t vol | grep trim',
                  check=False)
    print('    ' + ', '.join(' '.join(line.split()) for line in said.strip().splitlines()))


def test_the_pool_moves_with_the_role(lab):
    one, two = lab.guests
    began = time.monotonic()
    one.sh('systemctl stop rblk-primary@vol')
    assert 'no pools' in one.sh('zpool list', check=False)
    assert label_state(two) == EXPORTED
    two.sh('systemctl start rblk-primary@vol')
    imported(two)
    print(f'    moved in {time.monotonic() - began:.1f} s')
    assert two.sh(f'cat {PLACE}/file') == 'kept\n'
    two.sh('systemctl stop rblk-primary@vol')
    one.sh('systemctl start rblk-primary@vol')
    imported(one)


def test_a_shutdown_exports_and_a_boot_imports(lab):
    one, two = lab.guests
    writes(one, 'shutdown')
    one.end()
    assert label_state(two) == EXPORTED, two.sh('zdb -l /dev/vdb')
    one.start()
    imported(one)
    has_what_was_synced(one, one, 'shutdown')
    # From here on the tests say where it is.
    one.sh('systemctl disable rblk-primary@vol; '
           'rm /host/.lab/root/etc/systemd/system/rblk.target.wants/rblk-primary@vol.service')
    keep(one)


def test_failovers_by_power_cut_lose_nothing(lab):
    active, other = lab.guests
    for number in range(FAILOVERS):
        wait_for(active, 'synced', 300)
        writes(active, f'lines.{number}')
        load = active.bg(FIO, timeout=900)
        time.sleep(random.uniform(6, 14))
        assert not active.done(load), active.join(load)
        active.kill()
        cut = time.monotonic()
        took = takes_over(other)
        lines = has_what_was_synced(other, active, f'lines.{number}')
        writes(other, f'after.{number}')
        works = time.monotonic() - cut
        resync = comes_back(active, other)
        print(f'    failover {number + 1}: {other.name} was Primary {took[0]:.1f} s after the cut, had the pool after '
              f'{took[1]:.1f} s, wrote after {works:.1f} s; {lines} synced lines are there; {resync}', flush=True)
        other.sh('systemctl stop writer')
        active, other = other, active
    for number in range(FAILOVERS):
        for name in (f'lines.{number}', f'after.{number}'):
            writer = next(guest for guest in lab.guests if synced(guest, name))
            has_what_was_synced(active, writer, name)


def takes_over(guest):
    """What an administrator does who knows that the other is down; when it was Primary, and when it had the pool."""
    began = time.monotonic()
    until(guest, 'rblk promote vol --force', 60)
    primary = time.monotonic() - began
    imported(guest)
    return primary, time.monotonic() - began


def comes_back(dead, active):
    """The machine boots by itself into a copy that is whole again, and leaves the pool alone."""
    began = time.monotonic()
    dead.start()
    booted = time.monotonic() - began
    until(dead, 'rblk wait vol synced --timeout 100', 300)
    synced_after = time.monotonic() - began - booted
    assert 'role:Secondary' in dead.sh('rblk status vol') and 'no pools' in dead.sh('zpool list', check=False)
    copied = json.loads(active.sh('rblk status vol --json'))[0]['rblk']['resync']['since-connect-bytes'] / (1 << 20)
    return f'{dead.name} booted in {booted:.0f} s, was in sync {synced_after:.1f} s later, {copied:.1f} MiB were copied'


def test_scrubs_are_clean_on_both_and_the_disks_equal(lab):
    active = next(guest for guest in lab.guests if 'no pools' not in guest.sh('zpool list', check=False))
    other = next(guest for guest in lab.guests if guest is not active)
    # It reads from the disk of its own node: one scrub on each.
    active.sh('systemctl start rblk-primary@vol')
    is_sound(active)
    active.sh('systemctl stop rblk-primary@vol')
    other.sh('systemctl start rblk-primary@vol')
    imported(other)
    is_sound(other)
    other.sh('systemctl stop rblk-primary@vol')
    for guest in lab.guests:
        guest.sh('systemctl stop rblk@vol')
    compare_detached(lab)


def is_sound(guest):
    """A scrub finds nothing."""
    guest.sh('zpool scrub -w vol', timeout=600)
    said = guest.sh('zpool status -v vol')
    print(f'    {guest.name}:' + next(line for line in said.splitlines() if 'scan:' in line))
    counts = [line.split() for line in said.splitlines() if line.split()[1:2] == ['ONLINE']]
    assert 'scrub repaired 0B' in said and 'with 0 errors' in said and 'No known data errors' in said, said
    assert counts and all(line[2:5] == ['0', '0', '0'] for line in counts if len(line) >= 5), said


def writes(guest, name):
    """The writer as a service that needs the pool: it says what it has synced in a file that outlives its machine."""
    with open(guest.shared('writer.py'), 'w') as file:
        file.write(WRITER)
    needs = '-p BindsTo=rblk-zfs@vol.service -p After=rblk-zfs@vol.service'
    guest.sh(f'systemd-run --quiet --collect --unit=writer {needs} python3 /host/writer.py {name}')
    until_synced(guest, name, 10)


def until_synced(guest, name, count, seconds=180):
    """Waits until so many lines were synced."""
    end = time.monotonic() + seconds
    while synced(guest, name) < count:
        assert time.monotonic() < end, f'{guest.name} does not write:\n{journal(guest)}'
        time.sleep(0.2)


def has_what_was_synced(guest, writer, name):
    """Each line that `writer` has synced is found by `guest`, whole and in its place; their number."""
    confirmed = synced(writer, name)
    found = guest.sh(f'head -n {confirmed} {PLACE}/{name}').split()
    assert confirmed > 0 and found == [f'{count:08d}' for count in range(confirmed)], \
        f'{guest.name} has {len(found)} lines of {confirmed} that were synced of {name}: {found[-3:]}'
    return confirmed
