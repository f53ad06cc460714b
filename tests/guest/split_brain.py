"""Two nodes that mount the volume without each other keep their data until it is decided; what gives way is saved."""
import json
import re
import shutil

from volume import attach, compare_disks, connection, device, prepare, until, wait_for

LAB = {'guests': 2, 'disks_mb': (320,)}
FRESH = True

MIB = 1 << 20
MORE = '''
[salvage]
directory = "/var/lib/rblk/salvage"
'''
POLICY = '''
[resource.split-brain]
after-1pri = "discard-secondary"
'''


def test_both_keep_their_data_and_say_what_to_type(lab):
    for guest in lab.guests:
        prepare(lab, guest, MORE)
        guest.sh('rblk create vol --in-sync')
        attach(guest, '--primary' if guest is lab.guests[0] else '')
    one, two = lab.guests
    wait_for(one, 'synced')
    one.sh(f'mkfs.ext4 -q -F {device(one)}')
    _write(one, 'before', 1)
    split(lab)
    for guest in lab.guests:
        until('it stands alone', lambda guest=guest: connection(guest) == 'StandAlone', 60)
        said = guest.sh('rblk status vol')
        assert 'split brain' in said and 'rblk connect vol --discard-my-data' in said, said
        told = guest.sh('rblk explain vol')
        for part in ('split brain', ' since 20', 'parted after generation', '\n  rblk connect vol'):
            assert part in told, (part, told)
        apart = [float(size) for size in re.findall(r'([\d.]+) MiB changed apart', told)]
        assert len(apart) == 2 and min(apart) >= 4, told
    found = [files(guest) for guest in lab.guests]
    assert found == [['before', 'here'], ['before', 'there']], found


def test_an_order_decides_and_what_it_gives_up_is_saved(lab):
    one, two = lab.guests
    lost = given_up(two)
    two.sh('rblk connect vol --discard-my-data')
    one.sh('rblk connect vol')
    wait_for(one, 'synced', 120)
    assert files(one) == ['before', 'here']
    ends_equal(lab, lost)


def test_a_policy_decides_and_what_it_gives_up_is_saved(lab):
    one, two = lab.guests
    for guest in lab.guests:
        prepare(lab, guest, MORE + POLICY)
        guest.sh('rm -rf /var/lib/rblk/salvage')
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    split(lab, heal=False)
    lost = given_up(two)
    two.link(True)
    wait_for(one, 'synced', 120)
    assert files(one) == ['before', 'here']
    ends_equal(lab, lost)


def split(lab, heal=True):
    """The cable is pulled, and both mount the volume and write 4 MiB."""
    one, two = lab.guests
    two.link(False)
    _write(one, 'here', 4)
    until('the loss is noticed', lambda: connection(two) == 'Connecting', 60)
    refused = two.result(two.bg('rblk promote vol'))
    assert refused.status == 1 and '--force' in refused.output, refused.output
    two.sh('rblk promote vol --force')
    _write(two, 'there', 4)
    if heal:
        two.link(True)


def _write(guest, name, mib):
    """A file of this name, on stable media; the volume is not mounted afterwards."""
    guest.sh(f'mount {device(guest)} /mnt/vol && head -c {mib}M /dev/urandom > /mnt/vol/{name} && umount /mnt/vol',
             timeout=120)


def files(guest):
    """What is in the file system, which must be sound."""
    path = device(guest)
    said = guest.sh(f'fsck.ext4 -fn {path} > /dev/null 2>&1 && mount -o ro {path} /mnt/vol && ls /mnt/vol && '
                    'umount /mnt/vol', timeout=120)
    return [name for name in said.split() if name != 'lost+found']


def given_up(guest):
    """Its volume as it is now, in a file of this machine: what is about to be lost. The node steps down."""
    guest.sh('rblk demote vol')
    kept = guest.shared('given-up')
    shutil.copyfile(guest.disk(0), kept)
    return kept


def ends_equal(lab, lost):
    """Both disks are equal, and n2's set has what was lost."""
    two = lab.guests[1]
    compare_disks(lab)
    sets = json.loads(two.sh('rblk salvage list vol --json --extents'))
    assert len(sets) == 1 and sets[0]['bytes'] >= 4 * MIB, sets
    two.sh(f'rblk salvage export vol {sets[0]["set"]} --output /host/image --force 2> /tmp/export.log', timeout=120)
    with open(lost, 'rb') as before, open(two.shared('image'), 'rb') as image, open(two.disk(0), 'rb') as now:
        differs = 0
        for start, length in sets[0]['extents']:
            expected, found, current = (_bytes(file, start, length) for file in (before, image, now))
            assert found == expected, f'what was saved at {start} is not what was there'
            differs += found != current
    assert differs, 'it is not the winner\'s data'


def _bytes(file, start, length):
    file.seek(start)
    return file.read(length)
