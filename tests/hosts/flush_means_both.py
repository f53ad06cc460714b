"""When a flush or a FUA write completes, both nodes hold the data on stable media; where only one can, that
is recorded durably before."""

import time

import nbd
from lab import Lab

DELAY = 0.2


def test_flush_waits_for_the_slower_disk():
    for slow in ('secondary', 'primary'):
        with Lab() as lab:
            fault = ('--faults', f'flush-delay-ms={int(DELAY * 1000)}')
            client = lab.start(b=fault) if slow == 'secondary' else lab.start(*fault)
            for _ in range(5):
                client.write(0, bytes([7]) * 4096)
                flush = client.submit(nbd.FLUSH)
                flush.wait()
                assert flush.seconds >= DELAY, f'{slow} slow: a flush took only {flush.seconds:.3f} s'
                assert flush.seconds < 10 * DELAY, f'a flush took {flush.seconds:.3f} s'
            write = client.submit(nbd.WRITE, 8192, data=bytes([8]) * 4096, fua=True)
            write.wait()
            assert write.seconds >= DELAY, f'{slow} slow: a FUA write took only {write.seconds:.3f} s'
            client.close()
            lab.finish()


def test_flush_without_the_secondary_is_recorded_first():
    """The secondary dies between write and flush, before the flush or in the middle of it."""
    for kill_after_submit in (False, True):
        with Lab() as lab:
            client = lab.start(b=('--faults', f'flush-delay-ms={int(DELAY * 1000)}'))
            before = lab.a.generation()
            client.write(0, bytes([7]) * 4096)
            if kill_after_submit:
                flush = client.submit(nbd.FLUSH)
                time.sleep(DELAY / 4)
                assert not flush.done(), 'the flush did not wait for the secondary'
                lab.b.kill()
            else:
                lab.b.kill()
                flush = client.submit(nbd.FLUSH)
            flush.wait(20)
            _expect_divergence(lab, before)
            client.close()


def test_flush_with_a_hung_secondary_is_recorded_first():
    with Lab(resource='peer-timeout-ms = 1500') as lab:
        # Slow, or else an idle flush makes the write stable on both before the pause: then nothing diverges.
        client = lab.start(b=('--faults', 'flush-delay-ms=500'))
        before = lab.a.generation()
        client.write(0, bytes([7]) * 4096)
        lab.b.pause()
        flush = client.submit(nbd.FLUSH)
        flush.wait(20)
        assert flush.seconds >= 1.0, f'flushed after {flush.seconds:.2f} s, before the secondary was given up'
        _expect_divergence(lab, before)
        client.close()


def _expect_divergence(lab, before):
    """What a crash at this moment would leave: the disk, not the daemon, is asked."""
    lab.a.kill()
    metadata = lab.a.metadata()
    superblock = metadata['superblock']
    assert superblock['current'] != before, 'a flush completed without recorded divergence'
    assert superblock['base'] == before, 'the bitmap is not relative to the common generation'
    recorded = metadata['bitmap']['out-of-sync-bytes'] >= 4096 or 0 in metadata['activity-log']['extents']
    assert recorded, 'the write is neither in the bitmap nor in the activity log'
