"""Two Primaries installed with systemd, for tests: the volume `swarm` on n1 and n2, from DRBD's configuration."""
import json

from units import keep, until

# What a user of DRBD has, but for host names, addresses and disk.
RESOURCE = '''resource swarm {
   device       /dev/drbd0;
   meta-disk    internal;
   net {
      protocol  C;
      allow-two-primaries;
      after-sb-0pri discard-zero-changes;
      after-sb-1pri discard-secondary;
      after-sb-2pri disconnect;
   }
   startup { become-primary-on both; }
   on n1 { address 10.77.0.1:7790; disk /dev/vdb; }
   on n2 { address 10.77.0.2:7790; disk /dev/vdb; }
}
'''
DEVICE = '/dev/rblk/swarm'


def configure(guest, change='', more=''):
    """What an administrator does once on each server. `change` is what sed does to the imported configuration, `more`
    stands at its end."""
    guest.sh(f"mkdir -p /srv/swarm; cat > /tmp/swarm.res << 'END'\n{RESOURCE}END\n"
             f'rblk import /tmp/swarm.res 2> /dev/null | sed -e "{change}" > /etc/rblk/swarm.toml\n'
             f"cat >> /etc/rblk/swarm.toml << 'END'\n\n[net]\nsecurity = \"none\"\n\n{more}END\n"
             'rblk config swarm > /dev/null && rblk create swarm --in-sync --force && '
             'systemctl enable rblk.target rblk@swarm')
    keep(guest)


def start(*guests):
    """Starts what is enabled, on all of them at once."""
    jobs = [(guest, guest.bg('systemctl start rblk.target rblk@swarm')) for guest in guests]
    for guest, job in jobs:
        guest.join(job)


def status(guest):
    """What `status` says."""
    return json.loads(guest.sh('rblk status swarm --json'))[0]


def generation(guest):
    """The name of its data: another one means that the two have parted."""
    return status(guest)['rblk']['generation']['current']


def both_primary(lab, seconds=120):
    """Waits until both are, with all data, and their devices are there."""
    for guest in lab.guests:
        until(guest, f'rblk wait swarm synced --timeout 60 && test -b {DEVICE} && '
                     'rblk status swarm --json | grep -q \'"role": *"Primary"\'', seconds)


def cut(lab):
    """The cable between the two."""
    for guest in lab.guests:
        guest.link(False)


def heal(lab):
    """The cable is back."""
    for guest in lab.guests:
        guest.link(True)
