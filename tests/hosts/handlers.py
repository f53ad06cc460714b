"""Handlers: commands that run at an event, in their own process, with a deadline, and never to the daemon's harm."""

import contextlib
import os
import signal
import time

import nbd
from lab import MIB, Lab, until, write_config

FAULT = ('--faults', 'write-fail=0+4096')


def _configure(lab, resource='', **commands):
    """The `[handlers]` of a lab. Both nodes have the same, and tell themselves apart by RBLK_NODE."""
    write_config(lab.config, lab.name, lab.nodes, resource)
    with open(lab.config, 'a') as file:
        file.write('\n[handlers]\n')
        for name, command in commands.items():
            value = command if isinstance(command, int) else f"'''{command}'''"
            file.write(f'{name.replace("_", "-")} = {value}\n')


def _exists(path):
    return until(os.path.basename(path), lambda: os.path.exists(path), 20)


def _read(path):
    with open(path) as file:
        return file.read()


def _gone(what, path, seconds=10):
    """The process whose number a handler wrote down."""
    pid = int(_read(path))
    until(f'{what} is gone', lambda: not _alive(pid), seconds)


def _runner(node):
    """The process that runs the handlers of a node."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            words = open(f'/proc/{pid}/cmdline').read().split('\0')
            parent = int(open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[1])
            if parent == _daemon(node) and 'handler-runner' in words:
                return int(pid)
    return None


def _daemon(node):
    return node.status()['rblk']['pid']


def _says(node, text, seconds=20):
    until(f'{node.name} says: {text}', lambda: text in node.daemon.words(), seconds)


def _disk_error(lab):
    """The Primary's disk fails; its clients do not notice."""
    client = lab.a.client()
    client.write(0, bytes([1]) * MIB)
    client.flush()
    client.close()


def _start(lab, *options):
    """As Lab.start, for a disk that fails."""
    for node in lab.nodes:
        node.create('--in-sync')
    lab.b.attach()
    lab.a.attach('--primary', *options)
    lab.a.wait('connected')


def test_a_handler_gets_drbds_environment_and_nothing_else():
    with Lab() as lab:
        out = os.path.join(lab.folder, 'environment')
        _configure(lab, local_io_error=f'env > {out}.new; ls -l /proc/self/fd >> {out}.fds; cat; mv {out}.new {out}')
        _start(lab, *FAULT)
        _disk_error(lab)
        _exists(out)
        found = dict(line.split('=', 1) for line in _read(out).splitlines())
        expected = {
            'DRBD_RESOURCE': 't', 'DRBD_VOLUME': '0', 'DRBD_MINOR': '0', 'DRBD_BACKING_DEV': lab.a.disk,
            'DRBD_CSTATE': 'Connected', 'DRBD_NODE_ID': '0', 'DRBD_NODE_ID_0': 'alpha', 'DRBD_NODE_ID_1': 'beta',
            'DRBD_MY_ADDRESS': '10.77.0.1', 'DRBD_MY_AF': 'ipv4', 'DRBD_PEER': 'beta', 'DRBD_PEERS': 'beta',
            'DRBD_PEER_NODE_ID': '1', 'DRBD_PEER_ADDRESS': '10.77.0.2', 'DRBD_PEER_AF': 'ipv4',
            'RBLK_EVENT': 'local-io-error', 'RBLK_RESOURCE': 't', 'RBLK_NODE': 'alpha', 'RBLK_PEER': 'beta',
            'RBLK_PEER_ADDRESSES': '10.77.0.2',
            'HOME': '/', 'PWD': '/',
        }
        for name, value in expected.items():
            assert found.get(name) == value, f'{name}: {found.get(name)!r}, not {value!r}'
        strangers = set(found) - set(expected) - {'PATH', 'RBLK_REASON', 'SHLVL', '_', 'OLDPWD'}
        assert not strangers, strangers
        # The list, its own view of the folder, and the three that everybody has.
        open_files = [line.split()[8] for line in _read(f'{out}.fds').splitlines()[1:]]
        assert set(open_files) <= {'0', '1', '2', '3'}, _read(f'{out}.fds')
        assert ' 0 -> /dev/null' in _read(f'{out}.fds')
        _says(lab.a, 'handler local-io-error is done')
        assert lab.a.daemon.running()


