"""The ublk crate alone: a device in memory lives, survives its server, and leaves nothing behind."""
import re
import time

from serving import Server, wait_for_write, wait_until

LAB = {'guests': 1}
FRESH = True  # the first test wants the module not loaded


def server(lab):
    """The example of the ublk crate, in the guest."""
    return Server(lab.guests[0], lab.program('ram') + ' --store /dev/shm/disk')


def test_a_missing_module_is_explained(lab):
    (guest,) = lab.guests
    ram = server(lab)
    assert 'modprobe ublk_drv' in ram.fail()
    guest.sh('mv /lib/modules/$(uname -r)/modules.dep /tmp')
    assert 'has no ublk driver' in ram.fail()
    guest.sh('mv /tmp/modules.dep /lib/modules/$(uname -r); modprobe ublk_drv; '
             'mv /dev/ublk-control /tmp')
    assert 'give this container the device' in ram.fail()
    guest.sh('mv /tmp/ublk-control /dev; chmod a+rx /host/ram')
    unprivileged = Server(guest, 'setpriv --reuid 1000 --clear-groups /host/ram --store /tmp/disk')
    assert 'run as root' in unprivileged.fail()


def test_clients_see_a_disk_with_a_cache(lab):
    (guest,) = lab.guests
    device = server(lab).start('--mib 256')
    queue = f'/sys/block/{device.removeprefix("/dev/")}/queue'
    assert guest.sh(f'blockdev --getsize64 {device}').strip() == str(256 << 20)
    for name, value in (('fua', '1'), ('write_cache', 'write back'), ('max_sectors_kb', '128'),
                        ('logical_block_size', '512'), ('physical_block_size', '4096'),
                        ('discard_max_hw_bytes', str(32 << 20)), ('discard_granularity', '4096'),
                        ('write_zeroes_max_bytes', str(32 << 20)), ('rotational', '0')):
        has = guest.sh(f'cat {queue}/{name}').strip()
        assert has == value, f'{name} is {has}, not {value}'


def test_data_comes_back_as_written(lab):
    (guest,) = lab.guests
    guest.sh('fio --name=verify --filename=/dev/ublkb0 --rw=randwrite --bsrange=512-256k '
             '--iodepth=32 --ioengine=libaio --direct=1 --size=64M --fdatasync=64 '
             '--verify=crc32c --verify_fatal=1')


def test_a_file_system_lives_on_it(lab):
    (guest,) = lab.guests
    guest.sh('mkdir -p /mnt/ram; mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt/ram && '
             'cp -r /usr/lib/python3* /mnt/ram/ && umount /mnt/ram && e2fsck -fn /dev/ublkb0 && '
             'mount /dev/ublkb0 /mnt/ram && diff -r /usr/lib/python3 /mnt/ram/python3 && '
             'umount /mnt/ram', timeout=600)


def test_discarded_and_zeroed_ranges_read_as_zeroes(lab):
    (guest,) = lab.guests
    ends = ('count=1', 'skip=10241 count=1')
    for wipe in ('blkdiscard -f', 'blkdiscard -f -z'):
        guest.sh('tr "\\0" x < /dev/zero | '
                 'dd of=/dev/ublkb0 bs=1M count=41 iflag=fullblock oflag=direct')
        guest.sh(f'{wipe} -o 4096 -l 41943040 /dev/ublkb0')
        guest.sh('dd if=/dev/ublkb0 bs=4096 skip=1 count=10240 iflag=direct | '
                 'cmp -n 41943040 - /dev/zero')
        for end in ends:
            left = guest.sh(f'dd if=/dev/ublkb0 bs=4096 {end} iflag=direct 2> /dev/null | '
                            'tr -d x | wc -c')
            assert left.strip() == '0', f'{wipe} went too far: {left}'


