"""TLS between the nodes: what they say can be read and changed by nobody, and who has another key is nobody."""

import contextlib
import os
import random
import re
import resource
import socket
import struct
import threading
import time

import peer
from checker import Checker, Load
from lab import MIB, PORT, Lab, Network, inside, until, write_config

PATTERN = b'what stands on the disk is nobody else\'s business...............'
# A fatal alert of TLS: there is no session to be had in this way.
NO_TLS = bytes([0x15, 3, 3, 0, 2, 2, 40])
REFUSED = "does not accept this node's key"
WRONG = 'which is not configured as its own'
DIFFERENT = '`security` in [net] must be the same on both nodes'


def test_load_and_cuts():
    with Lab(mib=256, resource='peer-timeout-ms = 1000') as lab:
        keys = lock(lab)
        client = lab.start()
        for node, other in ((lab.a, lab.b), (lab.b, lab.a)):
            rblk = node.status()['rblk']
            assert rblk['security'] == 'tls' and node.status()['connections'][0]['tls'], rblk
            assert rblk['key'] == keys[node] and rblk['peer-key'] == keys[other], rblk
            assert f'peer-key:{keys[other]}' in node.rblk('status', 't').stdout
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), largest=128 << 10, rate=1000).start()
        for _ in range(4):
            time.sleep(2)
            lab.network.cut()
            time.sleep(random.uniform(0.2, 3.0))
            lab.network.heal()
        lab.b.kill()
        time.sleep(1)
        lab.b.attach()
        lab.synced()
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_a_wrong_key_gets_no_access_and_both_say_why():
    for changed, first, second in (('a', WRONG, REFUSED), ('b', REFUSED, WRONG)):
        with Lab() as lab:
            keys = lock(lab)
            stranger = _key(lab, lab.a, 'stranger')
            # The node that is looked for, or that looks, is known to the other by a key that it does not have.
            node, other = (lab.b, lab.a) if changed == 'a' else (lab.a, lab.b)
            _write(lab, other, {node: stranger, other: keys[other]})
            for each in lab.nodes:
                each.create('--in-sync')
                each.attach()
            _says(lab.a, first)
            _says(lab.b, second)
            for each in lab.nodes:
                assert each.connection() != 'Connected', f'{each.name} is connected'
                assert 'peer-key' not in each.status()['rblk']
            other.detach()
            _write(lab, other, keys)
            other.attach()
            lab.synced()


def test_flipped_bits_end_the_session_and_reach_no_disk():
    with Lab() as lab:
        keys = lock(lab)
        proxy = peer.Flipper('a', PORT + 1, (Network.ADDRESS['b'], PORT), 3 * MIB)
        _write(lab, lab.a, keys, ('10.77.0.2:7790', f'10.77.0.1:{PORT + 1}'))
        client = lab.start()
        checker = proxy.load_through(lab, client)
        words = lab.a.daemon.words() + lab.b.daemon.words()
        assert 'cannot decrypt' in words, 'no session noticed'
        client.close()
        lab.finish(checker)


