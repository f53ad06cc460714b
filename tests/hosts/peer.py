"""A peer that does not keep to the protocol: speaks just enough of the wire format to break it.

It learns by listening: a node's own Hello, changed, is the best forgery. Where the fields lie is told in
src/wire/frame.rs, and for the extension of Hello in src/wire/frame/extension.rs.
"""

import contextlib
import random
import socket
import struct
import threading
import time

import lab
from checker import Checker, Load

HEADER_BYTES = 64
MAGIC = b'rblk'
HELLO, REFUSE = 1, 3
REFUSED_PROTOCOL = 1
_PAYLOAD_BYTES, _EXTENSION_BYTES, _EXTENSION_CRC = 28, 36, 40
_PROTOCOL_MIN, _PROTOCOL_MAX, _CRC = 48, 50, 60


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data):
    """Castagnoli's, as in iSCSI."""
    value = 0xffffffff
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 255]
    return value ^ 0xffffffff


def sealed(header):
    """A header with its checksum put right."""
    header = bytes(header[:_CRC])
    return header + struct.pack('<I', crc32c(header))


def with_versions(hello, oldest, newest):
    """A Hello that claims to speak other versions."""
    header = bytearray(hello[:HEADER_BYTES])
    struct.pack_into('<HH', header, _PROTOCOL_MIN, oldest, newest)
    return sealed(header) + hello[HEADER_BYTES:]


def with_field(frame, offset, size, value):
    """A frame whose header has another number at a place, with a right checksum."""
    header = bytearray(frame[:HEADER_BYTES])
    header[offset:offset + size] = value.to_bytes(size, 'little')
    return sealed(header) + frame[HEADER_BYTES:]


def with_payload_bytes(frame, value):
    """A frame that announces so many bytes of payload."""
    return with_field(frame, _PAYLOAD_BYTES, 4, value)


def with_extension_bytes(frame, value):
    """A frame that announces so many bytes of extension."""
    return with_field(frame, _EXTENSION_BYTES, 4, value)


def with_extension(frame, offset, size, value):
    """A frame whose extension has another number at a place, with right checksums."""
    extension = bytearray(frame[HEADER_BYTES:])
    extension[offset:offset + size] = value.to_bytes(size, 'little')
    changed = with_field(frame, _EXTENSION_CRC, 4, crc32c(extension))
    return changed[:HEADER_BYTES] + bytes(extension)


class Stranger:
    """Sits at `side`'s address in place of the daemon there and meets the other node, whichever way the
    connection comes about: it listens, and it dials."""

    def __init__(self, side):
        self.side, self.other = side, 'a' if side == 'b' else 'b'
        self._listener = lab.inside(side, self._listen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _listen(self):
        listener = socket.create_server((lab.Network.ADDRESS[self.side], lab.PORT))
        listener.settimeout(0.2)
        return listener

    def meet(self, seconds=15):
        """A stream on which the node's Hello has been read, and that Hello."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for stream in (self._accepted(), self.dial()):
                if stream is None:
                    continue
                with contextlib.suppress(OSError):
                    stream.settimeout(2)
                    return stream, read_frame(stream)
                stream.close()
        raise AssertionError('the node said no Hello, neither as caller nor as called')

    def _accepted(self):
        with contextlib.suppress(OSError):
            return self._listener.accept()[0]
        return None

    def dial(self):
        """A fresh connection to the node, or None."""
        address = (lab.Network.ADDRESS[self.other], lab.PORT)
        try:
            return lab.inside(self.side, lambda: socket.create_connection(address, 5))
        except OSError:
            return None

    def send(self, data, seconds=5):
        """Sends `data` as the first bytes on a fresh connection. What the node does then: the bytes it
        answers until it closes the connection; None if it had not closed after `seconds`."""
        stream = lab.until('the node accepts', self.dial, 15)
        with stream:
            return exchange(stream, data, seconds)


def exchange(stream, data, seconds):
    """Sends, then reads until the other closes; None if it does not."""
    got = b''
    end = time.monotonic() + seconds
    try:
        stream.sendall(data)
        while True:
            stream.settimeout(max(0.01, end - time.monotonic()))
            more = stream.recv(65536)
            if not more:
                return got
            got += more
    except TimeoutError:
        return None
    except OSError:
        return got      # reset: closed as well


def read_frame(stream):
    """One frame with header and extension; those of a handshake have no payload."""
    header = _exactly(stream, HEADER_BYTES)
    if header[:4] != MAGIC:
        raise AssertionError(f'no frame: {header[:8].hex()}')
    extension = struct.unpack_from('<I', header, _EXTENSION_BYTES)[0]
    return header + _exactly(stream, min(extension, 4096))


def _exactly(stream, count):
    data = b''
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise OSError('closed')
        data += more
    return data


class Flipper:
    """A proxy on `side` that flips one bit of the stream towards the peer, now and then: what a broken
    network card does that passes TCP's own checksum."""

    def __init__(self, side, port, address, every_bytes):
        self._address, self._every, self.flips = address, every_bytes, 0
        self._side = side
        self._listener = lab.inside(side, lambda: socket.create_server((lab.Network.ADDRESS[side], port)))
        self._stopped = False
        threading.Thread(target=self._serve, daemon=True).start()

    def load_through(self, cluster, client):
        """A checked load of `client` until some bits have flipped, and then until both nodes are equal. Ends with all
        bytes right, which the checker that is returned knows."""
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), rate=1000).start()
        lab.until('some bits have flipped', lambda: self.flips >= 5, 60)
        self.stop_flipping()
        load.stop().expect_clean()
        cluster.synced()
        return checker

    def stop_flipping(self):
        """From now on it passes everything on as it is."""
        self._stopped = True

    def _serve(self):
        while True:
            try:
                here = self._listener.accept()[0]
                there = lab.inside(self._side, lambda: socket.create_connection(self._address, 5))
            except OSError:
                continue
            threading.Thread(target=self._copy, args=(here, there, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(there, here, False), daemon=True).start()

    def _copy(self, source, sink, flip):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if flip and not self._stopped and passed > self._every:
                    # Anywhere in it: what begins a piece is often a header, and two fields of that of TLS (type and
                    # version) say nothing once a session stands, so that nobody looks at them.
                    flipped = bytearray(data)
                    flipped[random.randrange(len(data))] ^= 1
                    data, passed, self.flips = bytes(flipped), 0, self.flips + 1
                sink.sendall(data)
        for stream in (source, sink):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
