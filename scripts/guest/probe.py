"""A client that measures how long it had to wait, for tests."""

# Writes 64 blocks in turn, directly and synchronously, as long as told; ends with how many writes there were, how many
# failed, and the longest time between two that did not, in seconds.
PROBE = r'''
import mmap, os, sys, time
target, seconds, offset = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
file = os.open(target, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC)
block = mmap.mmap(-1, 4096)
end, last, longest, count, errors = time.monotonic() + seconds, time.monotonic(), 0, 0, 0
while time.monotonic() < end:
    block[:8] = b'%08d' % (count % 10**8)
    try:
        os.pwrite(file, block, offset + count % 64 * 4096)
    except OSError as error:
        errors += 1
        time.sleep(0.2)
        continue
    now = time.monotonic()
    longest, last, count = max(longest, now - last), now, count + 1
print(count, errors, longest)
'''


def probe(guest, seconds, target, offset=0):
    """The probe in the background; `probed` takes its answer."""
    with open(guest.shared('probe.py'), 'w') as file:
        file.write(PROBE)
    return guest.bg(f'python3 /host/probe.py {target} {seconds} {offset}', timeout=seconds + 300)


def probed(guest, job, what):
    """Prints what the probe found; the longest time without a write and the number of errors."""
    count, errors, longest = guest.join(job).split()[-3:]
    print(f'    {what}: {guest.name} wrote {count}, {errors} errors, '
          f'the longest time without a write {float(longest):.2f} s', flush=True)
    return float(longest), int(errors)
