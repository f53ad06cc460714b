"""Clients of a device whose daemon died go on with the data that they know, or not at all; and what they read while a
disk hangs is the peer's data."""
import time

from volume import attach, bring_up, compare_disks, connection, device, kill_daemon, prepare, status, until, wait_for

LAB = {'guests': 2, 'disks_mb': (320,)}
FRESH = True
# Reads what was written again and again, one after the other.
READER = '''
import mmap, os, sys
device = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
expected = open('/tmp/pattern', 'rb').read()
found = mmap.mmap(-1, 65536)
for n in range(1000):
    at = n * 65536 % len(expected)
    os.preadv(device, [found], at)
    assert found[:] == expected[at:at + 65536], f'read {n} at {at} found {found[:16]}'
'''


def test_a_mount_does_not_go_on_over_what_the_other_node_has_written(lab):
    one, two = lab.guests
    for guest in lab.guests:
        prepare(lab, guest)
    bring_up(lab)
    one.sh(f'mkfs.ext4 -q -F {device(one)} && mount {device(one)} /mnt/vol && '
           'head -c 4M /dev/urandom > /mnt/vol/old && sync')
    kill_daemon(one)
    until('the loss is noticed', lambda: connection(two) != 'Connected', 60)
    two.sh('rblk promote vol --force')
    two.sh(f'mount {device(two)} /mnt/vol && rm /mnt/vol/old && head -c 8M /dev/urandom > /mnt/vol/new && '
           'md5sum < /mnt/vol/new > /tmp/sum && umount /mnt/vol', timeout=120)
    attach(one)
    wait_for(two, 'synced', 120)
    two.sh('rblk demote vol')
    until('it says so', lambda: 'the data has changed' in one.sh('cat /tmp/daemon.log'), 30)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert status(one)['role'] == 'Secondary', 'it went on by itself'
    late = one.result(one.bg('dd if=/dev/zero of=/mnt/vol/late bs=1M count=4 conv=fsync', timeout=60))
    assert late.status != 0, late.output
    one.sh('umount -l /mnt/vol; rblk promote vol', timeout=60)
    path = device(one)
    one.sh(f'fsck.ext4 -fn {path} && mount {path} /mnt/vol && ls /mnt/vol && test ! -e /mnt/vol/old', timeout=120)
    assert one.sh('md5sum < /mnt/vol/new') == two.sh('cat /tmp/sum')
    one.sh('umount /mnt/vol')
    compare_disks(lab)


def test_a_mount_does_not_go_on_over_what_clients_of_another_front_may_write(lab):
    one, two = lab.guests
    for guest in lab.guests:
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    one.sh(f'mount {device(one)} /mnt/vol && head -c 4M /dev/urandom > /mnt/vol/old && sync')
    kill_daemon(one)
    attach(one, '--front', 'nbd=unix:/tmp/vol.nbd')
    until('it says so', lambda: 'must not go on' in one.sh('tail -n 20 /tmp/daemon.log'), 30)
    wait_for(one, 'synced')
    assert status(one)['role'] == 'Secondary', 'it became Primary for clients that must not go on'
    one.sh('rblk promote vol', timeout=60)
    late = one.result(one.bg('dd if=/dev/zero of=/mnt/vol/late bs=1M count=4 conv=fsync', timeout=60))
    assert late.status != 0, late.output
    one.sh('umount -l /mnt/vol; rblk detach vol', timeout=60)
    # Back to a device of the kernel: it is a new one, and nobody becomes Primary by itself.
    attach(one)
    wait_for(one, 'synced')
    assert status(one)['role'] == 'Secondary'
    one.sh('rblk promote vol', timeout=60)
    path = device(one)
    one.sh(f'mount {path} /mnt/vol && ls /mnt/vol/old && umount /mnt/vol && fsck.ext4 -fn {path}', timeout=120)
    one.sh('rblk detach vol', timeout=60)
    two.sh('rblk detach vol', timeout=60)


def test_a_read_of_a_disk_that_hangs_is_answered_with_the_peers_data(lab):
    one, two = lab.guests
    for guest in lab.guests:
        guest.sh("sed -i 's/^name = \"vol\"/&\\ndisk-timeout-ms = 1000/' /etc/rblk/vol.toml")
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    path = device(one)
    one.sh(f'yes rblk | head -c 1M > /tmp/pattern; dd if=/tmp/pattern of={path} bs=64k oflag=direct conv=fsync')
    one.sh('rblk detach vol', timeout=60)
    # It hangs in the middle of the reads below: the first that meets that is answered by the peer after a second, while
    # the disk may still fill the buffer.
    attach(one, '--primary', '--faults', 'hang-after=400')
    path = device(one)
    one.sh(f"cat > /tmp/reader.py << 'END'\n{READER}END\npython3 /tmp/reader.py {path}", timeout=120)
    assert status(one)['devices'][0]['disk-state'] in ('Failed', 'Diskless'), 'the disk did not hang'
