"""A daemon that hangs: the verbs say so, keep their deadlines, and end well once it goes on."""

import subprocess
import time

from lab import Lab, until


def test_verbs_with_a_hung_daemon():
    with Lab() as lab:
        lab.start().close()
        lab.a.pause()
        began = time.monotonic()
        waited = lab.a.rblk('wait', lab.a.resource, 'connected', '--timeout', 1, check=False)
        took = time.monotonic() - began
        assert waited.returncode == 5, waited.stderr
        assert took < 8, f'a wait of one second took {took:.1f} s'
        asked = subprocess.Popen(lab.a.command('demote', lab.a.resource), stderr=subprocess.PIPE, text=True)
        line = asked.stderr.readline()
        assert 'no answer yet' in line, line
        lab.a.resume()
        assert asked.wait(30) == 0, asked.stderr.read()
        asked.stderr.close()
        until('it is Secondary', lambda: lab.a.status()['role'] == 'Secondary', 10)
        lab.a.wait('synced', 60)
        lab.a.detach()
        lab.b.detach()
        lab.compare()
