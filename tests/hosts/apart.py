"""What every return of a peer must show: only the difference is copied, and `status` says so.

    fault            given up                         may return     connected        synced
      │────────────────│────────────────────────────────│──────────────│───────────────│
      └ writes may differ ┴ writes surely differ: A      ┴ may differ    ┴ go to both, never differ

Also different: what both disks had accepted before the fault, but had not flushed since. A flush of both is due
1 s after the last one, so that is what was written in the last UNSTABLE_S. So, in distinct blocks,

    A  <=  written apart, says `status`  <=  all that the load wrote from UNSTABLE_S before the fault to connected
    resynced, says `status`  <=  written apart, says `status`
"""

import time

from lab import MIB

UNSTABLE_S = 1.0 + 0.2      # the idle flush (limits.rs), and the time that it takes itself
BLOCK = 4096


def expect_only_difference(lab, load, fault, given_up, returns, seconds=60):
    """Waits until both disks are in sync again, and holds what was copied against what was written. Times are
    of the monotonic clock. Returns a line with the figures."""
    lab.b.wait('connected', seconds)
    connected = time.monotonic()
    lab.synced(seconds)
    status = lab.a.status()['rblk']
    copied, written = status['resync']['since-connect-bytes'], status['written-apart-bytes']
    surely = load.bytes_written(given_up, returns, wholly=True)
    at_most = load.bytes_written(fault - UNSTABLE_S, connected)
    figures = (f'{copied / MIB:.2f} MiB resynced, {written / MIB:.2f} MiB written apart, '
               f'by the load {surely / MIB:.2f} to {at_most / MIB:.2f} MiB of {lab.volume_bytes() // MIB} MiB')
    assert copied % BLOCK == 0, f'{copied} bytes resynced: not whole blocks'
    assert surely > 0, f'nothing was written while the peer was away: {figures}'
    assert at_most < lab.volume_bytes() / 2, f'a full resync would not be noticed: {figures}'
    assert copied <= written, f'more was copied than written: {figures}'
    assert surely <= written <= at_most, f'status does not tell what was written: {figures}'
    return figures
