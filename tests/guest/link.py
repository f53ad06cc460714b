"""The link on a real network: what a capture of it shows, and how much delay it bears."""
import re
import time

from volume import bring_up, compare_disks, device, prepare, prepare_tls, status, until

LAB = {'guests': 2, 'disks_mb': (320,)}
LONG = True

PATTERN = 'what a client writes is nobody elses business'

# Nine of ten packets take half a second more; the tenth overtakes them.
SPIKES = 'tc qdisc add dev eth0 root netem delay 500ms reorder 10% limit 20000'


def test_a_capture_shows_nothing_of_what_is_written(lab):
    prepare_tls(lab)
    size, found = _captured(lab)
    assert not found, f'{found} of {size} bytes are the pattern'
    print(f'      TLS: {size} bytes captured, the pattern is not in it')
    compare_disks(lab)


def test_without_tls_the_same_capture_shows_it(lab):
    """So that the test above can fail."""
    for guest in lab.guests:
        prepare(lab, guest)
    size, found = _captured(lab)
    assert found > 1000, f'{found} of {size}'
    print(f'      none: {size} bytes captured, the pattern is there {found} times')
    compare_disks(lab)


def test_spikes_of_delay_are_no_loss(lab):
    one, _ = lab.guests
    for guest in lab.guests:
        prepare(lab, guest, resource='peer-timeout-ms = 4000\n')
        guest.sh(': > /tmp/daemon.log; modprobe sch_netem')
    bring_up(lab)
    # On a link that was quick: that is when it is expected to stay so.
    until('it is known as quick', lambda: status(one)['rblk']['peer-silence-ms'] < 2200, 120)
    for guest in lab.guests:
        guest.sh(SPIKES)
    said = one.sh(f'fio --name=s --filename={device(one)} --rw=randwrite --bs=4k --iodepth=4 --ioengine=libaio '
                  '--direct=1 --size=16M --verify=crc32c --time_based --runtime=60', timeout=300)
    assert re.search(r'err= *0', said), said
    trip = one.sh('ping -c 20 -i 0.2 10.77.0.2 | tail -1').strip()
    time.sleep(20)
    for guest in lab.guests:
        guest.sh('tc qdisc del dev eth0 root')
    log = '\n'.join(guest.sh('cat /tmp/daemon.log') for guest in lab.guests)
    assert 'the connection to the peer ended' not in log and 'nothing was heard' not in log, log
    assert log.count('connected to') + log.count('connected from') == 2, log
    print(f'      {trip}; silence borne: {status(one)["rblk"]["peer-silence-ms"]} ms')
    compare_disks(lab)


def test_a_moment_without_network_is_no_loss(lab):
    """On a quick link, whose silence is borne for 2 s: what was lost is sent again often enough."""
    one, _ = lab.guests
    for guest in lab.guests:
        prepare(lab, guest)
        guest.sh(': > /tmp/daemon.log; modprobe sch_netem')
    bring_up(lab)
    until('it is known as quick', lambda: status(one)['rblk']['peer-silence-ms'] < 2200, 120)
    for _ in range(3):
        one.sh('tc qdisc add dev eth0 root netem loss 100% && sleep 1.5; tc qdisc del dev eth0 root; sleep 4')
    log = '\n'.join(guest.sh('cat /tmp/daemon.log') for guest in lab.guests)
    assert 'nothing was heard' not in log and 'the connection to the peer ended' not in log, log
    compare_disks(lab)


def _captured(lab):
    """Writes 8 MiB of a pattern, and looks for it in what went over the link: bytes captured, and how often it is in
    them."""
    one, _ = lab.guests
    bring_up(lab)
    one.sh('rm -f /tmp/link.pcap; setsid tcpdump -i eth0 -s 0 -w /tmp/link.pcap tcp port 7790 > /tmp/tcpdump 2>&1 & '
           'echo $! > /tmp/tcpdump.pid; sleep 2')
    one.sh(f"yes '{PATTERN}' | dd of={device(one)} bs=64k count=128 iflag=fullblock oflag=direct status=none")
    one.sh('sleep 2; kill $(cat /tmp/tcpdump.pid); sleep 1')
    size = int(one.sh('stat -c %s /tmp/link.pcap'))
    assert size > 8 << 20, f'{size} bytes captured: ' + one.sh('cat /tmp/tcpdump')
    return size, int(one.sh(f"grep -a -o '{PATTERN}' /tmp/link.pcap | wc -l"))
