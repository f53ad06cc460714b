"""OCFS2 mounted on both servers, from DRBD's configuration: two Primaries, systemd, cuts, restarts, a power cut."""
import json
import os
import time

from units import keep, until
from volume import compare_detached

LAB = {'guests': 2, 'disks_mb': (400,), 'systemd': True}
FRESH = True
LONG = True

# How long both sides work in each part; the whole story of the guide is 300.
SECONDS = int(os.environ.get('RBLK_DIPOLE_SECONDS', '40'))
# What a user of DRBD has, but for host names, addresses and disk.
SWARM = '''resource swarm {
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
NODE = 'node:\n\tip_port = 7777\n\tip_address = 10.77.0.{0}\n\tnumber = {0}\n\tname = n{0}\n\tcluster = ocfs2\n\n'
CLUSTER = 'cluster:\n\tnode_count = 2\n\tname = ocfs2\n\n' + NODE.format(1) + NODE.format(2)
FSTAB = ('/dev/rblk/swarm /srv/swarm ocfs2 noauto,_netdev,noatime,x-systemd.automount,'
         'x-systemd.requires=o2cb.service 0 0')
# Appends a line, syncs it, and says so outside the volume; ends with the longest time that one took.
WRITER = r'''
import os, sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
data = os.open(f'/srv/swarm/{name}', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
told = os.open(f'/host/{name}', os.O_CREAT | os.O_WRONLY)
end, longest, count = time.monotonic() + seconds, 0, 0
while time.monotonic() < end:
    began = time.monotonic()
    os.write(data, b'%08d\n' % count)
    os.fsync(data)
    longest = max(longest, time.monotonic() - began)
    count += 1
    os.pwrite(told, b'%08d\n' % count, 0)
print(count, longest)
'''
# A database of each node: with O2CB as the cluster stack, locks by fcntl are of one node alone.
DATABASE = ('for i in $(seq 1000000); do test $(date +%s) -lt {end} || break; '
            'sqlite3 -cmd ".timeout 60000" /srv/swarm/{name}.db "insert into t values(\'{name}\', $i)" || exit 1; '
            'done; echo $i')


def swarm(guest):
    """What `status` says."""
    return json.loads(guest.sh('rblk status swarm --json'))[0]


def write_for(guest, seconds, name=None):
    """The writer in the background; `ended` takes its answer."""
    return guest.bg(f'python3 /tmp/writer.py {name or guest.name} {seconds}', timeout=seconds + 300)


def ended(guest, job):
    """How many lines were written, and the longest time for one, in seconds."""
    count, longest = guest.join(job).split()[-2:]
    return int(count), float(longest)


def both_primary(lab):
    """Waits until both are, with all data."""
    for guest in lab.guests:
        until(guest, 'rblk wait swarm synced --timeout 60 && rblk status swarm --json | grep -q \'"role": *"Primary"\'')


def mount_number(guest):
    """The mount as the kernel numbers it: another number is another mount."""
    return guest.sh('findmnt -no ID -t ocfs2 /srv/swarm').strip()


def test_the_configuration_of_drbd_drives_it(lab):
    for guest in lab.guests:
        guest.sh(f"mkdir -p /srv/swarm; cat > /tmp/swarm.res << 'END'\n{SWARM}END\n"
                 'rblk import /tmp/swarm.res > /etc/rblk/swarm.toml 2> /dev/null\n'
                 f"printf '%s' '{CLUSTER}' > /etc/ocfs2/cluster.conf; echo '{FSTAB}' >> /etc/fstab\n"
                 'sed -i s/ENABLED=false/ENABLED=true/ /etc/default/o2cb; systemctl daemon-reload\n'
                 'rblk create swarm --in-sync; systemctl enable rblk.target rblk@swarm o2cb')
        keep(guest)
        guest.sh('cd /; cp -a --parents etc/ocfs2 etc/default/o2cb /host/.lab/root/')
    jobs = [(guest, guest.bg('systemctl start o2cb rblk.target rblk@swarm')) for guest in lab.guests]
    for guest, job in jobs:
        guest.join(job)
    both_primary(lab)


def test_a_file_of_one_is_read_on_the_other(lab):
    one, two = lab.guests
    until(one, 'systemctl is-active dev-rblk-swarm.device')
    one.sh('mkfs.ocfs2 -q -L swarm -N 2 --cluster-stack=o2cb --cluster-name=ocfs2 --force /dev/rblk/swarm', timeout=300)
    for guest in lab.guests:
        guest.sh(f"cat > /tmp/writer.py << 'END'\n{WRITER}END\nsystemctl start srv-swarm.automount")
        until(guest, 'ls /srv/swarm > /dev/null && findmnt -t ocfs2 /srv/swarm')
    one.sh('echo from-n1 > /srv/swarm/x')
    assert two.sh('cat /srv/swarm/x') == 'from-n1\n'


def test_both_work(lab):
    jobs = []
    for guest in lab.guests:
        guest.sh(f'sqlite3 /srv/swarm/{guest.name}.db "create table t(node, i)"')
        end = int(guest.sh('date +%s')) + SECONDS
        inserts = DATABASE.format(end=end, name=guest.name)
        fio = (f'fio --name={guest.name} --directory=/srv/swarm --size=8M --rw=randwrite --bs=4k --ioengine=libaio '
               f'--iodepth=4 --direct=1 --verify=crc32c --verify_backlog=64 --time_based --runtime={SECONDS}')
        jobs.append((guest, guest.bg(inserts, timeout=SECONDS + 300), guest.bg(fio, timeout=SECONDS + 300)))
    for (guest, inserts, fio), other in zip(jobs, reversed(lab.guests)):
        assert 'err= 0' in guest.join(fio)
        inserted = int(guest.join(inserts).split()[-1]) - 1
        check = f'sqlite3 /srv/swarm/{guest.name}.db "pragma integrity_check; select count(*) from t"'
        said, rows = other.sh(check).split()
        print(f'    {guest.name} inserted {inserted} rows in {SECONDS} s')
        assert said == 'ok' and int(rows) >= inserted > 0


def test_a_restart_of_the_daemon_is_a_wait_and_no_error(lab):
    before = [mount_number(guest) for guest in lab.guests]
    for restarted in lab.guests:
        jobs = [(guest, write_for(guest, 20)) for guest in lab.guests]
        time.sleep(5)
        restarted.sh('systemctl restart rblk@swarm', timeout=120)
        for guest, job in jobs:
            count, longest = ended(guest, job)
            print(f'    restart on {restarted.name}: {guest.name} wrote {count}, the longest took {longest:.2f} s')
    both_primary(lab)
    assert [mount_number(guest) for guest in lab.guests] == before


def test_a_cut_of_ten_seconds_leaves_no_trace(lab):
    before = [swarm(guest)['rblk']['generation']['current'] for guest in lab.guests]
    mounts = [mount_number(guest) for guest in lab.guests]
    jobs = [(guest, write_for(guest, 25)) for guest in lab.guests]
    time.sleep(3)
    for guest in lab.guests:
        guest.link(False)
    time.sleep(10)
    for guest in lab.guests:
        guest.link(True)
    for guest, job in jobs:
        count, longest = ended(guest, job)
        print(f'    {guest.name} wrote {count}, the longest took {longest:.2f} s')
        assert longest < 14, longest
    both_primary(lab)
    assert [swarm(guest)['rblk']['generation']['current'] for guest in lab.guests] == before
    assert [mount_number(guest) for guest in lab.guests] == mounts


def test_after_a_power_cut_the_other_goes_on_and_the_dead_one_returns(lab):
    one, two = lab.guests
    job = write_for(one, 40)
    write_for(two, 40, 'dying')
    time.sleep(8)
    two.kill()
    count, longest = ended(one, job)
    print(f'    the other wrote {count}, the longest took {longest:.2f} s')
    assert longest < 20, longest
    two.start()
    both_primary(lab)
    until(two, 'ls /srv/swarm > /dev/null && findmnt -t ocfs2 /srv/swarm', 240)
    with open(two.shared('dying')) as file:
        confirmed = int(file.read())
    for guest in lab.guests:
        lines = guest.sh('wc -l < /srv/swarm/dying')
        assert int(lines) >= confirmed > 0, f'{guest.name} has {lines} lines of {confirmed} that were synced'
    copied = swarm(one)['rblk']['resync']['since-connect-bytes'] >> 20
    print(f'    {confirmed} lines were synced before, and are there; {copied} MiB were resynced')


def test_it_ends_clean_and_equal(lab):
    one, _ = lab.guests
    for guest in lab.guests:
        guest.sh('systemctl stop srv-swarm.automount; umount /srv/swarm; ! findmnt -t ocfs2 /srv/swarm', timeout=120)
    said = one.sh('fsck.ocfs2 -fn /dev/rblk/swarm', timeout=300)
    assert 'All passes succeeded' in said, said
    for guest in lab.guests:
        guest.sh('systemctl stop rblk@swarm', timeout=120)
    compare_detached(lab)
