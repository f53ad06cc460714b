"""rblk installed, with systemd as process 1, for tests: the volume `vol` on n1 and n2, mounted at /srv/vol."""
import time

from volume import CONFIG

MOUNT = '''
[Unit]
Description=The volume, where this node is Primary
[Mount]
What=/dev/rblk/vol
Where=/srv/vol
Options={options}
[Install]
WantedBy=dev-rblk-vol.device
'''


def configure(guest, more='', options='_netdev'):
    """What an administrator does once on each server, after scripts/install."""
    guest.sh(f"mkdir -p /srv/vol; cat > /etc/rblk/vol.toml << 'END'\n{CONFIG}{more}END\n"
             f"cat > /etc/systemd/system/srv-vol.mount << 'END'\n{MOUNT.format(options=options)}END\n"
             'rblk create vol --in-sync; systemctl enable rblk.target rblk@vol srv-vol.mount')
    keep(guest)


def keep(guest):
    """The administrator's files are there again after a boot."""
    guest.sh('cd /; cp -a --parents etc/rblk etc/systemd/system etc/fstab srv /host/.lab/root/')


def until(guest, condition, seconds=120):
    """Waits until a shell condition holds; fails with what systemd and rblk say."""
    end = time.monotonic() + seconds
    while guest.result(guest.bg(condition)).status:
        if time.monotonic() > end:
            raise AssertionError(f'{guest.name}, never: {condition}\n{journal(guest)}')
        time.sleep(0.3)


def journal(guest):
    """What systemd and rblk say now."""
    return guest.sh('systemctl list-jobs --no-pager; systemctl status "*rblk*" srv-vol.mount --no-pager -n 0; '
                    'rblk explain vol; journalctl -b -n 60 --no-pager -o short-monotonic', check=False)


def mounted(guest):
    """The mount as the kernel numbers it: another number is another mount."""
    return guest.sh('findmnt -no ID,SOURCE /srv/vol').split()
