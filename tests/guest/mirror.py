"""The mirrored device on a real kernel: file systems, a killed daemon, a power cut."""
import re
import time

from volume import attach, compare_disks, connection, device, kill_daemon, prepare, status, until, wait_for

LAB = {'guests': 2, 'disks_mb': (320,)}

# Writes files forever; the name of each goes to the host, out of reach of a power cut, once fsync has returned.
WRITER = '''
import hashlib, os
n = 0
while True:
    data = hashlib.sha256(str(n).encode()).digest() * (128 + n % 512)
    with open(f"/mnt/vol/f{n % 300}.{n}", "wb") as f:
        f.write(data); f.flush(); os.fsync(f.fileno())
    os.fsync(os.open("/mnt/vol", os.O_RDONLY))
    with open("/host/acked", "a") as f:
        f.write(f"{n}\\n"); f.flush(); os.fsync(f.fileno())
    n += 1
'''

# Checks every file that was acknowledged and says how many there are.
CHECKER = '''
import hashlib
count = 0
for line in open("/tmp/acked"):
    n = int(line)
    data = open(f"/mnt/vol/f{n % 300}.{n}", "rb").read()
    assert data == hashlib.sha256(str(n).encode()).digest() * (128 + n % 512), n
    count += 1
print(count, "files are as they were")
'''


def test_both_nodes_come_up(lab):
    for guest in lab.guests:
        prepare(lab, guest)
        guest.sh('rblk create vol --in-sync')
        attach(guest, '--primary' if guest is lab.guests[0] else '')
    one, _ = lab.guests
    wait_for(one, 'synced')
    path = device(one)
    queue = f'/sys/block/{path.removeprefix("/dev/")}/queue'
    said = one.sh(f'cat {queue}/fua {queue}/write_cache')
    assert said.split('\n')[:2] == ['1', 'write back'], said


def test_fio_finds_what_it_wrote(lab):
    one, _ = lab.guests
    one.sh(f'fio --name=v --filename={device(one)} --rw=randrw --bsrange=4k-128k --iodepth=32 --ioengine=libaio '
           '--direct=1 --size=100M --verify=crc32c --verify_fatal=1', timeout=300)


def test_ext4_and_xfs_can_be_made_filled_and_checked(lab):
    one, _ = lab.guests
    path = device(one)
    one.sh(f'mkfs.xfs -q -f {path} && mount {path} /mnt/vol && cp -r /usr/lib/python3* /mnt/vol/ && fstrim /mnt/vol; '
           f'umount /mnt/vol && xfs_repair -n {path}', timeout=300)
    one.sh(f'mkfs.ext4 -q -F {path} && mount {path} /mnt/vol && cp -r /usr/lib/python3* /mnt/vol/ && '
           f'rm -r /mnt/vol/python3 && umount /mnt/vol && fsck.ext4 -fn {path}', timeout=300)


def test_demote_names_who_has_it_open(lab):
    one, _ = lab.guests
    path = device(one)
    one.sh(f'mount {path} /mnt/vol')
    answer = one.result(one.bg('rblk demote vol'))
    one.sh('umount /mnt/vol')
    assert answer.status == 1 and 'in use' in answer.output and '/mnt/vol' in answer.output, answer.output


def test_a_killed_daemon_is_a_stall_for_fio(lab):
    one, _ = lab.guests
    path = device(one)
    fio = one.bg(f'fio --name=k --filename={path} --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 '
                 '--size=64M --verify=crc32c --verify_backlog=256 --time_based --runtime=20', timeout=120)
    for _ in range(2):
        time.sleep(4)
        kill_daemon(one)
        attach(one)
        assert device(one) == path, 'the same device goes on'
    said = one.join(fio)
    assert re.search(r'err= *0', said), said
    wait_for(one, 'synced')
    compare_disks(lab)
    for guest in lab.guests:
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')


def test_a_power_cut_loses_nothing_that_was_synced(lab):
    one, two = lab.guests
    path = device(one)
    one.sh(f'mkfs.ext4 -q -F {path} && mount {path} /mnt/vol; rm -f /host/acked')
    one.sh(f"cat > /tmp/writer.py << 'END'\n{WRITER}END\nsetsid python3 /tmp/writer.py > /tmp/writer.log 2>&1 & ")
    time.sleep(15)
    # A disk that was slow for a moment may have cost the peer: it catches up.
    wait_for(one, 'synced', 120)
    one.kill()
    with open(one.shared('acked')) as file:
        acked = file.read()
    assert acked.count('\n') > 20, acked
    # A machine that loses its power says nothing: its peer must notice.
    until('the loss is noticed', lambda: connection(two) != 'Connected', 60)
    two.sh(f"cat > /tmp/checker.py << 'END'\n{CHECKER}END\ncat > /tmp/acked << 'END'\n{acked}END")
    refused = two.result(two.bg('rblk promote vol'))
    assert refused.status == 1 and '--force' in refused.output, refused.output
    two.sh('rblk promote vol --force')
    path = device(two)
    # The journal is replayed by the mount, as after any power cut; then the file system must be sound.
    two.sh(f'mount {path} /mnt/vol && python3 /tmp/checker.py && umount /mnt/vol && fsck.ext4 -fn {path}',
           timeout=300)


def test_the_cut_node_returns_and_catches_up(lab):
    one, two = lab.guests
    one.start()
    prepare(lab, one)
    attach(one)
    wait_for(two, 'synced', 120)
    said = status(one)
    assert said['role'] == 'Secondary', said
    compare_disks(lab)
