"""A small NBD client: fixed newstyle handshake, many requests in flight, the latency of each.

It shares no code with rblk, so that both would have to be wrong in the same way. A request is sent by the
thread that submits it; one receiver thread takes all answers and calls the request's `then`.

    client = Client('/run/rblk/t.nbd')
    client.write(0, b'x' * 4096, fua=True)
    request = client.submit(FLUSH)
    request.wait()
    client.close()
"""

import errno
import os
import socket
import struct
import threading
import time

READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
NAMES = {READ: 'read', WRITE: 'write', FLUSH: 'flush', TRIM: 'trim', ZEROES: 'write-zeroes'}
FLAG_FUA, FLAG_NO_HOLE = 1, 2

HAS_FLUSH, HAS_FUA, HAS_TRIM, HAS_ZEROES, MULTI_CONN = 1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 8

_MAGIC_SERVER = 0x4e42444d41474943
_MAGIC_OPTION = 0x49484156454f5054
_MAGIC_REPLY_OPTION = 0x3e889045565a9
_MAGIC_REQUEST, _MAGIC_SIMPLE = 0x25609513, 0x67446698
_OPT_GO, _INFO_EXPORT, _INFO_BLOCK = 7, 0, 3
_REP_ACK, _REP_INFO = 1, 3


class NbdError(OSError):
    """The server answered a request with an error."""


class Lost(OSError):
    """The connection ended before the request was answered: its outcome is unknown."""


class Request:
    """One request in flight. `failure` is None if it succeeded; times are of the monotonic clock."""

    def __init__(self, kind, offset, length, then):
        self.kind, self.offset, self.length, self.then = kind, offset, length, then
        self.sent = self.ended = None
        self.failure = None
        self.data = b''
        self._event = threading.Event()

    def __str__(self):
        return f'{NAMES[self.kind]} of {self.length} bytes at {self.offset}'

    @property
    def seconds(self):
        """From submission to answer."""
        return self.ended - self.sent

    def done(self):
        """True once it is answered or lost."""
        return self._event.is_set()

    def wait(self, timeout=120):
        """Its data; raises what went wrong."""
        if not self._event.wait(timeout):
            raise TimeoutError(f'{self}: no answer within {timeout} s')
        if self.failure:
            raise self.failure
        return self.data

    def end(self, failure=None, data=b''):
        """Called once, by the receiver."""
        self.ended = time.monotonic()
        self.failure, self.data = failure, data
        if self.then:
            self.then(self)
        self._event.set()


class Client:
    """One connection. `address` is a path of a UNIX socket or (host, port)."""

    def __init__(self, address, export='', timeout=20):
        unix = isinstance(address, (str, os.PathLike))
        self._socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(os.fspath(address) if unix else address)
            if not unix:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._handshake(export.encode())
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._pending, self._next = {}, 1
        self._lock, self._send_lock = threading.Lock(), threading.Lock()
        self._lost = None
        self._thread = threading.Thread(target=self._receive, name='nbd', daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _exactly(self, count):
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            got = self._socket.recv_into(view[at:])
            if got == 0:
                raise Lost(errno.ECONNRESET, 'the server closed the connection')
            at += got
        return bytes(data)

    def _handshake(self, export):
        magic, option, flags = struct.unpack('>QQH', self._exactly(18))
        assert (magic, option) == (_MAGIC_SERVER, _MAGIC_OPTION), 'this is no newstyle NBD server'
        assert flags & 1, 'the server does not speak fixed newstyle'
        payload = struct.pack('>I', len(export)) + export + struct.pack('>HH', 1, _INFO_BLOCK)
        header = struct.pack('>IQII', flags & 3, _MAGIC_OPTION, _OPT_GO, len(payload))
        self._socket.sendall(header + payload)
        self.size, self.flags, self.block_bytes = None, 0, (1, 4096, 1 << 25)
        while True:
            magic, _, kind, length = struct.unpack('>QIII', self._exactly(20))
            assert magic == _MAGIC_REPLY_OPTION, 'bad answer to GO'
            body = self._exactly(length)
            if kind == _REP_ACK:
                break
            if kind != _REP_INFO:
                words = body.decode(errors='replace')
                raise ConnectionRefusedError(f'the server refused GO: {kind:#x} {words}')
            info = struct.unpack('>H', body[:2])[0]
            if info == _INFO_EXPORT:
                self.size, self.flags = struct.unpack('>QH', body[2:12])
            elif info == _INFO_BLOCK:
                self.block_bytes = struct.unpack('>III', body[2:14])
        assert self.size is not None, 'the server did not tell the size'

    def _receive(self):
        try:
            while True:
                magic, error, cookie = struct.unpack('>IIQ', self._exactly(16))
                assert magic == _MAGIC_SIMPLE, f'bad magic in an answer: {magic:#x}'
                with self._lock:
                    request = self._pending[cookie]
                data = b''
                if request.kind == READ and error == 0:
                    data = self._exactly(request.length)
                with self._lock:    # not before: an answer cut short must be found among the lost
                    del self._pending[cookie]
                text = f'{request}: {errno.errorcode.get(error, error)}'
                request.end(NbdError(error, text) if error else None, data)
        except (OSError, AssertionError, KeyError) as failure:
            self._lose(failure)

    def _lose(self, why):
        with self._lock:
            self._lost = self._lost or why
            pending, self._pending = list(self._pending.values()), {}
        for request in pending:
            request.end(Lost(errno.ECONNRESET, f'{request}: connection lost ({why})'))

    @property
    def lost(self):
        """Why the connection is gone, or None."""
        return self._lost

    def submit(self, kind, offset=0, length=0, data=b'', fua=False, then=None, flags=0):
        """Sends a request and returns at once. `then(request)` runs in the receiver thread."""
        length = len(data) if kind == WRITE else length
        request = Request(kind, offset, length, then)
        flags |= FLAG_FUA if fua else 0
        request.sent = time.monotonic()
        with self._lock:
            lost = self._lost
            if not lost:
                cookie, self._next = self._next, self._next + 1
                self._pending[cookie] = request
        if lost:
            request.end(Lost(errno.ECONNRESET, f'{request}: connection lost before ({lost})'))
            return request
        header = struct.pack('>IHHQQI', _MAGIC_REQUEST, flags, kind, cookie, offset, length)
        try:
            with self._send_lock:
                self._socket.sendall(header + data)
        except OSError as failure:
            self._lose(failure)
        return request

    def in_flight(self):
        """Requests without an answer."""
        with self._lock:
            return len(self._pending)

    def read(self, offset, length):
        """The bytes there."""
        return self.submit(READ, offset, length).wait()

    def write(self, offset, data, fua=False):
        """Writes and waits."""
        return self.submit(WRITE, offset, data=data, fua=fua).wait()

    def flush(self):
        """Waits until all writes answered before are stable."""
        self.submit(FLUSH).wait()

    def trim(self, offset, length):
        """Gives back space."""
        self.submit(TRIM, offset, length).wait()

    def zero(self, offset, length, fua=False):
        """Writes zeroes without sending them."""
        self.submit(ZEROES, offset, length, fua=fua).wait()

    def close(self):
        """Takes leave; requests in flight are given up."""
        try:
            with self._send_lock:
                self._socket.sendall(struct.pack('>IHHQQI', _MAGIC_REQUEST, 0, DISC, 0, 0, 0))
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(10)
        self._socket.close()
