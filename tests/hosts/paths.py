"""Two addresses on each node: when the path that carries the connection falls silent, the other one does, and what
waited goes on. Nothing is lost, nobody parts, nothing spins."""

import contextlib
import json
import os
import random
import socket
import threading
import time

import peer
from checker import Checker, Load
from lab import PORT, Lab, SecondNetwork, SecondNetworkIpv6, inside, until
from tls import lock

# Silence of so many milliseconds makes the peer lost; a new connection is there soon after that.
TIMEOUT_MS = int(os.environ.get('RBLK_PATHS_TIMEOUT_MS', '1000'))
RESOURCE = f'peer-timeout-ms = {TIMEOUT_MS}\n'
MOVES_S = 15
FIRST, SECOND = 1, 2


class TwoPaths(Lab):
    """Two nodes with two networks between them."""

    def __init__(self, resource='', second=SecondNetwork, **options):
        super().__init__(resource=RESOURCE + resource, **options)
        self.second = second()
        with open(self.config) as file:
            text = file.read()
        for side, address in self.network.ADDRESS.items():
            line = f'address = "{address}:{PORT}"\n'
            text = text.replace(line, f'{line}second-address = "{_place(self.second.ADDRESS[side])}"\n')
        with open(self.config, 'w') as file:
            file.write(text)

    def close(self):
        """Both networks go."""
        self.second.remove()
        super().close()

    def on_path(self, number, seconds=MOVES_S):
        """Waits until both nodes are connected, and both say that it is on this path alone."""
        def there():
            said = [node.status()['connections'][0] for node in self.nodes]
            return all(_paths(one) == [number] and one['connection-state'] == 'Connected' for one in said)
        until(f'the connection is on path {number}', there, seconds)

    def go_back(self):
        """What the documentation says for it."""
        self.a.rblk('disconnect', 't')
        until('it stands alone', lambda: self.a.connection() == 'StandAlone', 10)
        self.a.rblk('connect', 't')

    def nobody_parted(self):
        """No split brain, on either node, ever."""
        for daemon in self.daemons:
            assert 'split brain' not in daemon.words()


def _place(address):
    return f'[{address}]:{PORT}' if ':' in address else f'{address}:{PORT}'


def _paths(connection):
    assert len(connection['paths']) == 2, connection['paths']
    return [at for at, path in enumerate(connection['paths'], 1) if path['established']]


def _load(lab, client):
    checker = Checker(client.size)
    return checker, Load(client, checker, random.getrandbits(32), largest=32 << 10, rate=500).start()


def _cut_the_one_in_use(lab, load, there_and_back=1):
    """The first path is cut, then the second while the first is whole again; each time the other one is taken."""
    for _ in range(there_and_back):
        for silent, whole, number in ((lab.network, lab.second, SECOND), (lab.second, lab.network, FIRST)):
            whole.heal()
            begun = time.monotonic()
            silent.cut()
            lab.on_path(number)
            moved = time.monotonic() - begun
            assert moved < 4 * TIMEOUT_MS / 1000 + 2, f'{moved:.1f} s from one path to the other'
            lab.synced()
            done = time.monotonic()
            until('writes go on', lambda: load.completions(done, time.monotonic()) > 0, 10)
            load.expect_clean()
            print(f'      on path {number} {moved:.2f} s after the other was cut; '
                  f'longest stall {load.longest_gap(begun):.2f} s')
    lab.second.heal()


def test_a_silent_path_is_left_for_the_other():
    with TwoPaths() as lab:
        client = lab.start()
        lab.on_path(FIRST)
        checker, load = _load(lab, client)
        _cut_the_one_in_use(lab, load, there_and_back=2)
        load.stop().expect_clean()
        lab.nobody_parted()
        said = lab.a.daemon.words() + lab.b.daemon.words()
        for part in (f'connected to 10.78.0.2:{PORT} on path 2 (10.78.0.1:{PORT} to 10.78.0.2:{PORT})',
                     f' on path 2 (10.78.0.2:{PORT} to 10.78.0.1:{PORT})', f'connected to 10.77.0.2:{PORT} on path 1'):
            assert part in said, f'{part} in {said}'
        client.close()
        lab.finish(checker)


def test_one_direction_is_enough():
    with TwoPaths() as lab:
        client = lab.start()
        checker, load = _load(lab, client)
        for side in ('a', 'b'):
            lab.network.cut_towards(side)
            lab.on_path(SECOND)
            lab.network.heal()
            lab.synced()
            lab.go_back()
            lab.on_path(FIRST)
            lab.synced()
        load.stop().expect_clean()
        lab.nobody_parted()
        client.close()
        lab.finish(checker)


