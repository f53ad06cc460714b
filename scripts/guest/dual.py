"""Two Primaries of the volume `vol` on n1 and n2 without systemd, for tests."""
from volume import attach, compare_disks, device, prepare, status, until, wait_for

DUAL = 'dual-primary = true\npromote-at-start = true\n'


def both_primary(lab, seconds=240):
    """Both are, with all data; their devices."""
    for guest in lab.guests:
        until('both are UpToDate and Primary', lambda guest=guest: status(guest)['role'] == 'Primary'
              and status(guest)['devices'][0]['disk-state'] == 'UpToDate', seconds)
        wait_for(guest, 'synced', seconds)
    return [device(guest) for guest in lab.guests]


def begin(lab, resource=DUAL, more=''):
    """Both run with this configuration, and are Primary; their disks are equal."""
    for guest in lab.guests:
        prepare(lab, guest, more, resource)
        guest.sh('rblk create vol --in-sync --force')
        attach(guest)
    return both_primary(lab)


def ends_equal(lab):
    """Both are whole again, leave in good order, and have the same."""
    both_primary(lab)
    compare_disks(lab)


def generation(guest):
    """The name of its data: another one means that the two have parted."""
    return status(guest)['rblk']['generation']['current']


def link(lab, up):
    """The cable between the two."""
    for guest in lab.guests:
        guest.link(up)
