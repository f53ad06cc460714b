"""Bad peers: garbage, foreign and damaged frames, other volumes and sizes. Each is refused and explained, nothing
is changed on disk, the daemon lives on and takes its real peer back.

`a` dials and `b` listens, so a stranger meets `a` by sitting at `b`'s address, and `b` by dialling it.
"""

import os
import random

import peer
from lab import MIB, PORT, Lab, Network, make_disk, until, write_config


def _dialler_alone(lab):
    """`a` as Primary with nobody at `b`'s address; a client of it."""
    client = lab.start()
    lab.b.detach()
    return client


def _listener_alone(lab):
    """`b` as Primary without `a`; a client of it, and the Hello that `a` would say."""
    for node in lab.nodes:
        node.create('--in-sync')
    lab.a.attach()
    with peer.Stranger('b') as stranger:
        stream, hello = stranger.meet()
        stream.close()
    lab.primary = lab.b
    lab.b.attach('--primary')
    lab.synced()
    client = lab.b.client()
    lab.a.detach()
    return client, hello


def _lives_on(lab, client):
    """Serves its client, and takes its real peer back."""
    client.write(0, bytes([3]) * 4096, fua=True)
    assert client.read(0, 4096) == bytes([3]) * 4096
    (lab.b if lab.primary is lab.a else lab.a).attach()
    lab.synced()
    client.close()
    lab.finish()


def _garbage(hello):
    """What no peer says, made from what one would."""
    ping = peer.with_field(peer.sealed(b'rblk' + bytes(60)), 4, 1, 27)
    return {
        'noise': random.randbytes(4096),
        'a web browser': b'GET / HTTP/1.1\r\nHost: x\r\n\r\n' * 8,
        'zeroes': bytes(4096),
        'an unknown type': peer.with_field(hello, 4, 1, 200),
        'a wrong checksum': hello[:40] + bytes([hello[40] ^ 1]) + hello[41:],
        'a huge payload': peer.with_payload_bytes(hello, 0xffffffff),
        'a huge extension': peer.with_extension_bytes(hello, 0xffffffff),
        'a damaged extension': hello[:-1] + bytes([hello[-1] ^ 1]),
        'no greeting': ping,
        'a write before the handshake': peer.with_field(ping, 4, 1, 9),
        'two greetings': hello + hello,
        'half a header': hello[:32],
        'half a greeting': hello[:-1],
        'a greeting, then silence': hello,
        'a greeting, then half a header': hello + hello[:63],
        'a greeting, then noise': hello + random.randbytes(4096),
    }


def test_garbage_on_the_port():
    with Lab() as lab:
        client, hello = _listener_alone(lab)
        generation = lab.b.generation()
        with peer.Stranger('a') as stranger:
            for name, message in _garbage(hello).items():
                answer = stranger.send(message, 15)
                assert answer is not None, f'{name}: the connection stays open'
                assert lab.b.daemon.running(), f'{name}: the daemon is gone'
            for length in [1, 4, 63, 64, 65, len(hello) - 1]:
                with until('the node accepts', stranger.dial, 15) as stream:
                    stream.sendall(hello[:length])
            client.write(0, bytes([4]) * 4096)
        assert lab.b.daemon.memory()['most'] < 96 * MIB
        assert lab.b.status()['rblk']['generation']['base'] == generation, 'more than one divergence'
        _lives_on(lab, client)


def test_silent_strangers_do_not_keep_the_peer_out():
    with Lab() as lab:
        client, _ = _listener_alone(lab)
        with peer.Stranger('a') as stranger:
            for _ in range(3):
                silent = [stream for stream in (stranger.dial() for _ in range(50)) if stream]
                lab.a.attach()
                lab.a.wait('connected', 4)
                lab.a.kill()
                for stream in silent:
                    stream.close()
        assert lab.b.daemon.memory()['most'] < 96 * MIB
        _lives_on(lab, client)


def test_garbage_from_who_is_dialled():
    with Lab() as lab:
        client = _dialler_alone(lab)
        generation = lab.a.generation()
        with peer.Stranger('b') as stranger:
            stream, hello = stranger.meet()
            stream.close()
            hello = peer.with_extension(hello, 46, 1, 1)
            for name, message in _garbage(hello).items():
                stream, _ = stranger.meet()
                with stream:
                    answer = peer.exchange(stream, message, 15)
                assert answer is not None, f'{name}: the connection stays open'
                assert lab.a.daemon.running(), f'{name}: the daemon is gone'
        assert lab.a.generation() == generation, 'a new generation without a write'
        _lives_on(lab, client)


def _at(offset, size, value):
    return lambda hello: peer.with_extension(hello, offset, size, value)


# What a Hello claims, and the words of `status` about it; none where it is no frame that could be answered.
FOREIGN = {
    'version': (lambda hello: peer.with_versions(hello, 98, 99), 'version'),
    'volume': (_at(0, 16, 12345), 'different volumes'),
    'node': (_at(46, 1, 1), 'not the node'),
    'size': (_at(16, 8, 2048), 'smaller'),
    'no credits': (_at(40, 2, 0), ''),
    'no payload': (_at(36, 4, 0), ''),
    'odd blocks': (_at(32, 4, 1000), ''),
    'no size at all': (_at(16, 8, 0), ''),
    'all sizes at once': (_at(16, 8, (1 << 64) - 1), ''),
}


def test_foreign_peers():
    """Another protocol version, volume, node, size, or limits of nonsense: refused and explained."""
    with Lab() as lab:
        client, hello = _listener_alone(lab)
        generation = lab.b.generation()
        with peer.Stranger('a') as stranger:
            for name, (forge, words) in FOREIGN.items():
                answer = stranger.send(forge(hello), 15)
                assert answer is not None, f'{name}: the connection stays open'
                assert lab.b.daemon.running(), f'{name}: the daemon is gone'
                _expect_refusal(lab.b, name, answer, words)
        assert lab.b.generation() == generation
        _lives_on(lab, client)


def test_foreign_peer_is_dialled():
    with Lab() as lab:
        client = _dialler_alone(lab)
        with peer.Stranger('b') as stranger:
            stream, hello = stranger.meet()
            hello = peer.with_extension(hello, 46, 1, 1)
            forge, words = FOREIGN['version']
            with stream:
                answer = peer.exchange(stream, forge(hello), 15)
            _expect_refusal(lab.a, 'version', answer, words)
        _lives_on(lab, client)


def _expect_refusal(node, name, answer, words):
    status = node.status()
    assert status['connections'][0]['connection-state'] != 'Connected', f'{name}: accepted'
    why = ' '.join(status['rblk']['why']['not-connected'])
    assert words in why, f'{name}: status does not say why: {why}'
    if name == 'version':
        refused = [answer[at + 4:at + 6] for at in range(0, len(answer)) if answer[at:at + 4] == peer.MAGIC]
        expected = bytes([peer.REFUSE, peer.REFUSED_PROTOCOL])
        assert expected in refused, f'no refusal that every version reads: {answer.hex()}'


def test_daemon_of_another_resource():
    """Two real daemons whose configurations name different resources."""
    with Lab() as lab:
        client = _dialler_alone(lab)
        other = os.path.join(lab.folder, 'other.toml')
        write_config(other, 'other', lab.nodes)
        make_disk(lab.b.disk + '.kept', 0)
        os.replace(lab.b.disk, lab.b.disk + '.kept')
        make_disk(lab.b.disk, 65 * MIB)
        lab.b.config, lab.b.resource = other, 'other'
        lab.b.create()
        lab.b.attach()
        _expect_refused(lab, 'different volumes')
        lab.b.detach()
        os.replace(lab.b.disk + '.kept', lab.b.disk)
        lab.b.config, lab.b.resource = lab.config, 't'
        _lives_on(lab, client)


def _expect_refused(lab, words):
    """Both nodes say why they are not connected."""
    for node in lab.nodes:
        until(f'{node.name} says "{words}"',
              lambda: words in ' '.join(node.status()['rblk']['why']['not-connected']), 15)
        assert node.status()['connections'][0]['connection-state'] != 'Connected'


def test_smaller_disk_of_the_peer():
    """The size in use is agreed: a smaller disk in the peer's place is refused, not shrunk to."""
    with Lab() as lab:
        client = _dialler_alone(lab)
        size = client.size
        os.replace(lab.b.disk, lab.b.disk + '.kept')
        make_disk(lab.b.disk, 32 * MIB)
        lab.b.create()
        lab.b.attach()
        _expect_refused(lab, 'smaller')
        assert client.size == size
        client.write(size - 4096, bytes([5]) * 4096, fua=True)
        lab.b.detach()
        os.replace(lab.b.disk + '.kept', lab.b.disk)
        _lives_on(lab, client)


def test_flipped_bits_between_the_nodes():
    """A bit that flips on the wire ends the connection and never reaches a disk."""
    with Lab() as lab:
        for node in lab.nodes:
            node.create('--in-sync')
        proxy = peer.Flipper('a', PORT + 1, (Network.ADDRESS['b'], PORT), 3 * MIB)
        through = os.path.join(lab.folder, 'through.toml')
        text = open(lab.config).read().replace('10.77.0.2:7790', f'10.77.0.1:{PORT + 1}')
        with open(through, 'w') as file:
            file.write(text)
        lab.a.config = through
        # One way of connecting is left: through the proxy.
        back = os.path.join(lab.folder, 'back.toml')
        with open(back, 'w') as file:
            file.write(open(lab.config).read().replace('10.77.0.1:7790', '10.77.0.1:9'))
        lab.b.config = back
        lab.b.attach()
        lab.a.attach('--primary')
        lab.synced()
        client = lab.a.client()
        checker = proxy.load_through(lab, client)
        client.close()
        lab.finish(checker)
