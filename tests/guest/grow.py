"""A volume grows below a mounted file system: `rblk resize` on a real ublk device."""
from volume import attach, device, kill_daemon, prepare, status, until, wait_for

LAB = {'guests': 2, 'disks_mb': (320,)}
DISK = '/mnt/below/disk'


def test_ext4_grows_while_it_is_written_to(lab):
    one, two = lab.guests
    for guest in lab.guests:
        prepare(lab, guest)
        guest.sh(f"sed -i 's|/dev/vdb|{DISK}|' /etc/rblk/vol.toml; mkdir -p /mnt/below; mkfs.ext4 -q -F /dev/vdb; "
                 f'mount /dev/vdb /mnt/below; truncate -s 80M {DISK}; rblk create vol --in-sync')
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    path = device(one)
    before = int(one.sh(f'blockdev --getsize64 {path}'))
    one.sh(f'mkfs.ext4 -q -F {path} && mount {path} /mnt/vol && cp -r /usr/lib/python3*/json /mnt/vol/ && sync')
    id_before = one.sh('findmnt -no ID /mnt/vol')

    # Metadata follows the end of each disk when its daemon is started anew: clients wait.
    writer = one.bg('for i in $(seq 60); do dd if=/dev/urandom of=/mnt/vol/f$i bs=64k count=4 conv=fsync status=none '
                    '|| exit 1; done', timeout=200)
    for guest in (two, one):
        guest.sh(f'truncate -s 200M {DISK}')
        kill_daemon(guest)
        attach(guest, '--primary' if guest is one else '')
        until('its metadata has moved', lambda at=guest: 'the disk has grown' in at.sh('cat /tmp/daemon.log'), 60)
        wait_for(guest, 'synced', 120)
    assert int(one.sh(f'blockdev --getsize64 {path}')) == before, 'not without an order'

    # The order may be given to either node; clients see it at once.
    two.sh('rblk resize vol', timeout=60)
    size = status(one)['devices'][0]['size'] * 1024
    assert size > 190 << 20
    until('the device has grown', lambda: int(one.sh(f'blockdev --getsize64 {path}')) == size, 20)
    one.sh(f'resize2fs {path}', timeout=120)
    one.join(writer)
    assert one.sh('findmnt -no ID /mnt/vol') == id_before
    one.sh('dd if=/dev/urandom of=/mnt/vol/large bs=1M count=110 conv=fsync status=none && md5sum /mnt/vol/* '
           '2> /dev/null > /tmp/sums; test -s /tmp/sums', timeout=200)
    wait_for(one, 'synced', 120)

    # A device that was left at its old size, or has the new one, is taken over by the next daemon.
    kill_daemon(one)
    attach(one, '--primary')
    wait_for(one, 'synced', 120)
    assert int(one.sh(f'blockdev --getsize64 {path}')) == size
    one.sh('md5sum --quiet -c /tmp/sums; umount /mnt/vol', timeout=120)

    one.sh('rblk demote vol', timeout=60)
    two.sh('rblk promote vol', timeout=60)
    path = device(two)
    assert int(two.sh(f'blockdev --getsize64 {path}')) == size
    two.sh(f'fsck.ext4 -fn {path} && mount -o ro {path} /mnt/vol && test -s /mnt/vol/large && umount /mnt/vol',
           timeout=200)
    for guest in (two, one):
        guest.sh('rblk detach vol', timeout=60)
    sums = {guest.sh(f'head -c {size} {DISK} | md5sum', timeout=120) for guest in lab.guests}
    assert len(sums) == 1, 'the disks differ'