def test_the_wire_shows_nothing():
    for locked in (False, True):
        with Lab() as lab:
            if locked:
                lock(lab)
            tap = Tap('port-b')
            client = lab.start()
            client.write(0, PATTERN * (MIB // len(PATTERN)))
            client.flush()
            client.close()
            lab.finish()
            seen, heard = tap.stop()
            assert heard > MIB, f'only {heard} bytes were heard: the tap is no proof'
            assert (seen == 0) == locked, f'seen {seen} times in {heard} bytes, TLS {locked}'


def test_with_and_without_tls_do_not_meet():
    for locked in ('a', 'b'):
        with Lab() as lab:
            keys = lock(lab)
            plain = lab.b if locked == 'a' else lab.a
            write_config(plain.config, 't', lab.nodes)
            for node in lab.nodes:
                node.create('--in-sync')
                node.attach()
            for node in lab.nodes:
                _says(node, DIFFERENT)
                assert node.connection() != 'Connected', f'{node.name} is connected'
            assert plain.status()['rblk']['security'] == 'none'
            plain.detach()
            _write(lab, plain, keys)
            plain.attach()
            lab.synced()


def test_strangers_get_nothing_and_disturb_nobody():
    with Lab() as lab:
        lock(lab)
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=500).start()
        before = lab.b.daemon.memory()['resident']

        def dial():
            return socket.create_connection((Network.ADDRESS['b'], PORT), 5)
        header = struct.pack('<4s60x', peer.MAGIC)
        for data in (header, peer.sealed(header)):
            with inside('a', dial) as stream:
                answer = peer.exchange(stream, data, 8)
                assert answer in (NO_TLS, b''), f'a plain peer got {answer!r}'
        # A handshake that goes on for ever, and very slowly.
        slow = [inside('a', dial) for _ in range(20)]
        begun, open_still = time.monotonic(), list(slow)
        while open_still and time.monotonic() < begun + 30:
            open_still = [stream for stream in open_still if _drip(stream)]
            assert lab.a.connection() == 'Connected', 'strangers have displaced the peer'
            time.sleep(0.2)
        assert not open_still, f'{len(open_still)} are still being listened to'
        assert time.monotonic() - begun < 12
        grown = lab.b.daemon.memory()['resident'] - before
        print(f'      20 slow strangers: {grown / MIB:.1f} MiB more')
        assert grown < 16 * MIB
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


@contextlib.contextmanager
def _many_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= count, f'this test opens {count} files: ulimit -Hn {count}'
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_half_open_connections_cost_no_more_than_a_few():
    """All stay open at their end: what the daemon holds of them is bounded, and its clients go on."""
    with _many_files(12_000), Lab() as lab, contextlib.ExitStack() as held:
        lock(lab)
        lab.network.third_host('10.77.0.9')
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=200).start()
        before = lab.b.daemon.memory()['resident']
        descriptors = f'/proc/{lab.b.daemon.pid}/fd'
        most = 0
        for count in range(10_000):
            stream = held.enter_context(socket.socket())
            stream.setblocking(False)
            stream.connect_ex((Network.ADDRESS['b'], PORT))
            if count % 100 == 0:
                most = max(most, len(os.listdir(descriptors)))
                assert lab.a.connection() == 'Connected', 'strangers have displaced the peer'
        grown = lab.b.daemon.memory()['resident'] - before

        def turned_away():
            return sum(int(n) for n in re.findall(r'closed (\d+) connections that said nothing', lab.b.daemon.words()))
        until('most of who came in are told of', lambda: turned_away() > 1000, 10)
        closed = turned_away()
        print(f'      10,000 held: {closed} turned away, {grown / MIB:.1f} MiB more, at most {most} descriptors')
        assert grown < 16 * MIB and most < 100
        load.stop().expect_clean()
        client.close()
        lab.finish(checker)


def test_strangers_from_elsewhere_do_not_push_out_who_may_be_the_peer():
    with Lab() as lab:
        lock(lab)
        lab.network.third_host('10.77.0.9')
        lab.b.create('--in-sync')
        lab.b.attach()

        def dial():
            return socket.create_connection((Network.ADDRESS['b'], PORT), 5)
        peers = [inside('a', dial) for _ in range(3)]
        strangers = [dial() for _ in range(40)]
        until('strangers are turned away', lambda: sum(not _is_open(stream) for stream in strangers) >= 39, 4)
        assert all(_is_open(stream) for stream in peers), 'one from the address of the peer was pushed out'
        said = lab.b.daemon.words().count('too many at a time')
        assert said <= 5, f'that strangers come was told {said} times'
        # In the midst of them the peer comes.
        stop = threading.Event()

        def crowd():
            while not stop.wait(0.001):
                with contextlib.suppress(OSError):
                    strangers[random.randrange(40)] = dial()
        crowds = [threading.Thread(target=crowd, daemon=True) for _ in range(3)]
        for each in crowds:
            each.start()
        lab.a.create('--in-sync')
        lab.a.attach()
        lab.synced(20)
        stop.set()
        for each in crowds:
            each.join()


