"""The second day of an administrator, from the package to a replaced disk: docs/day2.md is what this printed.

    RBLK_DAY2=docs/day2.md scripts/guest/run --long day2        writes it anew

Every command is run as it stands there, and what it must show is looked at.
"""
import datetime
import glob
import os
import re
import subprocess
import tempfile

LAB = {'guests': 2, 'disks_mb': (320, 320), 'systemd': 'bare'}
FRESH = True
LONG = True

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.environ.get('RBLK_DAY2')
# Lines of an answer that are printed.
LINES = 14
CONFIG = '''
[resource]
name = "data"

[[node]]
name = "n1"
address = "10.77.0.1:7790"
disk = "/dev/mapper/data"

[[node]]
name = "n2"
address = "10.77.0.2:7790"
disk = "/dev/mapper/data"

[metrics]
listen = "127.0.0.1:7791"
'''


class Page:
    """What is told, and what was run."""

    def __init__(self):
        self.parts = []

    def tell(self, text):
        """A paragraph, or a heading."""
        self.parts.append(text + '\n')

    def run(self, guest, command, *shown, fails=False, timeout=200):
        """Runs a command; its answer has all of `shown`. `fails`: it must, or with `None` it may."""
        answer = guest.result(guest.bg(command, timeout=timeout))
        said = f'{guest.name}: {command}: {answer.status}\n{answer.output}'
        assert fails in (None, answer.status != 0), said
        for part in shown:
            assert re.search(part, answer.output), f'no {part!r} in {said}'
        lines = [line.split('\r')[-1].rstrip() for line in answer.output.splitlines()]
        lines = [line for line in lines if line]
        if len(lines) > LINES:
            lines = lines[:LINES - 1] + [f'... {len(lines) - LINES + 1} more lines']
        self.parts.append('```text\n' + '\n'.join([f'{guest.name}# {command}', *lines]) + '\n```\n')
        return answer.output

    def quietly(self, guest, command, timeout=200):
        """What the page does not show: the machine around it."""
        return guest.sh(command, timeout=timeout)

    def write(self, path, kernel):
        """All of it, with where and when it was run."""
        head = (f'# The second day\n\nPrinted by `tests/guest/day2.py` on {datetime.date.today()}: two virtual '
                f'machines, n1 and n2, with a minimal Debian 13 and kernel {kernel}. Do not edit.\n')
        with open(path, 'w') as file:
            file.write('\n'.join([head, *self.parts]))


def test_the_second_day(lab):
    one, two = lab.guests
    page = Page()
    for part in (_install, _make, _look, _compare, _grow, _upgrade, _replace, _measure):
        part(lab, page, one, two)
    if PAGE:
        page.write(os.path.join(REPOSITORY, PAGE), one.sh('uname -r').strip())


def _install(lab, page, one, two):
    program = os.path.join(os.environ.get('CARGO_TARGET_DIR') or os.path.join(REPOSITORY, 'target'), 'debug', 'rblk')
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([os.path.join(REPOSITORY, 'scripts', 'package'), '--program', program, '--output', directory,
                        'deb'], check=True)
        (package,) = glob.glob(f'{directory}/rblk_*.deb')
        for guest in (one, two):
            guest.sh(f'cp {guest.put(package, "rblk.deb")} /srv/rblk.deb')
    page.tell('## Install\n\nOn both, with the package that `scripts/package deb` makes:')
    page.run(one, 'dpkg -i /srv/rblk.deb', 'Setting up rblk')
    page.quietly(two, 'dpkg -i /srv/rblk.deb')


def _make(_, page, one, two):
    page.tell('## Make a volume\n\nBoth have a logical volume `/dev/mapper/data` of 96 MiB. n1 has '
              f'`/etc/rblk/data.toml`:\n\n```toml{CONFIG}```')
    for guest in (one, two):
        _size_disk(page, guest, 'vdb', 96, 'create')
        page.quietly(guest, 'mkdir -p /srv/data')
    page.quietly(one, f"cat > /etc/rblk/data.toml << 'END'\n{CONFIG}END\n")
    _pair(page, one, two)
    page.tell('On both (both disks are new, and zeroes: `--in-sync`):')
    for guest in (one, two):
        say = page.run if guest is one else page.quietly
        say(guest, 'rblk create data --in-sync')
        say(guest, 'systemctl enable --now rblk.target rblk@data')
    page.run(one, 'rblk wait data synced --timeout 60')
    page.run(one, 'rblk doctor data', 'metadata', fails=None)  # warns that no clock is synchronised there
    page.tell('On one of them:')
    page.run(one, 'rblk promote data')
    _until(one, 'test -b /dev/rblk/data')
    page.run(one, 'mkfs.ext4 -q /dev/rblk/data && mount /dev/rblk/data /srv/data')
    page.quietly(one, 'cp -r /usr/lib/python3*/json /srv/data/; head -c 20M /dev/urandom > /srv/data/file; sync; '
                      'md5sum /srv/data/file > /srv/sum')


def _pair(page, one, two):
    """The token goes from one terminal to the other."""
    page.tell('n1 lets n2 join: `rblk pair data` prints a token, and waits. On n2, with the token at its standard\n'
              'input, `rblk join` gets both their keys, and n2 the same file:')
    waits = one.bg('rblk pair data > /run/token', timeout=200)
    _until(one, 'test -s /run/token')
    page.quietly(two, f"echo '{one.sh('cat /run/token').strip()}' > /run/token")
    page.run(two, 'rblk join < /run/token', 'data')
    paired = one.result(waits)
    assert paired.status == 0, paired.output


def _look(_, page, one, __):
    page.tell('## Watch it')
    page.run(one, 'rblk status data', 'role:Primary', 'UpToDate')
    page.run(one, 'rblk stats data', 'front-write')
    page.tell('`rblk status data --watch` shows the same as it changes, full screen.')


