"""The Debian package: installed, upgraded under a mounted volume, removed and purged, on a bare Debian 13."""
import glob
import os
import subprocess
import tempfile

from units import configure, keep, mounted, until

LAB = {'guests': 1, 'disks_mb': (64,), 'systemd': 'bare'}
FRESH = True
# cargo-deb may have to be built first.
LONG = True

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What the administrator and the volume leave, and nothing else.
REMAINS = {'/etc/rblk', '/etc/rblk/vol.toml', '/var/lib/rblk'}


def test_a_package_is_made_and_installed(lab):
    (one,) = lab.guests
    program = os.path.join(os.environ.get('CARGO_TARGET_DIR') or os.path.join(REPOSITORY, 'target'), 'debug', 'rblk')
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([os.path.join(REPOSITORY, 'scripts', 'package'), '--program', program, '--output', directory,
                        'deb'], check=True)
        (package,) = glob.glob(f'{directory}/rblk_*.deb')
        lab.package = one.put(package, 'rblk.deb')
    said = one.sh(f'set -e; dpkg -i {lab.package}; dpkg -s rblk; dpkg -L rblk')
    assert 'install ok installed' in said and 'Depends: libc6' in said, said
    for path in ('/usr/bin/rblk', '/usr/share/man/man8/rblk-promote.8.gz', '/usr/lib/systemd/system/rblk@.service',
                 '/usr/lib/systemd/system/rblk-zfs@.service',
                 '/usr/lib/systemd/system/rblk-verify@.service', '/usr/lib/systemd/system/rblk-verify@.timer',
                 '/usr/lib/rblk/pool',
                 '/usr/share/bash-completion/completions/rblk', '/usr/share/zsh/vendor-completions/_rblk',
                 '/usr/share/fish/vendor_completions.d/rblk.fish', '/usr/lib/udev/rules.d/59-rblk.rules',
                 '/usr/share/doc/rblk/examples/data.toml', '/usr/share/doc/rblk/copyright', '/usr/lib/rblk/mail.sh'):
        assert f'{path}\n' in said, f'{path} in {said}'
    one.sh('set -e; test -d /sys/module/ublk_drv; test -d /etc/rblk; '
           'if grep -r /usr/local /usr/lib/rblk /usr/lib/udev/rules.d/59*; then exit 1; fi; '
           'cd /usr/lib/systemd/system; systemd-analyze verify rblk.target rblk@vol.service rblk-primary@vol.service '
           'rblk-zfs@vol.service rblk-verify@vol.service rblk-verify@vol.timer')
    for example in ('data', 'swarm'):
        one.sh(f'rblk config {example} --config /usr/share/doc/rblk/examples/{example}.toml')


def test_an_upgrade_is_a_wait_for_who_uses_the_volume(lab):
    (one,) = lab.guests
    configure(one)
    keep(one)
    one.sh('set -e; systemctl start rblk.target rblk@vol; rblk promote vol --force')
    until(one, 'test -b /dev/rblk/vol')
    # The log is in the journal, with its fields.
    until(one, "journalctl -b -u rblk@vol RBLK_ROLE=Primary RBLK_RESOURCE=vol -o cat | grep -q 'this node is Primary'")
    one.sh('set -e; mkfs.ext4 -q /dev/rblk/vol; systemctl start srv-vol.mount; echo kept > /srv/vol/file')
    before, pid = mounted(one), one.sh('systemctl show -P MainPID rblk@vol')
    writer = one.bg('for i in $(seq 300); do '
                    'dd if=/dev/zero of=/srv/vol/$i bs=4k count=1 conv=fsync status=none || exit 1; done', timeout=200)
    one.sh(f'dpkg -i {lab.package}')
    until(one, f'test "$(systemctl show -P MainPID rblk@vol)" != {pid}')
    one.join(writer)
    assert mounted(one) == before, 'the volume was mounted anew'
    assert 'role:Primary' in one.sh('set -e; grep -q kept /srv/vol/file; rblk status vol')


def test_a_volume_in_use_is_not_removed(lab):
    (one,) = lab.guests
    one.sh('set -e; systemctl stop srv-vol.mount; systemctl disable srv-vol.mount')
    holder = one.bg('exec 9< /dev/rblk/vol; touch /run/holds; while [ -e /run/holds ]; do sleep 0.2; done', timeout=250)
    until(one, 'test -e /run/holds')
    answer = one.result(one.bg('dpkg -r rblk', timeout=200))
    assert answer.status != 0 and 'volume vol is in use' in answer.output, answer.output
    one.sh('set -e; rblk status vol; rm /run/holds')
    one.join(holder)


def test_removing_and_purging_leave_nothing(lab):
    (one,) = lab.guests
    one.sh('set -e; systemctl start srv-vol.mount; grep -q kept /srv/vol/file; dpkg -r rblk')
    said = one.sh('findmnt /srv/vol; ls -d /dev/ublkb* /dev/rblk/*; pidof rblk; command -v rblk', check=False)
    assert '/srv' not in said and '/dev/ublkb0' not in said and '/usr/bin' not in said, said
    one.sh(f'set -e; test -e /etc/rblk/vol.toml; dpkg -i {lab.package}')
    assert one.sh('systemctl is-enabled rblk@vol').strip() == 'enabled'
    one.sh('set -e; systemctl start rblk@vol; dpkg --purge rblk')
    found = set(one.sh("find / -xdev \\( -path /host -o -path /proc -o -path '/var/lib/dpkg' \\) -prune -o "
                       "-name '*rblk*' -print").split())
    left = {path for path in found if not path.startswith(('/var/log', '/tmp'))} - REMAINS
    assert not left, left
    assert one.sh('test -e /etc/rblk/vol.toml; dpkg -l rblk 2>&1 || true').count('rblk 0.') == 0