def test_a_key_is_exchanged_without_parting():
    with Lab() as lab:
        keys = lock(lab)
        client = lab.start()
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=500).start()
        old, new = keys[lab.b], _key(lab, lab.b, 'beta-new')
        # First both know both, ...
        keys[lab.b] = new
        _write(lab, lab.b, keys, old={lab.b: old})
        lab.b.detach()
        lab.b.attach()
        lab.synced()
        assert lab.a.status()['rblk']['peer-key'] == old
        load.stop().expect_clean()
        client.close()
        lab.a.detach()
        _write(lab, lab.a, keys, old={lab.b: old})
        lab.a.attach('--primary')
        lab.synced()
        # ... then the key changes, ...
        os.replace(_file(lab, 'beta-new'), _file(lab, 'beta'))
        lab.b.detach()
        lab.b.attach()
        lab.synced()
        assert lab.a.status()['rblk']['peer-key'] == new
        # ... and the old one is forgotten.
        lab.b.detach()
        _write(lab, lab.b, keys)
        lab.b.attach()
        lab.synced()
        lab.finish(checker)


def _is_open(stream):
    """The other end has not closed it."""
    stream.setblocking(False)
    try:
        return stream.recv(4096) != b''
    except BlockingIOError:
        return True
    except OSError:
        return False


class Tap:
    """Hears all frames on a link, and counts those that show the pattern."""

    def __init__(self, link):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((link, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * MIB)
        self._socket.settimeout(0.2)
        self._stopped, self.seen, self.heard = False, 0, 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self):
        """How often the pattern was seen, in how many bytes."""
        self._stopped = True
        self._thread.join()
        self._socket.close()
        return self.seen, self.heard

    def _listen(self):
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                if self._stopped:
                    return
                continue
            self.heard += len(frame)
            self.seen += PATTERN in frame


def _drip(stream):
    """One more byte of a ClientHello that has 512; false once the other end has closed."""
    stream.settimeout(0.001)
    try:
        if stream.recv(100) == b'':
            return False
    except TimeoutError:
        pass
    except OSError:
        return False
    try:
        stream.sendall(bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]) if stream not in _begun else b'\0')
        _begun.add(stream)
    except OSError:
        return False
    return True


_begun = set()


def _file(lab, name):
    return os.path.join(lab.folder, f'{name}.key')


def _key(lab, node, name):
    """Makes a key; its public half."""
    said = node.rblk('keygen', lab.name, '--file', _file(lab, name)).stdout
    return re.fullmatch(r'key = "(ed25519:[A-Za-z0-9+/=]{44})"\n', said).group(1)


def lock(lab):
    """Keys for both nodes, and configurations that want them. The public halves by node."""
    keys = {node: _key(lab, node, node.name) for node in lab.nodes}
    lab.plain = open(lab.config).read()
    for node in lab.nodes:
        node.config = os.path.join(lab.folder, f'{node.name}.toml')
        _write(lab, node, keys)
    return keys


def _write(lab, node, keys, change=('', ''), old=None):
    """The configuration of one node: both would be the same file, were the private keys not on one machine here."""
    text = lab.plain.replace(*change) if change[0] else lab.plain
    text = text.replace('security = "none"', f'key-file = "{_file(lab, node.name)}"')  # TLS is the default
    for each in lab.nodes:
        lines = f'key = "{keys[each]}"\n'
        if each in (old or {}):
            lines += f'old-key = "{old[each]}"\n'
        text = text.replace(f'disk = "{each.disk}"\n', f'disk = "{each.disk}"\n{lines}')
    with open(node.config, 'w') as file:
        file.write(text)


def _says(node, words):
    """Waits until the status says why they are not connected, in these words."""
    def said():
        return ' '.join(node.status()['rblk']['why']['not-connected'])
    try:
        until('the reason', lambda: words in said(), 15)
    except AssertionError:
        raise AssertionError(f'{node.name} does not say "{words}" but: {said()}') from None
