"""Who has the device open is found out by a process that may hang, as in a file system: nobody waits for it."""
import time

from volume import attach, device, prepare, status, until

LAB = {'guests': 1, 'disks_mb': (320,)}


def lookout(guest):
    """The process that looks; nothing if there is none."""
    return guest.sh('for p in /proc/[0-9]*; do [ "$(tr "\\0" " " < $p/cmdline)" = "rblk lookout " ] && '
                    'echo ${p#/proc/}; done 2> /dev/null; true').strip()


def is_open(guest):
    return status(guest)['devices'][0]['open']


def test_it_is_told_while_the_process_looks(lab):
    (guest,) = lab.guests
    prepare(lab, guest)
    guest.sh('rblk create vol')
    attach(guest)
    status(guest)
    guest.sh('rblk promote vol --force')
    path = device(guest)
    until('nobody has it open', lambda: not is_open(guest), 30)
    guest.sh(f'mkfs.ext4 -q -F {path} && mount {path} /mnt/vol')
    until('it is open', lambda: is_open(guest), 30)
    answer = guest.result(guest.bg('rblk demote vol'))
    assert answer.status == 1 and 'mounted at /mnt/vol' in answer.output, answer.output
    guest.sh('umount /mnt/vol; tail -f /dev/null 9< ' + path + ' > /dev/null 2>&1 & echo $! > /tmp/user')
    answer = guest.result(guest.bg('rblk demote vol'))
    assert answer.status == 1 and '(tail)' in answer.output, answer.output
    guest.sh('kill $(cat /tmp/user)')


def test_nobody_waits_while_it_hangs(lab):
    (guest,) = lab.guests
    path = device(guest)
    guest.sh(f'kill -STOP {lookout(guest)}')
    # The first may wait a moment, the others must not.
    guest.sh('rblk status vol --json > /dev/null')
    fio = guest.bg(f'fio --name=v --filename={path} --rw=randwrite --bs=4k --iodepth=1 --ioengine=libaio --direct=1 '
                   '--time_based --runtime=10 --size=16M --max_latency=3s', timeout=120)
    begun = time.monotonic()
    answers = guest.sh('for i in $(seq 20); do rblk status vol --json; done | grep -c \'"open": true\'', timeout=60)
    assert answers.strip() == '20', answers
    print(f'20 times the status in {time.monotonic() - begun:.1f} s')
    answer = guest.result(guest.bg('rblk demote vol', timeout=60))
    assert answer.status == 1 and 'cannot be told' in answer.output, answer.output
    said = guest.join(fio)
    assert 'err= 0' in said, said
    guest.sh(f'kill -CONT {lookout(guest)}')
    until('it is told again', lambda: not is_open(guest), 30)


def test_a_stop_leaves_the_device_to_users_who_cannot_be_told(lab):
    (guest,) = lab.guests
    path = device(guest)
    guest.sh(f'mkfs.ext4 -q -F {path} && mount {path} /mnt/vol && echo before > /mnt/vol/file && sync')
    guest.sh(f'kill -STOP {lookout(guest)}; kill -TERM $(cat /tmp/daemon)')
    until('it leaves', lambda: 'waits for the next daemon' in guest.sh('cat /tmp/daemon.log'), 60)
    attach(guest)
    assert device(guest) == path
    guest.sh('echo after >> /mnt/vol/file && sync && umount /mnt/vol')
    guest.sh('rblk demote vol', timeout=60)
    guest.sh('rblk detach vol', timeout=60)
    # What hung sees the end of its daemon.
    guest.sh(f'kill -CONT {lookout(guest)}', check=False)
    until('no process is left', lambda: not lookout(guest), 30)
