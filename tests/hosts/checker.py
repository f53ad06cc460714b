"""Finds lost, torn, stale and misplaced writes.

Every unit (4 KiB, or 512 bytes to try small writes) that a write covers is filled with its own number, the
number of the write and the id of the run, repeated. So each unit tells which write it holds, and the checker
knows which writes it may hold:

    write c may be seen     as long as no write d that was *done* began after c had ended
    after a power cut       as long as no write d that was *stable* (FUA, or flushed) began after c had ended

                 c ├────────┤ ended                         d is done: c must not be seen any more
                               d ├──────────┤ done          (e began before d ended: e may be seen or not)
                                     e ├─────── in flight

A write in flight, or whose connection was lost, may be seen or not; once it has been looked for, the answer
must stay the same. Discards and zeroes are writes too: their units read as zeroes.
"""

import collections
import itertools
import mmap
import os
import random
import struct
import threading
import time

import nbd

_STAMP = struct.Struct('<8sQQQ')
_MAGIC = b'rblkunit'


class Write:
    """One write, discard or write-zeroes. Its number grows in the order of submission."""

    __slots__ = ('number', 'zero', 'first', 'units', 'ended', 'done', 'stable')

    def __init__(self, number, zero, first, units):
        self.number, self.zero, self.first, self.units = number, zero, first, units
        self.ended = None       # number of the newest request submitted when it ended
        self.done = False       # it ended well
        self.stable = False     # and is on stable media


def _first_write():
    write = Write(0, True, 0, 0)
    write.ended, write.done, write.stable = 0, True, True
    return write


