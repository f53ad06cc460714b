"""The units of systemd: /dev/rblk/NAME, mounts that follow the role, restarts that nobody notices."""
import json
import re
import time

from units import configure, journal, keep, mounted, until
from volume import wait_for

LAB = {'guests': 2, 'disks_mb': (320,), 'systemd': True}
FRESH = True

UNITS = '/usr/local/lib/systemd/system/rblk'


def test_a_volume_is_enabled_and_says_what_it_does(lab):
    for guest in lab.guests:
        configure(guest)
        said = guest.sh(f'systemd-analyze verify --man=no {UNITS}@vol.service {UNITS}-primary@vol.service '
                         f'{UNITS}-verify@vol.service')
        assert 'rblk' not in said, said
    for job, guest in [(guest.bg('systemctl start rblk.target rblk@vol'), guest) for guest in lab.guests]:
        guest.join(job)
    one, two = lab.guests
    wait_for(one, 'synced')
    for guest in lab.guests:
        until(guest, 'systemctl show -P StatusText rblk@vol | grep -q "Secondary, disk UpToDate; n. Secondary, disk"')
        said = guest.sh('journalctl -b -u rblk@vol -o cat --no-pager')
        assert 'memory cannot be locked' not in said and 'cannot be marked' not in said, said


def test_the_first_primary_makes_the_file_system(lab):
    one, _ = lab.guests
    one.sh('systemctl stop srv-vol.mount; systemctl disable srv-vol.mount; systemctl start rblk-primary@vol')
    until(one, 'systemctl is-active dev-rblk-vol.device')
    said = one.sh('udevadm info -q property -n /dev/rblk/vol; cat /sys/block/ublkb0/queue/scheduler')
    assert '[none]' in said and 'ID_FS' not in said and 'RBLK_NAME=vol' in said, said
    one.sh('mkfs.ext4 -q /dev/rblk/vol; systemctl enable srv-vol.mount; systemctl start srv-vol.mount; '
           'echo kept > /srv/vol/file')
    keep(one)


def test_a_group_is_let_in_and_may_look(lab):
    _, two = lab.guests
    stranger = 'setpriv --reuid 65534 --regid adm --clear-groups rblk'
    refused = two.result(two.bg(f'{stranger} status vol'))
    assert refused.status == 1 and 'as root' in refused.output, refused.output
    conf = '/etc/systemd/system/rblk@.service.d/look.conf'
    line = "ExecStartPost=-+/bin/sh -c 'chgrp adm /run/rblk/%i.sock && chmod 0660 /run/rblk/%i.sock'"
    two.sh(f'mkdir -p $(dirname {conf})\ncat > {conf} << "END"\n[Service]\n{line}\nEND\n'
           'systemctl daemon-reload; systemctl restart rblk@vol')
    wait_for(two, 'synced')
    two.sh(f'{stranger} status vol')
    refused = two.result(two.bg(f'{stranger} disconnect vol'))
    assert refused.status == 1 and 'user 65534 may look' in refused.output, refused.output
    two.sh(f'rm {conf}; systemctl daemon-reload; systemctl restart rblk@vol')
    wait_for(two, 'synced')


def test_a_verify_is_confined_and_works(lab):
    one, _ = lab.guests
    one.sh('systemctl start rblk-verify@vol')
    until(one, 'test "$(systemctl show -P ActiveState rblk-verify@vol)" != active', 300)
    said = one.sh('systemctl show -P Result -P ExecMainStatus rblk-verify@vol')
    assert said.split() == ['success', '0'], journal(one)


