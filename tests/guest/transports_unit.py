"""RDMA under the unit of systemd, with the drop-in that docs/transports.md shows and without it."""
import os
import re

from units import configure, journal, until
from volume import soft_roce, status, wait_for

LAB = {'guests': 2, 'disks_mb': (320,), 'systemd': True}
LONG = True

DOCUMENT = os.path.join(os.path.dirname(__file__), '../../docs/transports.md')


def test_without_the_drop_in_the_unit_says_what_lacks(lab):
    soft_roce(lab)
    for guest in lab.guests:
        configure(guest)
        guest.sh("sed -i 's|^security = \"none\"|&\\ntransport = \"rdma\"|' /etc/rblk/vol.toml")
    one, _ = lab.guests
    assert one.result(one.bg('timeout 20 systemctl start rblk@vol')).status != 0
    said = one.sh('journalctl -b -u rblk@vol -o cat --no-pager')
    assert 'transport \\"rdma\\" needs' in said or 'transport "rdma" needs' in said, said
    one.sh('systemctl stop rblk@vol')


def test_with_it_the_link_is_rdma(lab):
    with open(DOCUMENT) as file:
        (block,) = re.findall(r'```ini\n(.*?)```', file.read(), re.DOTALL)
    conf = '/etc/systemd/system/rblk@.service.d/override.conf'
    for guest in lab.guests:
        guest.sh(f"mkdir -p $(dirname {conf})\ncat > {conf} << 'END'\n{block}END\nsystemctl daemon-reload")
    for job, guest in [(guest.bg('systemctl start rblk.target rblk@vol'), guest) for guest in lab.guests]:
        guest.join(job)
    one, two = lab.guests
    wait_for(one, 'synced')
    for guest in lab.guests:
        said = status(guest)
        assert said['rblk'].get('transport-in-use') == 'rdma', f'{said}\n{journal(guest)}'
    one.sh('rblk promote vol')
    until(one, 'test -b /dev/rblk/vol')
    one.sh('dd if=/dev/urandom of=/dev/rblk/vol bs=1M count=16 oflag=direct status=none')
    two.sh('systemctl restart rblk@vol')
    wait_for(one, 'synced')
    wait_for(two, 'synced')