class Checker:
    """What a volume of `size` bytes may contain. It starts as zeroes. Thread-safe."""

    def __init__(self, size, unit=4096, power=False, run=None):
        assert unit % 512 == 0 and size % unit == 0
        self.size, self.unit, self.power = size, unit, power
        self.run = run if run is not None else random.getrandbits(63)
        self._lock = threading.Lock()
        self._begin = _first_write()
        self._units = {}        # unit -> writes that may be seen, oldest first
        self._gone = {}         # unit -> the last of those that were seen before
        self._number = 0
        self._unstable = []     # done, not yet covered by a flush

    def fill(self, write):
        """The bytes of a write."""
        repeat = self.unit // _STAMP.size
        units = range(write.first, write.first + write.units)
        stamps = (_STAMP.pack(_MAGIC, unit, write.number, self.run) * repeat for unit in units)
        return b''.join(stamps)

    def begin(self, offset, length, zero=False):
        """A write is about to be submitted."""
        assert offset % self.unit == 0 and length % self.unit == 0
        with self._lock:
            self._number += 1
            write = Write(self._number, zero, offset // self.unit, length // self.unit)
            for unit in range(write.first, write.first + write.units):
                self._units.setdefault(unit, [self._begin]).append(write)
        return write

    def end(self, write, done, fua=False):
        """A write was answered (`done`), or failed or was lost."""
        with self._lock:
            write.ended, write.done = self._number, done
            if not done:
                return
            if fua:
                write.stable = True
            elif self.power:
                self._unstable.append(write)
            if write.stable or not self.power:
                self._prune(write)

    def begin_flush(self):
        """A flush is about to be submitted: what to pass to `end_flush`."""
        with self._lock:
            self._number += 1
            return self._number

    def end_flush(self, number):
        """The flush was answered: all writes that had ended before it are stable."""
        with self._lock:
            covered = [write for write in self._unstable if write.ended < number]
            self._unstable = [write for write in self._unstable if write.ended >= number]
            for write in covered:
                write.stable = True
            for write in covered:
                self._prune(write)

    def _prune(self, newer):
        for unit in range(newer.first, newer.first + newer.units):
            writes = self._units[unit]
            if len(writes) > 1:
                self._units[unit] = [w for w in writes if not _over(w, newer)]
                # A read that was submitted before them may still return them.
                gone = [w for w in writes if _over(w, newer)]
                self._gone.setdefault(unit, collections.deque(maxlen=256)).extend(gone)

    def visible(self, offset, length):
        """What a read that is submitted now may find: to be passed to `check`."""
        with self._lock:
            units = range(offset // self.unit, (offset + length) // self.unit)
            return self._number, {unit: self._legal(unit, False) for unit in units}

    def _legal(self, unit, after_power_cut):
        writes = self._units.get(unit, [self._begin])
        proof = [w for w in writes if (w.stable if after_power_cut else w.done)]
        return [w for w in writes if not any(_over(w, newer) for newer in proof)]

    def check(self, offset, data, seen=None, after_power_cut=False, settle=False):
        """Faults in `data`, found at `offset`, in words. `seen` is from `visible`, for a read beside writes.
        `settle`: no write is in flight, so what is found now must be found for ever."""
        assert offset % self.unit == 0 and len(data) % self.unit == 0
        faults = []
        with self._lock:
            for place in range(0, len(data), self.unit):
                unit = (offset + place) // self.unit
                legal = self._legal(unit, after_power_cut) if seen is None else seen[1][unit]
                if seen is not None:
                    later = itertools.chain(self._units.get(unit, []), self._gone.get(unit, []))
                    legal = legal + [w for w in later if w.number > seen[0]]
                fault, found = self._check_unit(unit, data[place:place + self.unit], legal)
                if fault:
                    faults.append(fault)
                elif settle and len(self._units.get(unit, ())) > 1:
                    self._units[unit] = [self._settled(found, unit)]
        return faults

    def _settled(self, found, unit):
        """What this unit holds for good. Not `found` itself: a write that was lost may be on some of its
        units and not on others."""
        settled = Write(found.number, found.zero, unit, 1)
        settled.ended, settled.done, settled.stable = self._number, True, True
        return settled

    def _check_unit(self, unit, data, legal):
        at = f'unit {unit} (byte {unit * self.unit})'
        if not any(data):
            zeroes = [write for write in legal if write.zero]
            if zeroes:
                return None, zeroes[-1]
            return f'{at}: zeroes, but must hold write {_list(legal)}', None
        magic, place, number, run = _STAMP.unpack_from(data)
        if magic != _MAGIC or run != self.run:
            return f'{at}: foreign bytes {data[:16].hex()}, must hold write {_list(legal)}', None
        if data != data[:_STAMP.size] * (self.unit // _STAMP.size):
            return f'{at}: torn, begins with write {number}', None
        if place != unit:
            return f'{at}: holds unit {place} of write {number}: misplaced', None
        for write in legal:
            if write.number == number and not write.zero:
                return None, write
        return f'{at}: holds write {number}, but must hold {_list(legal)}: lost or stale', None

    def check_file(self, path, after_power_cut=False, settle=False):
        """Faults in the data area at the beginning of a file."""
        faults = []
        with open(path, 'rb') as file:
            end = os.fstat(file.fileno()).st_size
            assert end >= self.size, f'{path} has {end} bytes, the volume {self.size}'
            with mmap.mmap(file.fileno(), self.size, prot=mmap.PROT_READ) as area:
                for offset in range(0, self.size, 1 << 20):
                    piece = area[offset:min(offset + (1 << 20), self.size)]
                    faults += self.check(offset, piece, None, after_power_cut, settle)
        return faults

    def check_device(self, client, settle=False):
        """Faults found by reading the whole volume through the device."""
        faults, step = [], 128 << 10
        for offset in range(0, self.size, step):
            length = min(step, self.size - offset)
            faults += self.check(offset, client.read(offset, length), None, False, settle)
        return faults


def _over(old, new):
    """True if `new` began after `old` had ended."""
    return old.ended is not None and old.ended < new.number


def _list(writes):
    return ' or '.join(f'{w.number}{" (zeroes)" if w.zero else ""}' for w in writes[-6:])


class Load:
    """Random requests at a depth, each checked, until `stop`. `seed` decides what is sent, not when.

    One thread submits, the client's receiver completes. `longest_gap` is the longest time without a
    completion while requests were waiting: what an application calls a stall.
    """

    def __init__(self, client, checker, seed, depth=16, largest=128 << 10, mix=None, region=None,
                 rate=None):
        self.client, self.checker, self.depth = client, checker, depth
        self.rate = rate        # requests per second, at most
        self.largest = largest
        self.region = region or (0, checker.size)
        self.mix = mix or {'write': 60, 'read': 25, 'fua': 3, 'flush': 4, 'trim': 4, 'zero': 4}
        self._random = random.Random(seed)
        self._slots = threading.Semaphore(depth)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.ends = []          # (time, gap before it, latency) of completions
        self.log = []           # (sent, ended, offset, length) of all writes
        self.errors, self.faults = [], []
        self.count = 0
        self._flying = 0        # requests in flight
        self._since = time.monotonic()  # the last completion, or when the first of those in flight was sent
        self._thread = threading.Thread(target=self._run, name='load', daemon=True)

    def start(self):
        """Begins; returns itself."""
        self._thread.start()
        return self

    def stop(self, patience=60):
        """Submits no more and waits for what is in flight. Raises on a request that is never answered."""
        self._stop.set()
        self._thread.join(patience)
        until = time.monotonic() + patience
        for _ in range(self.depth):
            if not self._slots.acquire(timeout=max(0.01, until - time.monotonic())):
                raise TimeoutError(f'a request was not answered within {patience} s after the end')
        return self

    def _run(self):
        weights = list(self.mix.values())
        kinds = list(self.mix)
        begun = time.monotonic()
        while not self._stop.is_set():
            if not self._slots.acquire(timeout=0.2):
                continue
            if self.client.lost:
                self._slots.release()
                return
            self._submit(self._random.choices(kinds, weights)[0])
            if self.rate:
                ahead = self.count / self.rate - (time.monotonic() - begun)
                self._stop.wait(max(0, ahead))

    def _place(self):
        """Half of all requests go to a sixteenth of the region: the same blocks again and again."""
        unit = self.checker.unit
        low, high = self.region
        units = (high - low) // unit
        choice = self._random.random()
        most = max(1, self.largest // unit)
        length = 1 if choice < 0.5 else self._random.randint(1, most)
        span = max(most, units // 16) if self._random.random() < 0.5 else units
        first = self._random.randint(0, max(0, min(span, units) - length))
        return low + first * unit, length * unit

    def _submit(self, kind):
        self.count += 1
        with self._lock:
            if self._flying == 0:
                self._since = time.monotonic()
            self._flying += 1
        if kind == 'flush':
            number = self.checker.begin_flush()
            self.client.submit(nbd.FLUSH, then=lambda r: self._flushed(r, number))
            return
        offset, length = self._place()
        if kind == 'read':
            seen = self.checker.visible(offset, length)
            self.client.submit(nbd.READ, offset, length, then=lambda r: self._read(r, seen))
            return
        command = {'trim': nbd.TRIM, 'zero': nbd.ZEROES}.get(kind, nbd.WRITE)
        write = self.checker.begin(offset, length, zero=command != nbd.WRITE)
        data = self.checker.fill(write) if command == nbd.WRITE else b''
        fua = kind == 'fua'
        self.client.submit(command, offset, length, data, fua, lambda r: self._wrote(r, write, fua))

    def _wrote(self, request, write, fua):
        self.checker.end(write, request.failure is None, fua)
        with self._lock:
            self.log.append((request.sent, request.ended, request.offset, request.length))
        self._ended(request)

    def _read(self, request, seen):
        if request.failure is None:
            self.faults += self.checker.check(request.offset, request.data, seen)
        self._ended(request)

    def _flushed(self, request, number):
        if request.failure is None:
            self.checker.end_flush(number)
        self._ended(request)

    def _ended(self, request):
        with self._lock:
            self._flying -= 1
            self.ends.append((request.ended, request.ended - self._since, request.seconds))
            self._since = request.ended
            if request.failure is not None:
                self.errors.append(request.failure)
        self._slots.release()

    def longest_gap(self, since=0.0):
        """Seconds of the longest stall that ended after `since`; counts one that still lasts."""
        with self._lock:
            gaps = [gap for ended, gap, _ in self.ends if ended >= since]
            current = time.monotonic() - self._since if self._flying else 0.0
            return max(gaps + [current])

    def slowest(self, since=0.0):
        """The longest latency of one request that ended after `since`, in seconds."""
        with self._lock:
            return max([latency for ended, _, latency in self.ends if ended >= since], default=0.0)

    def completions(self, since, until):
        """How many requests ended in that time."""
        with self._lock:
            return sum(1 for ended, _, _ in self.ends if since <= ended <= until)

    def bytes_written(self, since, until, wholly=False):
        """Bytes of the distinct 4 KiB blocks whose writes were under way in that time, at least in part or
        `wholly`."""
        blocks = set()
        with self._lock:
            for sent, ended, offset, length in self.log:
                inside = sent >= since and ended <= until
                if inside or (not wholly and ended >= since and sent <= until):
                    blocks.update(range(offset // 4096, -(-(offset + length) // 4096)))
        return 4096 * len(blocks)

    def expect_clean(self):
        """Neither an error nor a wrong byte."""
        assert not self.errors, f'{len(self.errors)} errors, first: {self.errors[0]}'
        assert not self.faults, f'{len(self.faults)} wrong reads, first: {self.faults[0]}'
        assert self.count > 0, 'the load sent nothing'