def test_with_tls():
    with TwoPaths() as lab:
        lock(lab)
        client = lab.start()
        lab.on_path(FIRST)
        assert lab.a.status()['connections'][0]['tls']
        checker, load = _load(lab, client)
        _cut_the_one_in_use(lab, load)
        assert lab.a.status()['connections'][0]['tls']
        load.stop().expect_clean()
        lab.nobody_parted()
        client.close()
        lab.finish(checker)


def test_a_path_of_ipv6_beside_one_of_ipv4():
    with TwoPaths(second=SecondNetworkIpv6) as lab:
        lock(lab)
        client = lab.start()
        lab.on_path(FIRST)
        checker, load = _load(lab, client)
        _cut_the_one_in_use(lab, load)
        load.stop().expect_clean()
        for words in (f'on path 2 ([fd78::1]:{PORT} to [fd78::2]:{PORT})', 'connected from [fd78::1]:'):
            assert words in lab.a.daemon.words() + lab.b.daemon.words(), words
        path = lab.a.status()['connections'][0]['paths'][1]
        assert path['this_host']['family'] == 'ipv6', path
        lab.nobody_parted()
        client.close()
        lab.finish(checker)


def test_who_waits_for_the_peer_sees_a_pause_and_leaves_no_trace():
    for resource, both in (('ride-through-s = 60', False), ('dual-primary = true\nride-through-s = 60', True)):
        with TwoPaths(resource=resource) as lab:
            clients = [lab.start(b=('--primary',) if both else ())] + ([lab.b.client()] if both else [])
            before = lab.a.generation()
            checker = Checker(clients[0].size)
            loads = [Load(client, checker, random.getrandbits(32), largest=32 << 10, rate=300).start()
                     for client in clients]
            _cut_the_one_in_use(lab, loads[0])
            for load in loads:
                load.stop().expect_clean()
            lab.synced()
            assert [node.generation() for node in lab.nodes] == [before] * 2, 'a path that was cut left a trace'
            for node in lab.nodes:
                assert 'going on alone' not in node.daemon.words(), node.name
            for client in clients:
                client.close()
            lab.finish(checker)


def test_a_path_that_is_down_at_the_start_is_not_waited_for():
    with TwoPaths() as lab:
        lab.network.cut()
        client = lab.start()
        lab.on_path(SECOND)
        text = lab.a.rblk('status', 't').stdout
        for line in (f'path:1 10.77.0.1:{PORT} to 10.77.0.2:{PORT} established:no',
                     f'path:2 10.78.0.1:{PORT} to 10.78.0.2:{PORT} established:yes'):
            assert line in text, text
        for node in lab.nodes:
            told = node.rblk('explain', 't').stdout
            assert 'on the second path?' in told and 'rblk disconnect t' in told, told
        found = _of(lab.a, 'path')
        assert [check['level'] for check in found] == ['warning'] * 2, found
        assert 'does not work' in found[0]['finding'] and 'has the connection' in found[1]['finding'], found
        assert len(_of(lab.a, 'own address')) == len(_of(lab.a, 'packet size')) == 2
        lab.network.heal()
        found = _of(lab.a, 'path')
        assert found[0]['level'] == 'ok' and 'it takes connections' in found[0]['finding'], found
        assert lab.a.connection() == 'Connected', 'a look has disturbed the connection'
        lab.on_path(SECOND)     # which works, and is kept
        lab.go_back()
        lab.on_path(FIRST)
        lab.synced()
        found = _of(lab.a, 'path')
        assert [check['level'] for check in found] == ['ok'] * 2, found
        client.close()
        lab.finish()


def _of(node, subject):
    checks = json.loads(node.rblk('doctor', 't', '--json', check=False).stdout)['checks']
    return [check for check in checks if check['subject'] == subject]


def test_an_address_that_comes_later_is_used():
    with TwoPaths() as lab:
        lab.network.take_address('b')
        client = lab.start()
        lab.on_path(SECOND)
        missing = f'Cannot listen on 10.77.0.2:{PORT}'
        listens = f'listens on 10.77.0.2:{PORT}'
        assert lab.b.daemon.words().count(missing) == 1, 'told once'
        assert listens not in lab.b.daemon.words()
        lab.network.give_address('b')
        until('it listens there', lambda: listens in lab.b.daemon.words(), 10)
        assert lab.b.daemon.words().count(missing) == 1, 'told once'
        lab.go_back()
        lab.on_path(FIRST)
        # The same of the dialling node: it has lost an address, and says so where it matters.
        lab.network.take_address('a')
        lab.on_path(SECOND)
        lab.second.cut()
        until('it says why', lambda: all(part in ' '.join(_why(lab.a)) for part in (
            'Cannot connect from 10.77.0.1', f'Cannot connect to 10.78.0.2:{PORT}')), MOVES_S)
        lab.network.give_address('a')
        lab.on_path(FIRST)
        lab.second.heal()
        lab.synced()
        client.close()
        lab.finish()
        for network in (lab.network, lab.second):
            network.take_address('b')
        refused = lab.b.rblk('attach', 't', '--front', f'nbd=unix:{lab.b.socket}', check=False)
        assert refused.returncode == 1, refused
        for part in (missing, f'Cannot listen on 10.78.0.2:{PORT}', 'check the address of this node'):
            assert part in refused.stderr, refused.stderr


