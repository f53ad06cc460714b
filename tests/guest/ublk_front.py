"""The ublk front on the daemon's reactor: buffers in use are left alone, recovery, stop."""
import time

from serving import Server, wait_for_write, wait_until

LAB = {'guests': 1}
FIO = ('fio --name=load --filename=/dev/ublkb0 --rw=randwrite --bsrange=4k-128k --iodepth=64 '
       '--ioengine=libaio --direct=1 --size=60M --verify=crc32c --verify_fatal=1 ')


def server(lab):
    """The front with a file behind it, in the guest."""
    return Server(lab.guests[0], lab.program('ublk_front') + ' --store /dev/shm/front')


def test_a_missing_module_is_news(lab):
    (guest,) = lab.guests
    guest.sh('rmmod ublk_drv 2> /dev/null', check=False)
    said = guest.sh(f'{server(lab).command}')
    assert 'Failed(' in said and 'modprobe ublk_drv' in said, said
    guest.sh('modprobe ublk_drv')


def test_data_comes_back_as_written(lab):
    (guest,) = lab.guests
    front = server(lab)
    assert front.start() == '/dev/ublkb0'
    assert guest.sh('cat /tmp/ublk_front.id') == '0'
    guest.sh(FIO)
    guest.sh('mkdir -p /mnt/front; mkfs.xfs -q -f /dev/ublkb0 || mkfs.ext4 -q -F /dev/ublkb0; '
             'mount -o discard /dev/ublkb0 /mnt/front && cp -r /usr/lib/python3 /mnt/front/ && '
             'rm -r /mnt/front/python3 && fstrim /mnt/front; umount /mnt/front')
    said = front.stop()
    assert 'Gone' in said and 'Fault' not in said, said
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_buffer_in_use_is_not_overwritten(lab):
    (guest,) = lab.guests
    front = server(lab)
    # Long enough for a slow guest to have as many in flight as there are buffers.
    front.start('--hold-ms 1500')
    guest.sh(FIO.replace('--size=60M', '--size=20M'), timeout=600)
    said = front.stop()
    assert 'CHANGED' not in said and 'Gone' in said, said
    assert 'free buffers at least: 0' in said, f'no answer had to wait for a buffer: {said}'
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_clients_survive_deaths_and_departures(lab):
    (guest,) = lab.guests
    front = server(lab)
    front.start()
    fio = guest.bg(FIO + '--loops=1000 --time_based --runtime=15 --verify_backlog=64', timeout=120)
    for signal in ('KILL', 'USR1', 'KILL', 'USR1'):
        time.sleep(1)
        front.signal(signal)
        front.start('--recover 0')
    said = guest.join(fio)
    assert 'err= 0' in said, said
    front.stop()
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_stop_waits_for_requests_in_flight(lab):
    (guest,) = lab.guests
    front = server(lab)
    front.start('--delay-ms 2000')
    write = guest.bg('dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct')
    wait_for_write(guest, '/dev/ublkb0')
    front.stop()
    guest.join(write)
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_stop_while_starting_leaves_nothing(lab):
    (guest,) = lab.guests
    for pause in ('0', '0.05', '0.1', '0.2', '0.5'):
        guest.sh(f'{server(lab).command} > /tmp/server.log & P=$!; sleep {pause}; kill $P; wait $P',
                 timeout=60, check=False)
        wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_device_in_use_stays(lab):
    (guest,) = lab.guests
    if int(guest.sh('uname -r').split('.')[0]) < 7:
        return  # the driver cannot look and stop in one step
    front = server(lab)
    front.start()
    guest.sh('setsid sleep 1000 < /dev/ublkb0 > /dev/null 2>&1 & echo $! > /tmp/opener')
    guest.sh('kill -USR2 $(cat /tmp/server.pid)')
    wait_until(guest, 'grep -q InUse /tmp/server.log')
    guest.sh('dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct; kill $(cat /tmp/opener)')
    said = front.signal('USR2')
    assert 'Gone' in said, said
    wait_until(guest, 'test ! -e /dev/ublkc0')


def test_a_device_that_cannot_be_recorded_is_taken_back(lab):
    (guest,) = lab.guests
    guest.sh('rm /tmp/ublk_front.id; mkdir /tmp/ublk_front.id')
    said = guest.sh(server(lab).command, timeout=60)
    assert 'Recording the number of device 0 failed' in said, said
    wait_until(guest, 'test ! -e /dev/ublkc0')
    guest.sh('rmdir /tmp/ublk_front.id')


def test_a_device_that_is_not_there_cannot_be_recovered(lab):
    (guest,) = lab.guests
    said = guest.sh(f'{server(lab).command} --recover 7', timeout=60)
    assert 'Failed(' in said and 'No such device' in said, said