def _compare(_, page, one, two):
    page.tell('## Verify it\n\nOne bit is flipped on the disk of n2, behind the back of rblk, 40 MiB from its start:')
    page.run(two, 'python3 -c "f = open(\'/dev/mapper/data\', \'r+b\', 0); f.seek(40 << 20); b = f.read(1); '
                  'f.seek(40 << 20); f.write(bytes([b[0] ^ 4]))"')
    page.run(one, 'rblk verify data', '4.0 KiB|1 block|differ', fails=True)
    page.tell('n1 is right, and Primary:')
    page.run(one, 'rblk verify data --repair', 'copied to the other node')
    page.run(one, 'rblk verify data', 'hold the same')


def _grow(_, page, one, two):
    page.tell('## Grow it\n\nBoth disks get larger (of LVM: `lvextend -L 192M`); then, the Secondary first:')
    for guest in (one, two):
        _size_disk(page, guest, 'vdb', 192, 'reload')
    page.run(two, 'systemctl restart rblk@data')
    page.run(one, 'rblk wait data synced --timeout 120', timeout=200)
    page.run(one, 'systemctl restart rblk@data')
    page.run(one, 'rblk wait data synced --timeout 120', timeout=200)
    before = int(one.sh('blockdev --getsize64 /dev/rblk/data'))
    page.run(two, 'rblk resize data', 'has grown from', timeout=60)
    page.run(one, 'resize2fs /dev/rblk/data', 'resize')
    page.run(one, 'rblk wait data synced --timeout 120', timeout=200)
    page.run(one, 'df -h /srv/data', '/srv/data')
    assert int(one.sh('blockdev --getsize64 /dev/rblk/data')) > before + (90 << 20)


def _upgrade(_, page, one, two):
    page.tell('## Upgrade it\n\nBoth nodes, one after the other, the Secondary first, while something writes. Its '
              'requests wait, and none fails. After its own restart the Primary compares what was in flight, and reads '
              'what it is not sure of from the other node, which must stay up until that ends:')
    writer = one.bg('for i in $(seq 200); do dd if=/dev/zero of=/srv/data/log bs=4k count=1 oflag=append conv=notrunc,'
                    'fsync status=none || exit 1; done; stat -c "%s bytes were written" /srv/data/log', timeout=280)
    for guest in (two, one):
        page.run(guest, 'dpkg -i /srv/rblk.deb', 'Setting up rblk')
        page.run(guest, 'rblk wait data synced --timeout 120', timeout=200)
    said = one.join(writer)
    assert '819200 bytes' in said, said
    page.tell(f'The writer, when it was done: `{said.strip()}`, each of its 200 writes synced.')


def _replace(_, page, one, two):
    page.tell('## Lose a disk\n\nThe disk of n2 fails: from now on every request to it is an error. The Primary goes '
              'on.')
    size = two.sh('blockdev --getsz /dev/mapper/data').strip()
    page.quietly(two, f'dmsetup suspend --noflush data; echo 0 {size} error | dmsetup load data; dmsetup resume data')
    page.run(one, 'dd if=/dev/urandom of=/srv/data/more bs=64k count=16 conv=fsync status=none')
    _until(one, 'rblk status data | grep -q Diskless')
    page.run(two, 'rblk explain data')
    page.run(one, 'rblk status data', 'peer-disk:Diskless')
    page.tell('A new disk, at least as large as the old one, under the old name (or with another `disk` for n2 in both '
              'files); what it holds is overwritten. On n2 alone, without `--in-sync`:')
    page.quietly(two, 'dmsetup remove -f data || true', timeout=60)
    page.run(two, 'systemctl stop rblk@data')
    page.quietly(two, 'dmsetup remove data || true')
    _size_disk(page, two, 'vdc', 192, 'create')
    page.run(two, 'rblk create data')
    page.run(two, 'systemctl start rblk@data')
    page.run(one, 'rblk wait data synced --timeout 200', timeout=280)
    page.run(one, 'rblk verify data', 'hold the same', timeout=280)
    page.run(one, 'md5sum -c /srv/sum', 'OK')


def _measure(_, page, one, __):
    page.tell('## Read its metrics\n\nWith `[metrics] listen` in the configuration, as above:')
    text = page.quietly(one, 'python3 -c "import urllib.request as u; '
                             'print(u.urlopen(\'http://127.0.0.1:7791/metrics\').read().decode(), end=\'\')"')
    names = sorted({line.split()[2] for line in text.splitlines() if line.startswith('# TYPE')})
    promtool = os.environ.get('PROMTOOL', 'promtool')
    result = subprocess.run([promtool, 'check', 'metrics'], input=text, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', ''), result
    for line in ('rblk_resource_role{', 'rblk_device_written_bytes_total{'):
        assert line in text, text
    page.tell(f'`http://127.0.0.1:7791/metrics` has {len(text.splitlines())} lines in {len(names)} families; '
              '`promtool check metrics` has nothing to say of them. [metrics.md](metrics.md) lists them.')
    page.run(one, 'umount /srv/data && fsck.ext4 -fn /dev/rblk/data', 'files')


def _size_disk(page, guest, disk, mib, how):
    """A logical volume over the first part of a disk; `reload` makes one that is in use larger."""
    table = f'0 {mib * 2048} linear /dev/{disk} 0'
    page.quietly(guest, f'echo {table} | dmsetup {how} data && dmsetup resume data && udevadm settle')


def _until(guest, condition, seconds=60):
    page = guest.bg(f'for i in $(seq {seconds * 5}); do if {condition}; then exit 0; fi; sleep 0.2; done; exit 1',
                    timeout=seconds + 60)
    guest.join(page)