def test_openers_are_named_and_do_not_hinder_a_stop(lab):
    (guest,) = lab.guests
    guest.sh('mkfs.ext4 -q -F /dev/ublkb0; mount /dev/ublkb0 /mnt/ram; modprobe loop; '
             'losetup -f /dev/ublkb0')
    # By a node of another place, as in a container.
    guest.sh('mkdir -p /tmp/root/dev; mknod /tmp/root/dev/ublkb0 b $(tr : " " < /sys/block/ublkb0/dev); '
             'setsid sleep 1000 < /tmp/root/dev/ublkb0 > /dev/null 2>&1 & echo $! > /tmp/opener')
    wait_until(guest, 'grep -qx sleep /proc/$(cat /tmp/opener)/comm')
    said = server(lab).stop()
    assert 'open: mounted at /mnt/ram' in said, said
    assert 'open: held by loop0' in said, said
    assert re.search(r'open: process \d+ \(sleep\)', said), said
    guest.sh('test ! -e /dev/ublkb0 && test ! -e /run/ublksrvd')
    guest.sh('kill $(cat /tmp/opener); umount /mnt/ram; losetup -d /dev/loop0; rm -r /tmp/root')
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_second_device_after_the_first(lab):
    (guest,) = lab.guests
    ram = server(lab)
    device = ram.start('--mib 64')
    guest.sh(f'dd if=/dev/urandom of={device} bs=1M count=8 oflag=direct')
    ram.stop()
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_clients_survive_the_death_of_the_server(lab):
    (guest,) = lab.guests
    ram = server(lab)
    device = ram.start('--mib 64')
    fio = guest.bg(f'fio --name=load --filename={device} --rw=randwrite --bs=4k --iodepth=32 '
                   '--ioengine=libaio --direct=1 --size=32M --loops=1000 --time_based --runtime=15 '
                   '--verify=crc32c --verify_backlog=256 --verify_fatal=1', timeout=120)
    for _ in range(4):
        time.sleep(1)
        ram.kill()
        ram.start('--mib 64 --recover 0')
    said = guest.join(fio)
    assert 'err= 0' in said, said


def test_devices_are_listed_with_their_state(lab):
    (guest,) = lab.guests
    listing = lab.program('list')
    assert '/dev/ublkb0 Live process ' in guest.sh(listing)
    server(lab).kill()
    said = guest.sh(listing)
    assert re.search(r'/dev/ublkb0 Quiesced process -?\d+ 131072 sectors', said), said


def test_a_device_without_a_server_is_taken_away(lab):
    (guest,) = lab.guests
    ram = server(lab)
    read = guest.bg('dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct')
    wait_until(guest, 'grep -q "^State:.D" /proc/$(pidof dd)/status')
    guest.sh(f'{ram.command} --remove 0')
    assert 'Input/output error' in guest.join(read, check=False)
    wait_until(guest, 'test ! -e /dev/ublkc0')
    assert 'No such device' in ram.fail('--remove 0')
    ram.start('--mib 64')
    ram.kill()


def test_requests_in_flight_at_death_are_served_by_the_next(lab):
    (guest,) = lab.guests
    ram = server(lab)
    ram.start('--mib 64 --recover 0 --delay-ms 5000')
    write = guest.bg('tr "\\0" y < /dev/zero | '
                     'dd of=/dev/ublkb0 bs=128k count=4 iflag=fullblock oflag=direct')
    wait_for_write(guest, '/dev/ublkb0')
    assert not guest.done(write)
    ram.kill()
    assert 'make it anew' in ram.fail('--mib 32 --recover 0')
    ram.start('--mib 64 --recover 0')
    guest.join(write)
    left = guest.sh('dd if=/dev/ublkb0 bs=128k count=4 iflag=direct 2> /dev/null | tr -d y | wc -c')
    assert left.strip() == '0', left


def test_a_live_device_is_not_taken_over(lab):
    ram = server(lab)
    assert 'is served by process' in ram.fail('--mib 64 --recover 0')
    assert 'No such device' in ram.fail('--mib 64 --recover 7')


def test_a_stop_waits_for_requests_in_flight(lab):
    (guest,) = lab.guests
    ram = server(lab)
    ram.kill()
    ram.start('--mib 64 --recover 0 --delay-ms 2000')
    write = guest.bg('dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct')
    wait_for_write(guest, '/dev/ublkb0')
    ram.stop()
    guest.join(write)
    guest.sh('test ! -e /dev/ublkb0')
    wait_until(guest, 'test ! -e /dev/ublkc0')
    guest.sh('rmmod ublk_drv')