def test_a_split_brain_is_told_on_both_nodes():
    with Lab(resource='peer-timeout-ms = 1000') as lab:
        told = os.path.join(lab.folder, 'told')
        # It may call rblk: the daemon answers meanwhile.
        ask = f'{lab.rblk} status t --config {lab.config} --run-dir /run/rblk-$RBLK_NODE --node $RBLK_NODE'
        _configure(lab, 'peer-timeout-ms = 1000',
                 split_brain=f'{ask} > {told}.$RBLK_NODE.status && echo "$RBLK_REASON" > {told}.$RBLK_NODE')
        client = lab.start()
        lab.network.cut()
        client.write(0, bytes([2]) * MIB)
        until('the loss is noticed', lambda: lab.b.connection() == 'Connecting', 10)
        lab.b.rblk('promote', 't', '--force')
        other = lab.b.client()
        other.write(8 * MIB, bytes([3]) * MIB)
        other.close()
        lab.b.rblk('demote', 't')
        lab.network.heal()
        for node in lab.nodes:
            _exists(f'{told}.{node.name}')
            until('it says why', lambda path=f'{told}.{node.name}': 'split brain' in _read(path), 5)
            assert 'StandAlone' in _read(f'{told}.{node.name}.status')
        client.close()


def test_a_handler_that_hangs_is_killed_with_all_it_started():
    with Lab() as lab:
        pid = os.path.join(lab.folder, 'pid')
        # Neither asks to end nor lets go: SIGTERM is ignored by the shell and by its child.
        _configure(lab, timeout_s=1,
                 local_io_error=f'trap "" TERM; sh -c "echo \\$\\$ > {pid}.child; while :; do sleep 100; done" & '
                                f'echo $$ > {pid}; echo half a word; while :; do sleep 100; done')
        _start(lab, *FAULT)
        begun = time.monotonic()
        _disk_error(lab)
        _says(lab.a, 'it took too long and was ended')
        took = time.monotonic() - begun
        assert took < 10, f'{took:.1f} s'
        _says(lab.a, 'handler local-io-error: half a word')
        for path in (pid, f'{pid}.child'):
            _gone('the handler', path)
        _still_serves(lab)


def test_handlers_that_are_not_there_crash_or_print_without_end():
    flood = 'head -c 20000000 /dev/zero | tr "\\0" "x"; printf "\\033[2J"'
    cases = [('/nowhere/at-all --now', 'exit code 127: there is no such command'),
             ('/etc', 'exit code 126: the command cannot be executed'),
             ('kill -SEGV $$', 'ended by signal 11'),
             (flood, 'bytes more')]
    for command, text in cases:
        with Lab() as lab:
            _configure(lab, local_io_error=command)
            _start(lab, *FAULT)
            _disk_error(lab)
            _says(lab.a, text)
            assert max(map(len, lab.a.daemon.words().splitlines())) < 5000
            _still_serves(lab)


def test_the_end_of_the_daemon_ends_its_handlers():
    for how in ('kill', 'stop'):
        with Lab() as lab:
            pid = os.path.join(lab.folder, 'pid')
            _configure(lab, local_io_error=f'echo $$ > {pid}; sleep 1000; sleep 1000')
            _start(lab, *FAULT)
            _disk_error(lab)
            _exists(pid)
            until('it is written', lambda: _read(pid).endswith('\n'), 5)
            runner = _runner(lab.a)
            assert runner, 'no process runs the handlers'
            if how == 'kill':
                lab.a.kill()
            else:
                lab.a.daemon.signal(signal.SIGTERM)
                lab.a.daemon.wait(30)
            _gone('the handler', pid)
            until('the runner is gone', lambda: not _alive(runner), 10)


def test_a_runner_that_ends_is_started_again():
    with Lab() as lab:
        pid, again = os.path.join(lab.folder, 'pid'), os.path.join(lab.folder, 'again')
        _configure(lab, local_io_error=f'echo $$ > {pid}; sleep 1000', before_resync_target=f'touch {again}')
        _start(lab, *FAULT)
        first = _runner(lab.a)
        os.kill(first, signal.SIGTERM)      # as a service manager asks all of a service
        time.sleep(0.5)
        assert _runner(lab.a) == first, 'it ended before its daemon'
        _disk_error(lab)
        _exists(pid)
        os.kill(first, signal.SIGKILL)
        _says(lab.a, 'the process that runs handlers has ended')
        second = until('another one', lambda: _runner(lab.a), 5)
        assert second != first
        os.kill(second, signal.SIGSTOP)     # and one that is only stopped does not hold the daemon up
        _still_serves(lab)
        with contextlib.suppress(ProcessLookupError):
            os.kill(second, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(_read(pid)), signal.SIGKILL)


