"""What was measured where."""

import datetime
import os
import platform
import subprocess
import sys


def describe(root, program):
    """Date, commit, machine, and the command line of `program`."""
    def git(*words):
        return subprocess.run(['git', *words], cwd=root, capture_output=True, text=True).stdout.strip()
    with open('/proc/cpuinfo') as lines:
        model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), '')
    changed = ' with changes' if git('status', '--porcelain', '--untracked-files=no') else ''
    return {'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d'),
            'commit': git('rev-parse', '--short', 'HEAD') + changed, 'processor': model, 'cores': os.cpu_count(),
            'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)),
            'kernel': platform.release(), 'command': ' '.join([program, *sys.argv[1:]])}
