"""A ZFS pool on the volume: it follows the role, and is whole after each power cut under load."""
import os

from units import configure, until
from volume import wait_for

LAB = {'guests': 2, 'disks_mb': (320,), 'systemd': True, 'layer': 'zfs'}
FRESH = True
LONG = True

FAILOVERS = int(os.environ.get('RBLK_ZFS_FAILOVERS') or 10)

# Appends numbers, each on stable media before it is told to the host, out of reach of the power cut.
WRITER = '''
import os
known = [int(line) for line in open("/vol/log")] if os.path.exists("/vol/log") else []
n = known[-1] + 1 if known else 0
log = open("/vol/log", "a")
while True:
    log.write(f"{n}\\n"); log.flush(); os.fsync(log.fileno())
    with open("/host/acked", "w") as f:
        f.write(f"{n}\\n")
    with open(f"/vol/ballast{n % 8}", "wb") as f:
        f.write(os.urandom(1 << 20))
    n += 1
'''


def acked(guest):
    """The last number that was on stable media."""
    with open(guest.shared('acked')) as file:
        return int(file.read().split()[-1])


def write(guest):
    """Starts the load, and waits until some of it is on stable media."""
    guest.sh(f"rm -f /host/acked; cat > /tmp/writer.py << 'END'\n{WRITER}END\n"
             'setsid python3 /tmp/writer.py > /tmp/writer.log 2>&1 < /dev/null &')
    until(guest, 'test -s /host/acked && test "$(head -n 1 /host/acked)" -gt 0')
    first = acked(guest)
    until(guest, f'test "$(head -n 1 /host/acked)" -gt {first + 4}')


def test_a_pool_is_made_and_moves_with_the_role(lab):
    one, two = lab.guests
    for guest in lab.guests:
        configure(guest)
        guest.sh('systemctl disable srv-vol.mount; systemctl enable rblk-zpool@vol; '
                 'cd /; rm -rf /host/.lab/root/etc/systemd/system/*; '
                 'cp -a --parents etc/systemd/system/*rblk* etc/systemd/system/*.wants /host/.lab/root/', check=False)
    jobs = [guest.bg('systemctl start rblk@vol') for guest in lab.guests]
    for guest, job in zip(lab.guests, jobs):
        guest.join(job)
    wait_for(one, 'synced')
    one.sh('modprobe zfs; systemctl stop rblk-zpool@vol; rblk promote vol')
    until(one, 'test -b /dev/rblk/vol')
    one.sh('zpool create -o ashift=12 -o cachefile=none -O compression=lz4 -O mountpoint=/vol vol /dev/rblk/vol')
    answer = one.result(one.bg('rblk demote vol'))
    assert answer.status == 1 and 'in use' in answer.output, answer.output
    one.sh('zpool export vol; rblk demote vol; systemctl start rblk-primary@vol')
    until(one, 'zpool list -H -o health vol | grep -q ONLINE')
    one.sh('echo here > /vol/file; systemctl stop rblk-primary@vol')
    two.sh('systemctl start rblk-primary@vol')
    until(two, 'grep -q here /vol/file')


def test_power_cuts_under_load_leave_a_sound_pool(lab):
    here, there = reversed(lab.guests)
    for number in range(FAILOVERS):
        write(here)
        here.kill()
        kept = acked(here)
        until(there, 'rblk status vol | grep -q Connecting')
        # It is certain that the other is down: its power was cut.
        there.sh('rblk promote vol --force; systemctl start rblk-primary@vol')
        until(there, 'zpool list -H -o health vol | grep -q ONLINE')
        there.sh('zpool scrub -w vol', timeout=300)
        said = there.sh('zpool status vol; tail -n 1 /vol/log')
        assert 'repaired 0B' in said and 'with 0 errors' in said and 'No known data errors' in said, said
        assert int(said.split()[-1]) >= kept, f'{kept} was on stable media: {said}'
        print(f'    failover {number + 1}: scrub clean, {kept} kept')
        here.start()
        wait_for(there, 'synced', 120)
        here, there = there, here