def test_without_handlers_there_is_no_process():
    with Lab() as lab:
        lab.start().close()
        assert _runner(lab.a) is None
        lab.finish()


def test_a_resync_asks_first_and_tells_when_it_is_done():
    with Lab(resource='peer-timeout-ms = 1000') as lab:
        seen, veto = os.path.join(lab.folder, 'seen'), os.path.join(lab.folder, 'veto')
        _configure(lab, 'peer-timeout-ms = 1000',
                 before_resync_target=f'echo before $RBLK_NODE $DRBD_CSTATE >> {seen}; sleep 2; test ! -e {veto}',
                 after_resync_target=f'echo after $RBLK_NODE >> {seen}')
        client = lab.start()
        client.write(0, bytes([1]) * MIB)
        client.flush()
        open(veto, 'w').close()
        lab.b.kill()
        client.write(MIB, bytes([2]) * MIB)
        before = _data(lab.b)
        lab.b.attach()
        until('it asks', lambda: _asks(lab.b), 20)
        longest = 0
        while _asks(lab.b):
            begun = time.monotonic()
            client.write(2 * MIB, bytes([3]) * 4096)
            longest = max(longest, time.monotonic() - begun)
        print(f'      longest write while it was asked {longest:.3f} s')
        assert longest < 1, 'a client waited for the answer'
        lab.b.stands_alone(10)
        why = lab.b.status()['rblk']['why']['not-connected']
        assert any('before-resync-target' in text and 'rblk connect t' in text for text in why), why
        assert _data(lab.b) == before, 'data was overwritten in spite of the veto'
        os.unlink(veto)
        lab.b.rblk('connect', 't')
        lab.synced()
        until('it is told', lambda: 'after beta' in _read(seen), 10)
        assert _read(seen).splitlines() == ['before beta Connecting'] * 2 + ['after beta'], _read(seen)
        client.close()
        lab.finish()


def test_a_write_waits_for_the_fence():
    for code in (4, 6):
        with Lab() as lab:
            _configure(lab, 'peer-timeout-ms = 1000\non-peer-lost = "fence"',
                     fence_peer=f'touch {lab.folder}/fence; until [ -e {lab.folder}/go ]; do sleep 0.1; done; '
                                f'exit {code}',
                     unfence_peer=f'touch {lab.folder}/unfence')
            client = lab.start()
            client.write(0, bytes([1]) * 4096)
            lab.b.kill()
            write = client.submit(nbd.WRITE, 0, data=bytes([2]) * 4096)
            _exists(f'{lab.folder}/fence')
            assert lab.a.status()['suspended-fencing'], lab.a.status()
            time.sleep(1)
            assert not write.done(), 'a write was completed while the peer was being fenced'
            open(f'{lab.folder}/go', 'w').close()
            if code == 4:
                write.wait(10)
                _says(lab.a, 'the peer is fenced')
            else:
                _says(lab.a, 'the peer refuses: it is Primary')
                time.sleep(1)
                assert not write.done(), 'a write was completed although nobody was fenced'
            lab.b.attach()
            write.wait(30)
            lab.synced()
            if code == 4:
                _exists(f'{lab.folder}/unfence')
            client.close()
            lab.finish()


def _data(node):
    with open(node.disk, 'rb') as disk:
        return disk.read(4 * MIB)


def _asks(node):
    why = node.status()['rblk']['why']['not-connected']
    return any('is asked whether' in text for text in why)


def _alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):     # the latter if it ends between the two lines
        return False


def _still_serves(lab):
    client = lab.a.client()
    client.write(4 * MIB, bytes([5]) * MIB)
    client.flush()
    assert client.read(4 * MIB, MIB) == bytes([5]) * MIB
    client.close()
    assert lab.a.daemon.running()
