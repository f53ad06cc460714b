"""One job of `docs/bench/jobs.fio` on one system: a run of fio, and what it cost this machine."""

import configparser
import json
import os
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = os.path.join(ROOT, 'docs', 'bench', 'jobs.fio')
TICKS = os.sysconf('SC_CLK_TCK')


def jobs():
    """Names of all jobs with their options, those for all included."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(JOBS)
    common = dict(parser['global'])
    return {name: {**common, **parser[name]} for name in parser.sections() if name != 'global'}


def run(folder, name, target, seconds, within=(), servers=(), **changes):
    """Runs a job on `target`, options of fio; keeps job file and result in `folder`. `within`: a command that leads to
    where the target is; `servers`: processes that serve it. Returns the figures."""
    options = {**jobs()[name], **target, 'ramp_time': '500ms', **changes, 'runtime': seconds}
    if target['ioengine'] == 'nbd' and 'fdatasync' in options:
        options['fsync'] = options.pop('fdatasync')     # NBD has one kind of flush, and fio's engine asks for it so
    os.makedirs(folder, exist_ok=True)
    job, result = (os.path.join(folder, f'{name}.{kind}') for kind in ('fio', 'json'))
    with open(job, 'w') as out:
        print(f'[{name}]', *(f'{key}={value}' for key, value in options.items()), sep='\n', file=out)
    os.sync()           # what another system left in the page cache is not written at this one's expense
    before, began = (busy(), used(servers)), time.monotonic()
    command = [*within, 'fio', '--output-format=json', f'--output={result}', job]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    cpu, own, took = busy() - before[0], used(servers) - before[1], time.monotonic() - began
    if ended.returncode != 0:
        raise RuntimeError(f'fio: {name}: {ended.stderr.strip() or ended.stdout.strip()}')
    with open(result) as file:
        text = file.read()
    out = figures(json.loads(text[text.index('{'):])['jobs'][0])
    # Everything that ran, the kernel and the client included, over all requests, those of the ramp included.
    requests = out['iops'] * (seconds + 0.5)
    out['cpu_s_per_million'] = cpu / requests * 1e6
    out['servers_cpu_s_per_million'] = own / requests * 1e6
    out['busy'] = cpu / took
    return out


def figures(job):
    """What is of interest of a job in fio's JSON."""
    if job['error'] != 0:
        raise RuntimeError(f'fio reports error {job["error"]}')
    sides = [job[side] for side in ('read', 'write') if job[side]['total_ios'] > 0]
    iops = sum(side['iops'] for side in sides)

    def mean(value):
        return sum(value(side) * side['iops'] for side in sides) / iops
    return {
        'iops': iops,
        'mib_s': sum(side['bw_bytes'] for side in sides) / (1 << 20),
        'mean_us': mean(lambda side: side['lat_ns']['mean']) / 1e3,
        'p50_us': mean(lambda side: side['clat_ns']['percentile']['50.000000']) / 1e3,
        'p99_us': mean(lambda side: side['clat_ns']['percentile']['99.000000']) / 1e3,
        'max_us': max(side['lat_ns']['max'] for side in sides) / 1e3,
        'sync_mean_us': job.get('sync', {}).get('lat_ns', {}).get('mean', 0) / 1e3,
    }


def busy():
    """Seconds that the processors of this machine worked since it started."""
    with open('/proc/stat') as file:
        user, nice, system, _idle, _wait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def used(processes):
    """Seconds that these processes and their threads worked since they started."""
    total = 0
    for pid in processes:
        with open(f'/proc/{pid}/stat') as file:
            total += sum(map(int, file.read().rsplit(')', 1)[1].split()[11:13]))
    return total / TICKS
