"""The OCF agent: each action with its exit code, as Pacemaker calls it, on two hosts."""

import os
import subprocess
import xml.etree.ElementTree

from lab import Lab, Network, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
AGENT = os.path.join(ROOT, 'dist', 'ocf', 'rblk')
SUCCESS, GENERIC, ARGS, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING = 0, 1, 2, 3, 5, 6, 7
PROMOTED, DEGRADED, DEGRADED_PROMOTED = 8, 190, 191


def test_a_volume_runs_moves_and_stops():
    with Lab(resource='peer-timeout-ms = 1000\n') as lab:
        for node in lab.nodes:
            node.create('--in-sync')
            assert _agent(node, 'monitor') == NOT_RUNNING
            assert _agent(node, 'stop') == SUCCESS, 'what is stopped stops'
            assert _agent(node, 'validate-all') == SUCCESS
            assert _agent(node, 'start') == SUCCESS
            assert _agent(node, 'start') == SUCCESS, 'what runs starts'
        _becomes(lab.a, SUCCESS)
        _becomes(lab.b, SUCCESS)
        assert _agent(lab.a, 'promote') == SUCCESS
        assert _agent(lab.a, 'promote') == SUCCESS
        _becomes(lab.a, PROMOTED)
        assert _agent(lab.b, 'promote') == GENERIC, 'the other is Primary'
        assert _agent(lab.a, 'demote') == SUCCESS
        assert _agent(lab.b, 'promote') == SUCCESS
        _becomes(lab.b, PROMOTED)
        _becomes(lab.a, SUCCESS)
        # Alone it still works, and says that it is not as it should be.
        assert _agent(lab.a, 'stop') == SUCCESS
        assert _agent(lab.a, 'monitor') == NOT_RUNNING
        _becomes(lab.b, DEGRADED_PROMOTED)
        assert _agent(lab.b, 'demote') == SUCCESS
        _becomes(lab.b, DEGRADED)
        assert _agent(lab.a, 'start') == SUCCESS
        _becomes(lab.b, SUCCESS)
        # A started daemon is never Primary, and what is Primary is stopped as well.
        assert _agent(lab.b, 'promote') == SUCCESS
        assert _agent(lab.b, 'start') == SUCCESS
        _becomes(lab.b, SUCCESS)
        assert _agent(lab.b, 'promote') == SUCCESS
        for node in (lab.b, lab.a):
            assert _agent(node, 'stop') == SUCCESS
            assert _agent(node, 'monitor') == NOT_RUNNING
        lab.compare()


def test_what_cannot_be_is_told_by_its_code():
    with Lab() as lab:
        tree = xml.etree.ElementTree.fromstring(_run(lab.a, 'meta-data').stdout)
        actions = {(action.get('name'), action.get('role')) for action in tree.iter('action')}
        for name in ('start', 'stop', 'promote', 'demote', 'notify', 'validate-all', 'meta-data'):
            assert (name, None) in actions, actions
        assert {('monitor', 'Promoted'), ('monitor', 'Unpromoted')} <= actions, actions
        assert _agent(lab.a, '') == ARGS
        assert _agent(lab.a, 'reboot') == UNIMPLEMENTED
        assert _agent(lab.a, 'start', OCF_RESKEY_resource='') == CONFIGURED
        assert _agent(lab.a, 'start', OCF_RESKEY_program='/nowhere/rblk') == INSTALLED
        assert _agent(lab.a, 'monitor', OCF_RESKEY_program='/nowhere/rblk') == NOT_RUNNING
        assert _agent(lab.a, 'stop', OCF_RESKEY_program='/nowhere/rblk') == SUCCESS
        assert _agent(lab.a, 'start', OCF_RESKEY_config='/nowhere.toml') == INSTALLED
        # Without metadata the daemon does not start, and the agent does not wait for ever.
        assert _agent(lab.a, 'start') == GENERIC


def test_a_running_volume_is_never_called_stopped():
    with Lab(resource='peer-timeout-ms = 1000\n') as lab:
        client = lab.start()
        client.close()
        # Its file or its program is gone: it runs all the same.
        gone = {'OCF_RESKEY_program': '/nowhere/rblk'}
        assert _agent(lab.a, 'monitor', **gone) == INSTALLED
        assert _agent(lab.a, 'stop', **gone) == INSTALLED
        assert _agent(lab.a, 'monitor', OCF_RESKEY_config='/nowhere.toml') == PROMOTED
        lab.a.pause()
        try:
            assert _agent(lab.a, 'monitor') == GENERIC, 'a daemon that hangs'
        finally:
            lab.a.resume()
        _becomes(lab.a, PROMOTED)
        lab.finish()


def _becomes(node, code):
    until(f'monitor on {node.name} says {code}', lambda: _agent(node, 'monitor') == code, 30)


def _agent(node, action, **settings):
    return _run(node, action, **settings).returncode


def _run(node, action, **settings):
    parameters = {'OCF_RESKEY_resource': 't', 'OCF_RESKEY_program': node.lab.rblk, 'OCF_RESKEY_config': node.config,
                  'OCF_RESKEY_node': node.name, 'OCF_RESKEY_run_dir': node.run_dir,
                  'OCF_RESKEY_front': f'nbd=unix:{node.socket}', 'OCF_FUNCTIONS_DIR': '/nowhere', **settings}
    command = Network.inside(node.side) + [AGENT] + ([action] if action else [])
    return subprocess.run(command, env={**os.environ, **parameters}, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=120)
