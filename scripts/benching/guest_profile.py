"""Where a guest's processor time goes: by thread, and by function of its kernel. Runs inside the guest, by itself:

    python3 guest_profile.py begin            remembers what each thread has used, and forgets the kernel's samples
    python3 guest_profile.py end REQUESTS     prints what was used since, in microseconds for each request

The kernel must have been booted with `profile=2`: it notes at each tick of the clock where it is
(Documentation/admin-guide/kernel-parameters.txt); while a program runs or the processor rests, nothing is noted.
"""
import collections
import glob
import json
import struct
import sys

NOTES = '/tmp/guest-profile.json'
TICKS_PER_SECOND = 100
ROWS = 14


def threads():
    """{'tid name': (user, system) in ticks} of all threads there are."""
    out = {}
    for path in glob.glob('/proc/[0-9]*/task/[0-9]*/stat'):
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue    # it has ended
        name = text[text.index('(') + 1:text.rindex(')')]
        fields = text[text.rindex(')') + 2:].split()
        # Kernel workers are named after what they do at the moment.
        out[f'{path.split("/")[4]} {name.split("-")[0]}'] = (int(fields[11]), int(fields[12]))
    return out


def samples():
    """{function: ticks} of the kernel, as /proc/profile has them: a step, then a counter for each step of code."""
    with open('/proc/profile', 'rb') as file:
        data = file.read()
    step, *counts = struct.unpack(f'{len(data) // 4}I', data[:len(data) // 4 * 4])
    symbols = []
    with open('/proc/kallsyms') as file:
        for line in file:
            address, kind, name = line.split()[:3]
            if kind in 'tT':
                symbols.append((int(address, 16), name))
    symbols.sort()
    start = next(address for address, name in symbols if name == '_stext')
    found, at = collections.Counter(), 0
    for index, count in enumerate(counts):
        address = start + index * step
        while at + 1 < len(symbols) and symbols[at + 1][0] <= address:
            at += 1
        if count:
            found[symbols[at][1]] += count
    return found


def begin():
    """Notes how things are now."""
    with open('/proc/profile', 'w') as file:
        file.write('1')
    with open(NOTES, 'w') as file:
        json.dump(threads(), file)


def end(requests):
    """Prints what has been used since `begin`."""
    now, kernel = threads(), samples()
    with open(NOTES) as file:
        before = json.load(file)
    to_us = 1e6 / TICKS_PER_SECOND / requests
    used = collections.defaultdict(lambda: [0, 0])
    for name, ticks in now.items():
        was = before.get(name, (0, 0))
        kind = name.split(' ', 1)[1].split('/')[0]
        for at in (0, 1):
            used[kind][at] += ticks[at] - was[at]
    print(f'  {"us for each request, thread":32}{"program":>9}{"kernel":>9}')
    rows = sorted(used.items(), key=lambda row: -sum(row[1]))
    for name, (user, system) in [row for row in rows if sum(row[1]) * to_us >= 1][:ROWS]:
        print(f'  {name:32}{user * to_us:9.0f}{system * to_us:9.0f}')
    total = sum(kernel.values()) or 1
    print(f'  {"kernel, of its samples":32}')
    for name, count in kernel.most_common(ROWS):
        print(f'  {name:32}{100 * count / total:8.1f}%')


if __name__ == '__main__':
    if sys.argv[1] == 'begin':
        begin()
    else:
        end(float(sys.argv[2]))
