"""The tools that judge rblk can judge: they find planted faults and accept right behaviour.

Runs against nbdkit and bare sockets: no rblk needed.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

import lab
import nbd
import peer
from checker import Checker, Load

SIZE = 16 << 20


class Nbdkit:
    """An NBD server that shares nothing with rblk."""

    def __init__(self, *plugin):
        self.folder = tempfile.mkdtemp(prefix='s-', dir=os.environ['RBLK_HOSTS_INSIDE'])
        self.socket = os.path.join('/run', f'nbdkit-{random.getrandbits(32)}')
        command = ['nbdkit', '--foreground', '--exit-with-parent', '--unix', self.socket, *plugin]
        self.process = subprocess.Popen(command)

    def __enter__(self):
        self.client = lab.until('nbdkit serves', lambda: lab._connect(nbd, self.socket), 10)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.wait()


def test_client_speaks_nbd():
    with Nbdkit('memory', str(SIZE)) as server:
        client = server.client
        assert client.size == SIZE and client.flags & nbd.HAS_FUA
        client.write(8192, b'rblk' * 1024, fua=True)
        assert client.read(8192, 4096) == b'rblk' * 1024
        client.zero(8192, 512)
        client.trim(8704, 512)
        assert client.read(8192, 1028) == bytes(1024) + b'rblk'
        client.flush()
        requests = [client.submit(nbd.READ, 0, 4096) for _ in range(64)]
        assert all(request.wait() == bytes(4096) for request in requests)
        refused = client.submit(nbd.READ, SIZE, 4096)
        _fails(nbd.NbdError, refused.wait)


def test_lost_connection_ends_all_requests():
    with Nbdkit('--filter=delay', 'memory', str(SIZE), 'delay-read=60') as server:
        requests = [server.client.submit(nbd.READ, 0, 4096) for _ in range(8)]
        server.process.kill()
        for request in requests:
            _fails(nbd.Lost, request.wait)
        _fails(nbd.Lost, server.client.submit(nbd.FLUSH).wait)


def test_clean_load_is_clean():
    for unit in (4096, 512):
        with Nbdkit('memory', str(SIZE)) as server:
            checker = Checker(SIZE, unit=unit, power=True)
            load = Load(server.client, checker, seed=1, depth=32).start()
            time.sleep(3)
            load.stop().expect_clean()
            assert load.completions(0, time.monotonic()) > 100
            assert not checker.check_device(server.client)


def test_files_are_checked_too():
    path = os.path.join(os.environ['RBLK_HOSTS_INSIDE'], 'self.disk')
    lab.make_disk(path, SIZE)
    # One request at a time: of a page that is being written, a read through the page cache may have halves.
    with Nbdkit('--filter=noparallel', 'file', path) as server:
        checker = Checker(SIZE)
        load = Load(server.client, checker, seed=3).start()
        time.sleep(1)
        load.stop().expect_clean()
    assert not checker.check_file(path)
    with open(path, 'r+b') as disk:     # a write that never reached the disk
        busy = next(unit for unit, writes in checker._units.items() if not writes[-1].zero)
        disk.seek(busy * 4096)
        disk.write(bytes(4096))
    faults = checker.check_file(path)
    assert len(faults) == 1 and 'zeroes' in faults[0], faults
    os.unlink(path)


class _Liar:
    """A proxy in front of an NBD server: answers some writes itself and never passes them on."""

    def __init__(self, server, every):
        self.path = server + '.liar'
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._server, self._every, self._count, self.lost = server, every, 0, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        threading.Thread(target=self._copy, args=(server, client), daemon=True).start()
        answers = threading.Lock()
        try:
            # Client flags, then option GO: 4 + 16 + its payload.
            head = _take(client, 20)
            server.sendall(head + _take(client, int.from_bytes(head[16:20], 'big')))
            while True:
                header = _take(client, 28)
                kind = int.from_bytes(header[6:8], 'big')
                data = _take(client, int.from_bytes(header[24:28], 'big')) if kind == nbd.WRITE else b''
                self._count += kind == nbd.WRITE
                if kind == nbd.WRITE and self._count % self._every == 0:
                    self.lost += 1
                    with answers:
                        client.sendall(bytes.fromhex('6744669800000000') + header[8:16])
                else:
                    server.sendall(header + data)
        except OSError:
            server.close()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(1 << 20):
                sink.sendall(data)
        except OSError:
            pass


def _take(stream, count):
    data = b''
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise OSError('closed')
        data += more
    return data


def test_planted_lost_write_is_found():
    with Nbdkit('memory', str(SIZE)) as server:
        liar = _Liar(server.socket, every=150)
        client = nbd.Client(liar.path)
        checker = Checker(SIZE)
        # Reads would be mixed up with the liar's own answers: writes alone, read back afterwards.
        load = Load(client, checker, seed=4, depth=1, mix={'write': 1}).start()
        lab.until('a write is lost', lambda: liar.lost >= 2, 10)
        load.stop()
        client.close()
        assert not load.errors
        faults = checker.check_device(server.client)
        assert faults and any('lost' in fault or 'zeroes' in fault for fault in faults), faults


def test_checker_knows_what_may_be_seen():
    checker = Checker(SIZE, power=True)
    old = checker.begin(0, 4096)
    checker.end(old, True)
    new = checker.begin(0, 4096)
    assert not checker.check(0, checker.fill(old)), 'while in flight the old one may be seen'
    assert not checker.check(0, checker.fill(new)), 'and the new one too'
    checker.end(new, True)
    assert checker.check(0, checker.fill(old)), 'after completion it is stale'
    assert not checker.check(0, checker.fill(old), after_power_cut=True), 'but not yet stable'
    checker.end_flush(checker.begin_flush())
    assert checker.check(0, checker.fill(old), after_power_cut=True), 'the flush made the new one stable'
    assert checker.check(4096, checker.fill(new)), 'misplaced'
    torn = checker.fill(new)[:2048] + checker.fill(old)[2048:]
    assert checker.check(0, torn), 'torn'
    one, two = checker.begin(8192, 4096), checker.begin(8192, 4096)
    checker.end(two, True)
    checker.end(one, True)
    assert not checker.check(8192, checker.fill(one)), 'overlapping in flight: either'
    assert not checker.check(8192, checker.fill(two), settle=True), 'either'
    assert checker.check(8192, checker.fill(one)), 'but then always the same'
    lost = checker.begin(12288, 4096)
    checker.end(lost, False)
    assert not checker.check(12288, bytes(4096)) and not checker.check(12288, checker.fill(lost))
    assert checker.check(12288, bytes(4095) + b'x'), 'foreign bytes'
    halved = checker.begin(16384, 8192)
    checker.end(halved, False)
    half = checker.fill(halved)[:4096] + bytes(4096)
    assert not checker.check(16384, half, settle=True), 'a lost write may be there in part'
    assert not checker.check(16384, half), 'and then stays so'
    assert checker.check(16384, checker.fill(halved)), 'but does not become whole'


def test_network_cuts_and_heals():
    network = lab.Network()
    try:
        server = lab.inside('b', _echo_server)
        conversation = lab.inside('a', lambda: socket.create_connection((network.ADDRESS['b'], 9), 5))
        assert _echo(conversation)
        for cut in (network.cut, lambda: network.cut_towards('a'), lambda: network.cut_towards('b')):
            cut()
            assert not _echo(conversation, 0.5), 'the cut lets bytes through'
            network.heal()
            assert _echo(conversation, 20), 'the connection did not outlive the cut'
        conversation.close()
        server.close()
    finally:
        network.remove()


def _echo_server():
    listener = socket.create_server((lab.Network.ADDRESS['b'], 9))

    def serve():
        stream, _ = listener.accept()
        while data := stream.recv(100):
            stream.sendall(data)
    threading.Thread(target=serve, daemon=True).start()
    return listener


def _echo(stream, seconds=5):
    mark = random.randbytes(8)
    stream.settimeout(seconds)
    stream.sendall(mark)
    got = b''
    try:
        while not got.endswith(mark):
            got += stream.recv(100)
        return True
    except TimeoutError:
        return False


def test_stranger_meets_a_node():
    """A node that only greets: the stranger reads the greeting, forges it and sees the connection end."""
    network = lab.Network()
    hello = peer.with_extension_bytes(peer.MAGIC + bytes([peer.HELLO]) + bytes(59), 48)
    hello = peer.with_extension(hello + bytes(48), 46, 1, 0)
    node = lab.inside('a', lambda: socket.create_server((network.ADDRESS['a'], lab.PORT)))
    heard = []

    def greet():
        with contextlib.suppress(OSError):      # until the socket is closed
            while True:
                stream, _ = node.accept()
                with stream:
                    stream.sendall(hello)
                    heard.append(peer.read_frame(stream))
    threading.Thread(target=greet, daemon=True).start()
    try:
        with peer.Stranger('b') as stranger:
            stream, greeting = stranger.meet()
            assert greeting == hello
            forged = peer.with_extension(peer.with_versions(hello, 98, 99), 0, 16, 12345)
            assert peer.exchange(stream, forged, 5) == b''
            assert heard == [forged] and forged[48:52] == bytes([98, 0, 99, 0])
            assert peer.crc32c(forged[:60]).to_bytes(4, 'little') == forged[60:64]
    finally:
        node.close()
        network.remove()


def test_flipper_flips():
    network = lab.Network()
    try:
        server = lab.inside('b', _echo_server)
        flipper = peer.Flipper('a', 99, (network.ADDRESS['b'], 9), every_bytes=1000)
        stream = lab.inside('a', lambda: socket.create_connection((network.ADDRESS['a'], 99), 5))
        assert all(_echo(stream) for _ in range(100)), 'flipped too early'
        while flipper.flips == 0:
            intact = _echo(stream, 1)
        assert not intact, 'a flip was not seen'
        server.close()
    finally:
        network.remove()


def test_stall_is_measured():
    with Nbdkit('--filter=delay', 'memory', str(SIZE), 'wdelay=700ms') as server:
        load = Load(server.client, Checker(SIZE), seed=5, depth=4, mix={'write': 1}).start()
        time.sleep(2)
        load.stop()
        assert 0.6 < load.longest_gap() < 2 and 0.6 < load.slowest() < 2


def test_checksum_of_frames():
    assert peer.crc32c(b'123456789') == 0xe3069283     # RFC 3720, appendix B.4


def _fails(kind, action):
    try:
        action()
    except kind:
        return
    raise AssertionError(f'no {kind.__name__}')


if __name__ == '__main__':
    sys.exit('run me by `tests/hosts/run self_test`')