def test_a_stranger_at_the_address_of_a_path_is_left_for_the_other():
    """He has the port: says nothing, or hangs up. With TLS silence ends an attempt sooner than a connection."""
    for locked, silent in ((False, True), (False, False), (True, True), (True, False)):
        with TwoPaths() as lab, contextlib.ExitStack() as open_still:
            if locked:
                lock(lab)
            place = (lab.network.ADDRESS['b'], PORT)
            stranger = open_still.enter_context(inside('b', lambda: socket.create_server(place)))
            if not silent:
                threading.Thread(target=_hang_up, args=(stranger,), daemon=True).start()
            for node in lab.nodes:
                node.create('--in-sync')
            lab.b.attach()
            lab.a.attach('--primary')
            lab.on_path(SECOND, 4 * TIMEOUT_MS / 1000)
            lab.synced()
            stranger.shutdown(socket.SHUT_RDWR)
            stranger.close()
            until('it listens there', lambda: f'listens on {place[0]}:{PORT}' in lab.b.daemon.words(), 10)
            lab.go_back()
            lab.on_path(FIRST)
            lab.synced()
            lab.finish()


def test_a_path_that_corrupts_what_is_large_is_left_for_the_other():
    """The greeting gets through, and a connection breaks soon after: again and again, but not for ever."""
    with TwoPaths() as lab:
        proxy = peer.Flipper('a', PORT + 1, (lab.network.ADDRESS['b'], PORT), 256 << 10)
        with open(lab.config) as file:
            text = file.read()
        lab.a.config = f'{lab.config}.a'
        with open(lab.a.config, 'w') as file:
            file.write(text.replace(f'address = "10.77.0.2:{PORT}"', f'address = "10.77.0.1:{PORT + 1}"', 1))
        client = lab.start()
        lab.on_path(FIRST)
        checker, load = _load(lab, client)
        lab.on_path(SECOND, 60)
        assert proxy.flips >= 3, f'left after {proxy.flips} flips'
        load.stop().expect_clean()
        lab.synced()
        lab.on_path(SECOND)
        lab.nobody_parted()
        client.close()
        lab.finish(checker)


def _hang_up(server):
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def _why(node):
    return node.status()['rblk']['why']['not-connected']


def test_without_any_path_nothing_spins_and_nothing_is_left_open():
    with TwoPaths() as lab:
        client = lab.start()
        for away, back, refused in ((_cut_both, _heal_both, False), (_kill_the_peer, _start_the_peer, True)):
            lab.synced()
            files = _files(lab.a)
            away(lab)
            words = 'refused' if refused else 'timed out'
            until('both are told', lambda: ' '.join(_why(lab.a)).count(words) == 2, MOVES_S)
            logged, spent, begun = len(lab.a.daemon.words()), _cpu(lab.a), time.monotonic()
            time.sleep(4)
            share = (_cpu(lab.a) - spent) / (time.monotonic() - begun)
            print(f'      {words}: {share * 100:.1f} % of a processor')
            assert share < 0.25, f'it takes {share * 100:.0f} % of a processor to look for the peer'
            assert len(lab.a.daemon.words()) == logged, lab.a.daemon.words()[logged:]
            assert _files(lab.a) <= files + 1, 'descriptors pile up'
            back(lab)
            lab.synced()
            assert _files(lab.a) == files, 'descriptors are left'
        client.close()
        lab.finish()


def _cut_both(lab):
    lab.network.cut()
    lab.second.cut()


def _heal_both(lab):
    lab.network.heal()
    lab.second.heal()


def _kill_the_peer(lab):
    lab.b.kill()


def _start_the_peer(lab):
    lab.b.attach()


def _files(node):
    return len(os.listdir(f'/proc/{node.daemon.pid}/fd'))


def _cpu(node):
    """Seconds that its daemon has computed."""
    with open(f'/proc/{node.daemon.pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
