"""What no peer is measured in: a cold working set, and where the time goes."""

import contextlib
import os
import signal
import statistics
import subprocess

from benching.systems import Raw, Rblk, sparse_file

COLD_MIB = 64 << 10


def cold(scratch, raw, rounds, seconds):
    """4k random writes at depth 32 over 256 MiB, and over 64 GiB of which hardly an extent was touched before."""
    out = {}
    for system in (Raw(os.path.join(scratch, 'cold-raw'), COLD_MIB, sparse_file),
                   Rblk(os.path.join(scratch, 'cold-rblk'), COLD_MIB, sparse_file)):
        system.start()
        try:
            # The file system allocates what is hole: for the hot set that is done before.
            system.run(os.path.join(raw, 'fill'), 'write-1m-4', 1, time_based=0, ramp_time=0)
            rows = {'hot': [], 'cold': []}
            for number in range(rounds):
                for kind, size in (('hot', '256m'), ('cold', f'{COLD_MIB}m')):
                    folder = os.path.join(raw, f'cold-{number + 1}', f'{system.name}-{kind}')
                    rows[kind].append(system.run(folder, 'randwrite-4k-32', seconds, size=size,
                                                 randseed=number + 1)['iops'])
        finally:
            system.stop()
        out[system.name] = {kind: statistics.median(values) for kind, values in rows.items()}
        out[system.name]['kept'] = out[system.name]['cold'] / out[system.name]['hot']
        print(f'{system.name}: hot {out[system.name]["hot"]:.0f}, cold {out[system.name]["cold"]:.0f} IOPS, '
              f'{out[system.name]["kept"]:.2f} of hot', flush=True)
    return out


def profile(scratch, raw, jobs, seconds):
    """Samples both daemons while a job runs; prints what took most. Needs perf."""
    system = Rblk(os.path.join(scratch, 'profile'))
    system.start()
    try:
        for job in jobs:
            data = os.path.join(raw, f'{job}.perf')
            pids = ','.join(str(process.pid) for process in system.processes)
            sampler = subprocess.Popen(['perf', 'record', '-q', '-F', '1999', '-g', '-o', data, '-p', pids],
                                       stdin=subprocess.DEVNULL)
            try:
                figures = system.run(raw, job, seconds)
            finally:
                sampler.send_signal(signal.SIGINT)
                sampler.wait()
            print(f'{job}: {figures["iops"]:.0f} IOPS, mean {figures["mean_us"]:.0f} us, '
                  f'p99 {figures["p99_us"]:.0f} us, '
                  f'{figures["servers_cpu_s_per_million"]:.1f} CPU s of the daemons per million', flush=True)
            for node in 'ab':
                with contextlib.suppress(RuntimeError):
                    print(node, system.rblk(node, 'stats'), sep='\n')
            report = subprocess.run(['perf', 'report', '--no-children', '-g', 'none', '--stdio', '-q', '-s',
                                     'pid,dso,symbol', '--percent-limit', '0.4', '-i', data],
                                    capture_output=True, text=True)
            print(report.stdout)
    finally:
        system.stop()
