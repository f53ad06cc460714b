"""The primary's disk hangs at reads and is given up: the peer answers. What the disk reads later reaches no client."""

import random
import threading
import time

import nbd
from lab import MIB, Lab, until

GIVEN_UP_S = 1
LATE_S = 6              # the disk reads that long after it was asked
BYTES = 24 * MIB        # more pieces than are in flight at once: those that were sent are used for the rest


def test_what_a_disk_reads_late_reaches_no_client():
    with Lab(resource=f'disk-timeout-ms = {GIVEN_UP_S * 1000}') as lab:
        client = lab.start('--faults', f'read-delay-ms={LATE_S * 1000}')
        data = random.randbytes(BYTES)
        for offset in range(0, BYTES, MIB):
            client.write(offset, data[offset:offset + MIB])
        client.flush()
        # Behind its back, so that the late bytes are told from the peer's.
        with open(lab.a.disk, 'r+b', buffering=0) as disk:
            disk.write(b'\xee' * BYTES)
        # This client asks, and takes no answer until the disk has read: what it gets has been in buffers all the time.
        go_on = threading.Event()
        held_up = client.submit(nbd.FLUSH, then=lambda _: go_on.wait(60))
        began = time.monotonic()
        read = client.submit(nbd.READ, 0, BYTES)
        until('the disk is given up', lambda: lab.a.status()['devices'][0]['disk-state'] == 'Diskless', 20)
        assert time.monotonic() - began < LATE_S - 1, 'the disk was to be given up before it reads'
        time.sleep(max(0, began + LATE_S + 2 - time.monotonic()))
        go_on.set()
        held_up.wait()
        got = read.wait()
        wrong = [at for at in range(0, BYTES, 4096) if got[at:at + 4096] != data[at:at + 4096]]
        late = sum(1 for at in wrong if b'\xee' * 512 in got[at:at + 4096])
        assert not wrong, f'{len(wrong)} blocks are wrong, {late} of them read late, the first at {wrong[0]}'
        assert client.read(0, MIB) == data[:MIB]
        client.close()
