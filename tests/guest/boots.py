"""Both nodes boot, shut down and lose power, in every order: mounted where that is allowed, else it is said why."""
from units import configure, journal, keep, until
from volume import wait_for

LAB = {'guests': 2, 'disks_mb': (320,), 'systemd': True}
FRESH = True
LONG = True


def boot(*guests):
    """Starts machines at once; each boots to its end, whatever its volume does."""
    for guest in guests:
        guest.start(wait=False)
    for guest in guests:
        guest.wait()
        until(guest, 'systemctl is-active multi-user.target')


def test_a_shutdown_with_the_volume_mounted_ends_and_loses_nothing(lab):
    one, two = lab.guests
    for guest in lab.guests:
        configure(guest)
    one.sh('systemctl enable rblk-primary@vol')
    keep(one)
    jobs = [guest.bg('systemctl start rblk.target') for guest in lab.guests]
    for guest, job in zip(lab.guests, jobs):
        guest.join(job)
    one.sh('systemctl start rblk@vol rblk-primary@vol', timeout=120)
    wait_for(one, 'synced')
    until(one, 'systemctl is-active dev-rblk-vol.device')
    one.sh('mkfs.ext4 -q /dev/rblk/vol; systemctl start srv-vol.mount; echo written > /srv/vol/late')
    one.end()
    # It left in good order: nothing stands in the way of the other.
    two.sh('systemctl start rblk-primary@vol', timeout=60)
    until(two, 'grep written /srv/vol/late')
    two.end()


def test_both_boot_at_once(lab):
    one, two = lab.guests
    boot(one, two)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/late') == 'written\n'
    assert 'role:Secondary' in two.sh('rblk status vol; ! findmnt /srv/vol')
    assert 'recovery' not in one.sh('journalctl -b -k -o cat --no-pager | grep -i ext4', check=False)
    for guest in (two, one):
        guest.end()


def test_the_last_to_leave_boots_alone(lab):
    one, two = lab.guests
    boot(one)
    # It knows that the other has missed what came after: nothing to wait for.
    until(one, 'findmnt /srv/vol')
    boot(two)
    wait_for(one, 'synced')


def test_the_first_to_leave_boots_alone(lab):
    one, two = lab.guests
    one.end()
    two.sh('systemctl start rblk-primary@vol', timeout=60)
    until(two, 'findmnt /srv/vol')
    two.sh('echo newer > /srv/vol/late')
    two.end()
    boot(one)
    # The boot is not held up, and the reason is told.
    assert one.result(one.bg('findmnt /srv/vol')).status == 1
    for question in ('systemctl show -P StatusText rblk@vol', 'rblk status vol', 'rblk explain vol'):
        said = one.sh(question)
        assert 'n2' in said and 'rblk promote vol --force' in said, said
    boot(two)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/late') == 'newer\n'
    wait_for(one, 'synced')


def test_the_power_of_both_is_cut(lab):
    one, two = lab.guests
    one.sh('echo synced > /srv/vol/synced; sync /srv/vol/synced')
    one.kill()
    two.kill()
    boot(two, one)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/synced') == 'synced\n'
    wait_for(one, 'synced')


def test_the_power_of_the_primary_is_cut(lab):
    one, two = lab.guests
    one.kill()
    until(two, 'rblk status vol | grep -q Connecting')
    waits = two.bg('timeout 10 rblk promote --wait vol')
    told = two.sh('rblk explain vol')
    assert 'rblk promote vol --force' in told and 'n1' in told, told
    assert '--force' in two.sh('systemctl show -P StatusText rblk@vol')
    assert two.result(waits).status == 124
    boot(one)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/synced') == 'synced\n'
    wait_for(one, 'synced')


def test_a_volume_mounted_by_hand_does_not_hold_up_the_end(lab):
    one, _ = lab.guests
    # Without _netdev, and with a process that does not care: systemd has no reason to unmount it before rblk ends.
    one.sh('systemctl stop srv-vol.mount; mount /dev/rblk/vol /mnt; setsid sleep 10000 > /mnt/open 2>&1 < /dev/null & '
           'sleep 1; echo by-hand > /mnt/by-hand')
    one.end()
    boot(one)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/by-hand') == 'by-hand\n', journal(one)
    assert 'recovery' not in one.sh('journalctl -b -k -o cat --no-pager | grep -i ext4', check=False)


def test_who_cannot_be_made_to_let_go_loses_nothing_and_the_other_takes_over(lab):
    one, two = lab.guests
    # Mounted in a namespace that no process is in, so nobody can be ended and nothing unmounted.
    one.sh('systemctl stop srv-vol.mount; touch /run/space; mount --bind --make-private /run /run; touch /run/space; '
           'unshare --mount=/run/space mount /dev/rblk/vol /mnt; '
           'nsenter --mount=/run/space sh -c "echo unseen > /mnt/unseen"')
    one.end()
    # It left in good order all the same.
    two.sh('systemctl start rblk-primary@vol', timeout=60)
    until(two, 'grep unseen /srv/vol/unseen')
    two.sh('systemctl stop rblk-primary@vol')
    boot(one)
    until(one, 'findmnt /srv/vol')


def test_a_device_that_was_left_does_not_hold_up_the_end(lab):
    one, _ = lab.guests
    one.sh('systemctl stop srv-vol.mount; mount /dev/rblk/vol /mnt; echo left > /mnt/left; sync; '
           'setsid sleep 10000 > /mnt/open 2>&1 < /dev/null & sleep 2; '
           'systemctl stop rblk@vol; test -e /run/rblk/vol.ublk')
    one.end()
    boot(one)
    until(one, 'findmnt /srv/vol')
    assert one.sh('cat /srv/vol/left') == 'left\n', journal(one)
