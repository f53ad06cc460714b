"""The link over RDMA (soft RoCE) and over SMC, on real kernels: the hardware's counters say what carried it.

With Debian 13's own kernel, RBLK_GUEST_KERNEL=trixie, there is SMC; newer ones of Debian's have none, and a daemon says
so.
"""
import re
import time

from volume import (attach, bring_up, compare_disks, device, kill_daemon, prepare, prepare_tls, soft_roce, status,
                    wait_for)

LAB = {'guests': 2, 'disks_mb': (320,)}
LONG = True

# Without a user-defined EID there is no SMCv2, without which soft RoCE is not used: smc-tools would do this.
EID = '''
import socket, struct
def message(family, flags, command, attributes, version=1):
    body = struct.pack('BBH', command, version, 0) + attributes
    return struct.pack('IHHII', 16 + len(body), family, flags, 1, 0) + body
def attribute(kind, value):
    return struct.pack('HH', 4 + len(value), kind) + value + bytes(-len(value) % 4)
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
link.send(message(16, 1, 3, attribute(2, b'SMC_GEN_NETLINK\\0')))
answer = link.recv(65536)
at, family = 20, None
while at < len(answer):
    length, kind = struct.unpack_from('HH', answer, at)
    if kind == 1:
        family = struct.unpack_from('H', answer, at + 4)[0]
    at += (length + 3) & ~3
link.send(message(family, 5, 10, attribute(1, b'RBLK'.ljust(32) + b'\\0')))
error = struct.unpack_from('i', link.recv(65536), 16)[0]
assert error in (0, -17), error
'''


def test_rdma_carries_a_volume(lab):
    one, two = lab.guests
    soft_roce(lab)
    for guest in lab.guests:
        prepare(lab, guest, net='security = "none"\ntransport = "rdma"\n')
    _works(lab, 'rdma')
    # The link alone: what the two hold must have come over it.
    before = [_packets(guest) for guest in lab.guests]
    frames = int(one.sh('cat /sys/class/net/eth0/statistics/tx_packets'))
    one.sh(f'dd if=/dev/urandom of={device(one)} bs=1M count=32 oflag=direct status=none')
    sent = _packets(one) - before[0]
    assert sent > (32 << 20) / 4096, f'{sent} packets of RDMA for 32 MiB\n{one.sh("tail -40 /tmp/daemon.log")}'
    print(f'      32 MiB: {sent} packets of RDMA on n1, {_packets(two) - before[1]} on n2; '
          f'{int(one.sh("cat /sys/class/net/eth0/statistics/tx_packets")) - frames} frames in all on n1')
    _is_killed(lab)
    compare_disks(lab)


def test_rdma_carries_tls(lab):
    """The same stream within TLS."""
    one, _ = lab.guests
    prepare_tls(lab, net='transport = "rdma"\n')
    for guest in lab.guests:
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    for guest in lab.guests:
        said = status(guest)
        assert said['connections'][0]['tls'] and said['rblk']['transport-in-use'] == 'rdma', said
    _verifies(one, 16)
    compare_disks(lab)


def test_smc_carries_a_volume_or_the_daemon_says_what_lacks(lab):
    one, two = lab.guests
    for guest in lab.guests:
        prepare(lab, guest, net='security = "none"\ntransport = "smc"\n')
    if one.result(one.bg('modprobe smc')).status:
        answer = one.result(one.bg('rblk attach vol'))
        assert answer.status == 1 and 'this kernel has no SMC' in answer.output, answer.output
        assert 'do:' in answer.output, answer.output
        print('      no SMC in ' + one.sh('uname -r').strip())
        return
    # As most hosts are, there is no SMCv2 at first: TCP carries it, and the status says so.
    for guest in lab.guests:
        guest.sh('modprobe smc_diag')
        attach(guest, '--primary' if guest is one else '')
    wait_for(one, 'synced')
    assert status(one)['rblk']['transport-in-use'] == 'tcp', status(one)
    assert 'to which it fell back' in one.sh('rblk status vol')
    for guest in lab.guests:
        guest.sh('rblk detach vol')
        guest.sh(f"python3 - << 'END'\n{EID}END")
    _works(lab, 'smc-r')
    before = _packets(one)
    one.sh(f'dd if=/dev/urandom of={device(one)} bs=1M count=32 oflag=direct status=none')
    assert _packets(one) - before > (32 << 20) / 4096, _packets(one) - before
    print(f'      32 MiB: {_packets(one) - before} packets of RDMA on n1')
    _is_killed(lab)
    compare_disks(lab)


def _threads(guest):
    """What the threads of the daemon are at."""
    return guest.sh('hostname; for t in /proc/$(cat /tmp/daemon)/task/*; do echo $(cat $t/comm) '
                    '$(cut -d" " -f3,14,15 $t/stat): $(head -2 $t/stack | tr "\\n" " ") $(cat $t/syscall); done; '
                    'rdma res; tail -20 /tmp/daemon.log')


def _packets(guest):
    return int(guest.sh('cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts'))


def _works(lab, in_use):
    """Both come up, and fio finds what it wrote."""
    one, _ = lab.guests
    bring_up(lab)
    for guest in lab.guests:
        said = status(guest)
        assert said['rblk'].get('transport-in-use') == in_use, said
    assert f'in-use:{in_use}' in one.sh('rblk status vol')
    _verifies(one, 48)


def _verifies(one, mib):
    one.sh(f'fio --name=v --filename={device(one)} --rw=randrw --bsrange=4k-128k --iodepth=32 --ioengine=libaio '
           f'--direct=1 --size={mib}M --verify=crc32c --verify_fatal=1', timeout=300)


def _is_killed(lab):
    """Daemons die under load: the Primary's is a stall, the Secondary's a short resync."""
    one, two = lab.guests
    path = device(one)
    fio = one.bg(f'fio --name=k --filename={path} --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 '
                 '--size=64M --verify=crc32c --verify_backlog=256 --time_based --runtime=30', timeout=180)
    try:
        for guest in (one, two, one):
            time.sleep(5)
            kill_daemon(guest)
            attach(guest)
            assert device(one) == path, 'the same device goes on'
        said = one.join(fio)
        assert re.search(r'err= *0', said), said
        wait_for(one, 'synced')
    except AssertionError:
        print('\n'.join(_threads(guest) for guest in lab.guests))
        raise
