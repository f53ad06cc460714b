"""The metrics of live daemons in Prometheus' own parser; its rules and the dashboard; clients that behave badly."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

from lab import MIB, Lab, inside, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RULES = os.path.join(ROOT, 'dist', 'prometheus', 'rblk.rules.yml')
DASHBOARD = os.path.join(ROOT, 'dist', 'grafana', 'rblk.json')
LISTEN = ('0.0.0.0', 7791)


def test_a_mirror_is_scraped():
    with _lab() as lab:
        client = lab.start()
        client.write(0, bytes([1]) * 4 * MIB)
        client.flush()
        time.sleep(1)   # what was scraped meanwhile may be half a second old
        text = _scrape('a')
        said = _promtool('check', 'metrics', data=text)
        assert said == '', said
        assert _value(text, 'rblk_resource_role', role='Primary') == 1
        assert _value(text, 'rblk_connection_state', state='Connected') == 1
        assert _value(text, 'rblk_device_written_bytes_total') >= 4 * MIB
        assert _value(text, 'rblk_peerdevice_sent_bytes_total') >= 4 * MIB
        assert _value(_scrape('b'), 'rblk_resource_role', role='Secondary') == 1
        lab.b.kill()
        until('the peer is away', lambda: _value(_scrape('a'), 'rblk_connection_state', state='Connected') == 0, 20)
        client.write(0, bytes([2]) * MIB)
        until('what differs is told', lambda: _value(_scrape('a'), 'rblk_peerdevice_outofsync_bytes') == MIB, 20)
        lab.b.attach()
        lab.synced()
        until('and that nothing does', lambda: _value(_scrape('a'), 'rblk_peerdevice_outofsync_bytes') == 0, 20)
        client.close()
        lab.finish()


def test_bad_clients_cost_nothing():
    with _lab() as lab:
        client = lab.start()
        idle = lab.a.daemon.memory()['resident']
        mute = inside('a', lambda: [socket.create_connection(('127.0.0.1', LISTEN[1])) for _ in range(200)])
        for number, stream in enumerate(mute):
            if number % 2:
                try:
                    stream.sendall(b'GET /metrics HTTP/1.1\r\n' + b'x: y\r\n' * 20)
                except OSError:
                    pass    # turned away
        # The volume and its status do not notice.
        begun = time.monotonic()
        for block in range(50):
            client.write(block * 4096, bytes([block]) * 4096)
        client.flush()
        lab.a.status()
        assert time.monotonic() - begun < 5
        assert lab.a.daemon.memory()['resident'] - idle < 8 * MIB
        for stream in mute:
            stream.close()
        until('and others are served again', lambda: _scrape('a', quiet=True), 20)
        client.close()
        lab.finish()


def test_a_port_that_is_taken_keeps_no_volume_from_being_served():
    with _lab() as lab:
        taken = inside('a', lambda: socket.create_server(LISTEN))
        client = lab.start()
        client.write(0, bytes([1]) * 4096)
        assert 'metrics are not served yet' in lab.a.daemon.words(), lab.a.daemon.words()
        taken.close()
        until('metrics are served', lambda: 'metrics are served on' in lab.a.daemon.words(), 40)
        assert _value(_scrape('a'), 'rblk_resource_role', role='Primary') == 1
        client.close()
        lab.finish()


def test_rules_fire_when_they_should_and_only_then():
    said = _promtool('check', 'rules', RULES)
    assert 'SUCCESS' in said, said
    said = _promtool('test', 'rules', RULES.replace('.rules.', '.rules.test.'))
    assert 'SUCCESS' in said, said


def test_rules_and_dashboard_ask_for_metrics_that_exist(tmp='/run/expressions.yml'):
    with open(os.path.join(ROOT, 'docs', 'metrics.md')) as file:
        known = set(re.findall(r'^\| `(\w+)` \|', file.read(), re.M))
    with open(DASHBOARD) as file:
        panels = json.load(file)['panels']
    asked = [target['expr'] for panel in panels for target in panel['targets']]
    assert len(asked) > 10
    # As rules, with the dashboard's variables filled in, Prometheus can check them.
    with open(tmp, 'w') as file:
        file.write('groups:\n- name: dashboard\n  rules:\n')
        for number, expression in enumerate(asked):
            expression = expression.replace('$__rate_interval', '1m').replace('$name', '.*')
            file.write(f'  - record: panel:{number}\n    expr: {json.dumps(expression)}\n')
    said = _promtool('check', 'rules', tmp)
    assert 'SUCCESS' in said, said
    with open(RULES) as file:
        asked.append(file.read())
    for name in set(re.findall(r'\b(?:rblk_|process_)\w+', '\n'.join(asked))):
        family = re.sub('_(bucket|sum|count)$', '', name)
        assert family in known, f'{name} is not in docs/metrics.md'


def _lab():
    # The address is the same on both nodes: each is in a network namespace of its own.
    return Lab(resource=f'peer-timeout-ms = 1000\n\n[metrics]\nlisten = "{LISTEN[0]}:{LISTEN[1]}"\n')


def _scrape(side, quiet=False):
    def ask():
        with urllib.request.urlopen(f'http://127.0.0.1:{LISTEN[1]}/metrics', timeout=10) as answer:
            return answer.read().decode()
    try:
        return inside(side, ask)
    except OSError:
        if quiet:
            return ''
        raise


def _value(text, name, **labels):
    """The value of the one sample of this name that has these labels."""
    found = [line for line in text.splitlines() if re.match(rf'{name}[ {{]', line)
             and all(f'{label}="{value}"' in line for label, value in labels.items())]
    assert len(found) == 1, f'{name} {labels}: {found}'
    return float(found[0].rsplit(' ', 1)[1])


def _promtool(*arguments, data=None):
    program = os.environ.get('PROMTOOL') or shutil.which('promtool')
    assert program, 'promtool is not here: `scripts/test hosts` fetches it'
    answer = subprocess.run([program, *arguments], input=data, text=True, capture_output=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr
