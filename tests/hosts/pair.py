"""`rblk pair` and `rblk join`: two bare hosts become a pair under TLS, whoever else is there, whatever dies."""

import contextlib
import os
import random
import socket
import subprocess
import threading
import time

from lab import MIB, PORT, Lab, Network, inside


def test_two_bare_hosts_become_a_synced_pair():
    with Lab() as lab:
        _bare(lab)
        with Invitation(lab) as invitation:
            said = _join(lab, invitation.token).stderr
            assert 'rblk create t' in said, said
            invitation.expect_joined()
        # What both were told to do next.
        for node in lab.nodes:
            node.create()
        lab.b.attach()
        lab.a.attach()
        lab.a.rblk('promote', 't', '--force')
        lab.synced()
        for node in lab.nodes:
            assert node.status()['rblk']['security'] == 'tls', node.status()
        assert lab.a.status()['rblk']['peer-key'] == lab.b.status()['rblk']['key']
        client = lab.a.client()
        data = random.randbytes(MIB)
        client.write(0, data)
        client.flush()
        client.close()
        lab.finish()
        with open(lab.b.disk, 'rb') as disk:
            assert disk.read(MIB) == data, 'what was written is not on the other disk'


def test_strangers_neither_join_nor_keep_the_guest_out():
    with Lab() as lab:
        _bare(lab)
        with Invitation(lab) as invitation:
            crowd = Crowd(100)
            try:
                time.sleep(1)
                begun = time.monotonic()
                memory = invitation.resident()
                _join(lab, invitation.token)
                took = time.monotonic() - begun
            finally:
                crowd.stop()
            invitation.expect_joined()
            print(f'      joined in {took:.1f} s beside {crowd.opened} connections of strangers; '
                  f'{memory / MIB:.0f} MiB resident')
            assert took < 5, f'strangers kept the guest out for {took:.1f} s'
            assert crowd.opened > 300, f'only {crowd.opened} strangers came: the crowd is no proof'
            assert memory < 64 * MIB


def test_wrong_tokens_end_the_right_one():
    with Lab() as lab:
        _bare(lab)
        with Invitation(lab, '--minutes', '5') as first:
            old = first.token
        with Invitation(lab) as second:
            for attempt in range(10):
                refused = _join(lab, old, check=False)
                assert refused.returncode == 1, refused
                assert 'from an earlier `rblk pair`' in refused.stderr, refused.stderr
            code, said = second.ended()
            assert code == 1 and 'wrong proofs' in said, said
            late = _join(lab, second.token, check=False)
            assert late.returncode == 1 and 'nobody waits there' in late.stderr, late.stderr
        assert 'tls' not in _read(lab.a) and not os.path.exists(lab.b.config)


def test_while_the_daemon_has_the_port():
    with Lab() as lab:
        _bare(lab)
        # They run without TLS until then. The second node of a configuration is the one that listens.
        plain = _read(lab.a).replace('[net]', '[net]\nsecurity = "none"')
        for node in lab.nodes:
            with open(node.config, 'w') as file:
                file.write(plain.replace(_key(lab.a), _key(node)))
            node.create('--in-sync')
            node.attach()
        lab.synced()
        busy = lab.b.rblk('pair', 't', check=False)
        assert busy.returncode == 1 and '--listen 10.77.0.2:PORT' in busy.stderr, busy.stderr
        assert not os.path.exists(_key(lab.b))
        with Invitation(lab, '--listen', f'0.0.0.0:{PORT + 9}', node=lab.b) as invitation:
            _join(lab, invitation.token, node=lab.a)
            invitation.expect_joined()
        lab.synced()
        for node in lab.nodes:
            node.detach()
            node.attach()
        lab.synced()
        for node in lab.nodes:
            assert node.status()['connections'][0]['tls'], node.status()


def test_a_man_in_the_middle_gets_nothing():
    with Lab() as lab:
        _bare(lab)
        mallory = os.path.join(lab.folder, 'mallory.toml')
        with open(mallory, 'w') as file:
            file.write(_read(lab.a).replace('alpha.key', 'mallory.key'))
        with Invitation(lab, '--listen', f'10.77.0.1:{PORT + 1}') as true, \
                Invitation(lab, '--listen', f'10.77.0.1:{PORT + 2}', config=mallory) as false:
            # He has the host's address, and a host of his own behind it.
            with Relay(PORT + 1, PORT + 2) as relay:
                refused = _join(lab, true.token, check=False)
            assert relay.heard, 'nothing came to the man in the middle'
            assert refused.returncode == 1, refused
            assert 'not the one in the token' in refused.stderr, refused.stderr
            assert false.process.poll() is None and not os.path.exists(lab.b.config)
            assert 'tls' not in _read(lab.a)
            # If he passes everything on, the true ones meet, and he has heard nothing.
            with Relay(PORT + 1, PORT + 1) as relay:
                _join(lab, true.token)
            assert len(relay.heard) > 2000
            for word in (b'[resource]', b'docker', b'ed25519', lab.a.disk.encode()):
                assert word not in relay.heard, f'{word} was heard'
            true.expect_joined()


def test_a_kill_at_any_time_is_healed():
    with Lab() as lab:
        _bare(lab)
        plain, ends = _read(lab.a), {'nothing': 0, 'host': 0, 'both': 0}
        for _ in range(20):
            victim = random.choice(['host', 'guest'])
            with Invitation(lab) as invitation:
                guest = subprocess.Popen(_join_command(lab.b), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
                guest.stdin.write(invitation.token.encode())
                guest.stdin.close()
                time.sleep(random.uniform(0, 0.12))
                (invitation.process if victim == 'host' else guest).kill()
                guest.wait(60)
            a, b = _read(lab.a), _read(lab.b) if os.path.exists(lab.b.config) else ''
            # The guest never believes a host that does not believe it.
            assert 'tls' in a or 'tls' not in b, 'the guest went ahead of the host'
            for node, text in ((lab.a, a), (lab.b, b)):
                if text:
                    node.rblk('config', 't')
            ends['both' if b else 'host' if 'tls' in a else 'nothing'] += 1
            with Invitation(lab) as invitation:
                _join(lab, invitation.token)
                invitation.expect_joined()
            assert 'tls' in _read(lab.a) and 'tls' in _read(lab.b)
            os.unlink(lab.b.config)
            with open(lab.a.config, 'w') as file:
                file.write(plain)
        print(f'      killed with this done: {ends}')


class Invitation:
    """`rblk pair`, on the first host unless another is named."""

    def __init__(self, lab, *options, config=None, node=None):
        node = node or lab.a
        self._peer = lab.b if node is lab.a else lab.a
        command = node.command('pair', 't', *options)
        if config:
            command[command.index('--config') + 1] = config
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.token = self.process.stdout.readline()
        if not self.token:
            raise AssertionError(f'no token: {self.process.stderr.read()}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def ended(self):
        """Its exit code and what it said."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def expect_joined(self):
        """It has ended well."""
        code, said = self.ended()
        assert code == 0 and f'{self._peer.name} has joined' in said, f'exit {code}: {said}'
        assert self.token.strip()[6:] not in said

    def resident(self):
        """Bytes of its memory."""
        with open(f'/proc/{self.process.pid}/status') as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) * 1024


class Crowd:
    """So many strangers at a time: some silent, some slow, some talk nonsense. Who is put out comes again."""

    def __init__(self, size):
        self.opened, self._stopped = 0, False
        self._thread = threading.Thread(target=inside, args=('b', lambda: self._run(size)))
        self._thread.start()

    def stop(self):
        self._stopped = True
        self._thread.join()

    def _run(self, size):
        crowd = []
        while not self._stopped:
            while len(crowd) < size:
                try:
                    stream = socket.create_connection((Network.ADDRESS['a'], PORT), 5)
                except OSError:
                    break       # the guest has joined: nobody listens any more
                stream.setblocking(False)
                self.opened += 1
                # Most hold what they have as long as they may; nonsense is shown the door at once.
                kind = 2 if self.opened % 20 == 0 else self.opened % 2
                self._send(stream, [b'', bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]), b'GET / HTTP/1.0\r\n'][kind])
                crowd.append(stream)
            for stream in list(crowd):
                try:
                    ended = stream.recv(100) == b''
                except BlockingIOError:
                    ended = not self._send(stream, b'\0') if random.random() < 0.1 else False
                except OSError:
                    ended = True
                if ended:
                    stream.close()
                    crowd.remove(stream)
            time.sleep(0.02)
        for stream in crowd:
            stream.close()

    @staticmethod
    def _send(stream, data):
        try:
            stream.send(data)
        except OSError:
            return False
        return True


class Relay:
    """Has the first host's address towards the second, passes all on to a port of the first, and keeps it."""

    ADDRESS = ('ip', 'addr', '{}', f'{Network.ADDRESS["a"]}/32', 'dev', 'lo')

    def __init__(self, port, target):
        self._port, self._target, self.heard, self._stopped = port, target, bytearray(), False

    def __enter__(self):
        self._address('add')
        self._listener = inside('b', self._listen)
        self._thread = threading.Thread(target=inside, args=('a', self._run))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._thread.join()
        self._listener.close()
        self._address('del')

    def _address(self, change):
        subprocess.run(Network.inside('b') + [word.format(change) for word in self.ADDRESS], check=True)

    def _listen(self):
        listener = socket.create_server((Network.ADDRESS['a'], self._port))
        listener.settimeout(0.1)
        return listener

    def _run(self):
        while not self._stopped:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            near.settimeout(None)
            far = socket.create_connection((Network.ADDRESS['a'], self._target), 5)
            for one, two in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, two), daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def _bare(lab):
    """A configuration on the first host alone, no keys anywhere; each host has a folder of its own."""
    text = open(lab.config).read()
    for node in lab.nodes:
        os.mkdir(os.path.join(lab.folder, node.name))
        node.config = os.path.join(lab.folder, node.name, 't.toml')
    with open(lab.a.config, 'w') as file:
        file.write('# by hand\n' + text.replace('security = "none"', f'key-file = "{_key(lab.a)}"'))


def _key(node):
    return os.path.join(node.lab.folder, node.name, f'{node.name}.key')


def _read(node):
    with open(node.config) as file:
        return file.read()


def _join_command(node):
    return node.command('join', '--key-file', _key(node))


def _join(lab, token, check=True, node=None):
    command = _join_command(node or lab.b)
    result = subprocess.run(command, input=token, capture_output=True, text=True, timeout=60)
    assert not check or result.returncode == 0, f'rblk join: exit {result.returncode}: {result.stderr}'
    return result
