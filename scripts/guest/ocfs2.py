"""OCFS2 on two Primaries, for tests: its cluster, and clients of a file system that both have mounted."""
from volume import until
from writer import synced

PLACE = '/srv/swarm'
NODE = 'node:\n\tip_port = 7777\n\tip_address = 10.77.0.{0}\n\tnumber = {0}\n\tname = n{0}\n\tcluster = ocfs2\n\n'
CLUSTER = 'cluster:\n\tnode_count = 2\n\tname = ocfs2\n\n' + NODE.format(1) + NODE.format(2)
MKFS = 'mkfs.ocfs2 -q -L swarm -N 2 --cluster-stack=o2cb --cluster-name=ocfs2 --force '
# Appends a line, syncs it, and says so outside the volume, as long as told.
WRITER = r'''
import os, sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
data = os.open(f'/srv/swarm/{name}', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
told = os.open(f'/host/{name}', os.O_CREAT | os.O_WRONLY)
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    os.write(data, b'%08d\n' % count)
    os.fsync(data)
    count += 1
    os.pwrite(told, b'%08d\n' % count, 0)
print(count)
'''
# A database of each node: with O2CB as the cluster stack, locks by fcntl are of one node alone.
DATABASE = ('end=$(($(date +%s) + {seconds})); for i in $(seq 1000000); do '
            'sqlite3 -cmd ".timeout 60000" /srv/swarm/{name}.db "insert into t values(\'{name}\', $i)" || exit 1; '
            'test $(date +%s) -lt $end || break; done; echo $i')
FIO = ('fio --name={name} --directory=/srv/swarm --size=8M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=4 '
       '--direct=1 --verify=crc32c --verify_backlog=64 --time_based --runtime={seconds}')


def writes(guest, seconds, name):
    """The writer in the background: it says what it has synced in a file that outlives its machine."""
    with open(guest.shared('writer.py'), 'w') as file:
        file.write(WRITER)
    job = guest.bg(f'python3 /host/writer.py {name} {seconds}', timeout=seconds + 300)
    until('it writes', lambda: synced(guest, name) > 10, 240)
    return job


def both_work(lab, seconds):
    """A database and a heavy load on each; what one has written the other finds."""
    jobs = []
    for guest in lab.guests:
        guest.sh(f'sqlite3 {PLACE}/{guest.name}.db "create table t(node, i)"')
        jobs.append((guest, *(guest.bg(work.format(name=guest.name, seconds=seconds), timeout=seconds + 300)
                              for work in (DATABASE, FIO))))
    for (guest, inserts, fio), other in zip(jobs, reversed(lab.guests)):
        said = guest.join(fio)
        assert 'err= 0' in said, said
        inserted = int(guest.join(inserts).split()[-1])
        check = f'sqlite3 {PLACE}/{guest.name}.db "pragma integrity_check; select count(*) from t"'
        sound, rows = other.sh(check).split()
        issued = next(line.strip() for line in said.splitlines() if 'issued rwts' in line)
        print(f'    {guest.name} inserted {inserted} rows in {seconds} s; fio {issued}', flush=True)
        assert sound == 'ok' and int(rows) == inserted > 0, rows


def mount_number(guest):
    """The mount as the kernel numbers it: another number is another mount."""
    return guest.sh(f'findmnt -no ID -t ocfs2 {PLACE}').strip()


def is_sound(guest, device):
    """Nobody has it mounted, and nothing is wrong with it."""
    said = guest.sh(f'fsck.ocfs2 -fn {device}', timeout=300)
    assert 'All passes succeeded' in said, said