def test_a_restart_under_fio_is_a_wait_and_no_error(lab):
    one, _ = lab.guests
    before = mounted(one)
    for how in ('systemctl restart rblk@vol', 'systemctl kill --signal=KILL --kill-whom=main rblk@vol'):
        pid = one.sh('systemctl show -P MainPID rblk@vol')
        fio = one.bg('fio --name=r --directory=/srv/vol --size=16M --rw=randwrite --bs=4k --iodepth=4 '
                     '--ioengine=libaio --direct=1 --verify=crc32c --verify_backlog=64 --time_based --runtime=25 '
                     '--output-format=json 2> /dev/null', timeout=200)
        time.sleep(6)
        one.sh(how)
        until(one, f'test "$(systemctl show -P MainPID rblk@vol)" -gt 1 && '
                   f'test "$(systemctl show -P MainPID rblk@vol)" != {pid}')
        said = one.join(fio)
        job = json.loads(said[said.index('{'):])['jobs'][0]
        assert job['error'] == 0 and job['write']['total_ios'] > 20, said
        stall = max(job[way]['clat_ns']['max'] for way in ('read', 'write')) / 1e9
        print(f'    {how.split()[1]}: the longest request under fio took {stall:.2f} s')
        assert stall < 25, journal(one)
        assert mounted(one) == before, 'the volume was mounted anew'
    one.sh('systemctl is-active srv-vol.mount rblk-primary@vol; grep -q kept /srv/vol/file')


def test_demote_refuses_while_in_use_and_says_who(lab):
    one, _ = lab.guests
    answer = one.result(one.bg('rblk demote vol'))
    assert answer.status == 1 and '/srv/vol' in answer.output, answer.output


def test_a_user_whom_nobody_sees_is_not_robbed(lab):
    one, _ = lab.guests
    # Mounted in a namespace that no process is in: only the kernel knows.
    one.sh('systemctl stop srv-vol.mount; touch /run/space; mount --bind --make-private /run /run; touch /run/space; '
           'unshare --mount=/run/space mount /dev/rblk/vol /mnt')
    answer = one.result(one.bg('rblk demote vol'))
    assert answer.status == 1 and 'in use by the kernel itself' in answer.output, answer.output
    one.sh('umount /run/space; umount /run; systemctl start srv-vol.mount')


def test_the_volume_moves_with_the_role(lab):
    one, two = lab.guests
    # The mount there follows when this node has let go.
    two.sh('systemctl start --no-block rblk-primary@vol')
    one.sh('systemctl stop rblk-primary@vol')
    assert 'role:Secondary' in one.sh('rblk status vol; ! findmnt /srv/vol')
    until(two, 'findmnt /srv/vol')
    assert two.sh('cat /srv/vol/file') == 'kept\n'


def test_automount_and_fstab_wait_for_the_device(lab):
    _, two = lab.guests
    two.sh('systemctl stop rblk-primary@vol; systemctl disable srv-vol.mount; mkdir -p /srv/auto /srv/fstab; '
           'rm /etc/systemd/system/srv-vol.mount; '
           'echo "/dev/rblk/vol /srv/auto ext4 noauto,x-systemd.automount,_netdev 0 0" >> /etc/fstab; '
           'echo "/dev/rblk/vol /srv/fstab ext4 _netdev,nofail 0 0" >> /etc/fstab; '
           'systemctl daemon-reload; systemctl start srv-auto.automount; systemctl start --no-block srv-fstab.mount')
    reader = two.bg('cat /srv/auto/file', timeout=200)
    time.sleep(3)
    assert not two.done(reader)
    two.sh('systemctl is-active srv-fstab.mount && exit 1; systemctl start rblk-primary@vol')
    assert two.join(reader) == 'kept\n'
    until(two, 'grep -q kept /srv/fstab/file')


def test_stopping_the_volume_unmounts_it_and_leaves_no_device(lab):
    one, two = lab.guests
    two.sh('systemctl stop rblk@vol')
    said = two.sh('findmnt -rno TARGET,SOURCE | grep ublk; ls -d /dev/ublkb* /dev/rblk/*; rblk status vol', check=False)
    assert '/srv' not in said and '/dev/ublkb0' not in said and 'does not run' in said, said
    assert re.search(r'n2 connection:Connecting', one.sh('rblk status vol'))
