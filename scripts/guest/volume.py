"""A volume on two guests, for tests: n1 and n2, each with /dev/vdb, as `vol`."""
import json
import time

CONFIG = '''
[resource]
name = "vol"
[net]
security = "none"
[[node]]
name = "n1"
address = "10.77.0.1:7790"
disk = "/dev/vdb"
[[node]]
name = "n2"
address = "10.77.0.2:7790"
disk = "/dev/vdb"
'''


def prepare(lab, guest, more='', resource='', net='security = "none"\n'):
    """Puts program and configuration, with `more` at its end, `resource` in [resource] and `net` as [net], into a guest
    that has just booted."""
    path = lab.program('rblk')
    config = CONFIG.replace('name = "vol"\n', f'name = "vol"\n{resource}').replace('security = "none"\n', net)
    guest.sh(f'cp {path} /usr/local/bin/rblk; mkdir -p /etc/rblk /run/rblk /mnt/vol; '
             f"cat > /etc/rblk/vol.toml << 'END'\n{config}{more}END\nmodprobe ublk_drv")


def prepare_tls(lab, net=''):
    """The same on all guests, with a key for each, and what else `net` says of the link."""
    for guest in lab.guests:
        prepare(lab, guest)
        guest.sh('rblk keygen vol --force --file /etc/rblk/vol.key > /tmp/key 2> /dev/null')
    keys = [guest.sh('cat /tmp/key').strip() for guest in lab.guests]
    for guest in lab.guests:
        prepare(lab, guest, net=net)
        for name, key in zip(('n1', 'n2'), keys):
            guest.sh(f"sed -i 's|^name = \"{name}\"|&\\n{key}|' /etc/rblk/vol.toml")


def soft_roce(lab):
    """Makes each guest's Ethernet an RDMA device."""
    for guest in lab.guests:
        guest.sh('modprobe crc32_generic 2> /dev/null; modprobe -a rdma_rxe rdma_ucm ib_uverbs && '
                 'rdma link add rxe0 type rxe netdev eth0 && rdma link')


def attach(guest, *options):
    """Starts the daemon."""
    guest.sh(f'setsid rblk attach vol {" ".join(options)} >> /tmp/daemon.log 2>&1 < /dev/null & echo $! > /tmp/daemon')


def bring_up(lab):
    """Makes the volume on all guests, anew, and waits until it is mirrored; the first is Primary."""
    for guest in lab.guests:
        guest.sh('rblk create vol --in-sync --force')
        attach(guest, '--primary' if guest is lab.guests[0] else '')
    wait_for(lab.guests[0], 'synced')


def kill_daemon(guest):
    """Ends the daemon as a crash does."""
    guest.sh('kill -9 $(cat /tmp/daemon)')


def status(guest):
    """What the daemon says, once it answers."""
    for _ in range(100):
        answer = guest.result(guest.bg('rblk status vol --json'))
        if answer.status == 0:
            return json.loads(answer.output)[0]
        time.sleep(0.2)
    raise AssertionError(answer.output + guest.sh('cat /tmp/daemon.log'))


def connection(guest):
    """The state of its connection, as the node says."""
    return status(guest)['connections'][0]['connection-state']


def wait_for(guest, what, seconds=60):
    """Waits until a state is reached; fails with the daemon's log."""
    answer = guest.result(guest.bg(f'rblk wait vol {what} --timeout {seconds}', timeout=seconds + 30))
    assert answer.status == 0, answer.output + guest.sh('cat /tmp/daemon.log')


def until(what, holds, seconds):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f'never: {what}'
        time.sleep(0.2)


def device(guest):
    """The block device, once clients can use it."""
    for _ in range(300):
        said = status(guest)
        address = said['rblk']['address']
        if said['role'] == 'Primary' and address and address.startswith('/dev/'):
            if guest.result(guest.bg(f'test -b {address} && blockdev --getsz {address}')).status == 0:
                return address
        time.sleep(0.2)
    raise AssertionError('no device:\n' + guest.sh('cat /tmp/daemon.log'))


def compare_disks(lab):
    """Detaches both nodes and compares their data areas from outside."""
    for guest in lab.guests:
        guest.sh('rblk detach vol', timeout=60)
    compare_detached(lab)


def compare_detached(lab):
    """The same when both have left."""
    one, two = lab.guests
    size = json.loads(one.sh('rblk dump-meta /dev/vdb --json 2> /dev/null'))['layout']['data-bytes']
    with open(one.disk(0), 'rb') as a, open(two.disk(0), 'rb') as b:
        while size:
            piece = min(size, 1 << 20)
            assert a.read(piece) == b.read(piece), 'the disks differ'
            size -= piece
