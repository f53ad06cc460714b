"""Bad disks, metadata and configurations: a clear error (what, why, what to do), and nothing changed on disk."""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import signal
import struct
import subprocess
import time

import peer
from lab import MIB, Lab, make_disk, until, write_config


def _digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


@contextlib.contextmanager
def _unchanged(*paths):
    before = [_digest(path) for path in paths]
    yield
    for path, digest in zip(paths, before):
        assert _digest(path) == digest, f'{os.path.basename(path)} was changed'


def _refused(result, *words):
    """It failed, and said what, why and what to do."""
    said = result.stderr
    assert result.returncode != 0, f'it went through: {result.stdout}{said}'
    assert result.returncode > 0 and 'panicked' not in said, f'it crashed: {said}'
    for part in ('rblk: ', 'why:', 'do:'):
        assert part in said, f'no "{part}" in: {said}'
    for word in words:
        assert word.lower() in said.lower(), f'no word of "{word}" in: {said}'


def _attach(node, seconds=20):
    """`attach` to its end."""
    return node.rblk('attach', node.resource, '--front', f'nbd=unix:{node.socket}', check=False,
                     seconds=seconds)


def test_disks():
    with Lab() as lab:
        a, disk = lab.a, lab.a.disk
        with _unchanged(disk):
            _refused(_attach(a), 'metadata', 'create')
        os.truncate(disk, 256 << 10)
        with _unchanged(disk):
            _refused(a.rblk('create', 't', check=False), disk)
            _refused(_attach(a), disk)
        os.unlink(disk)
        _refused(a.rblk('create', 't', check=False), disk)
        _refused(_attach(a), disk)
        assert not os.path.exists(disk), 'a missing disk was made'
        os.mkdir(disk)
        _refused(a.rblk('create', 't', check=False), disk)
        _refused(_attach(a), disk)
        os.rmdir(disk)


def test_disk_that_ends_within_a_block():
    """Its last bytes are not used."""
    with Lab() as lab:
        tail = random.randbytes(1000)
        for node in lab.nodes:
            with open(node.disk, 'ab') as disk:
                disk.write(tail)
        client = lab.start()
        assert client.size % 4096 == 0
        client.write(client.size - 4096, bytes([9]) * 4096, fua=True)
        client.close()
        lab.finish()
        for node in lab.nodes:
            with open(node.disk, 'rb') as disk:
                disk.seek(-1000, os.SEEK_END)
                assert disk.read() == tail, f'{node.name}: bytes beyond the last block were changed'


def test_disk_in_use():
    with Lab() as lab:
        lab.start().close()
        second = f'{lab.a.run_dir}-second'
        command = lab.a.command('attach', 't', '--front', f'nbd=unix:{second}/t.nbd')
        command[command.index('--run-dir') + 1] = second
        os.makedirs(second)
        # Both wait for a daemon that may just be ending.
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        _refused(_attach(lab.a), 'running on this node already')
        said, errors = other.communicate(timeout=20)
        _refused(subprocess.CompletedProcess(command, other.returncode, said, errors), 'use', lab.a.disk)
        _refused(lab.a.rblk('create', 't', '--force', check=False), 'use')
        assert lab.a.daemon.running()
        lab.synced()
        lab.finish()


def test_disk_with_a_file_system():
    with Lab() as lab:
        for make in (['mke2fs', '-q', '-F', '-t', 'ext4'], ['mke2fs', '-q', '-F', '-t', 'ext2']):
            make_disk(lab.a.disk, 65 * MIB)
            subprocess.run([*make, lab.a.disk], check=True, timeout=30)
            with _unchanged(lab.a.disk):
                for options in ([], ['--force']):
                    _refused(lab.a.rblk('create', 't', *options, check=False), 'end of it', 'wipefs')
            make_disk(lab.a.disk, 65 * MIB)
            subprocess.run([*make, lab.a.disk, '60M'], check=True, timeout=30)
            with _unchanged(lab.a.disk):
                _refused(lab.a.rblk('create', 't', check=False), 'ext', '--force')
            lab.a.create('--force')
            with _unchanged(lab.a.disk):
                _refused(lab.a.rblk('create', 't', check=False), 'metadata', '--force')


def _superblocks(disk):
    """Offsets of both copies."""
    with open(disk, 'rb') as file:
        data = file.read()
    blocks = range(0, len(data) - 4095, 4096)
    return [at for at in blocks if data[at:at + 8] == b'rblkmeta' and data[at + 10] == 1]


def _edit(disk, offset, change, seal=True):
    """Changes a metadata block; `seal` puts its checksum right."""
    with open(disk, 'r+b') as file:
        file.seek(offset)
        block = bytearray(file.read(4096))
        change(block)
        if seal:
            block[124:128] = bytes(4)
            block[124:128] = struct.pack('<I', peer.crc32c(bytes(block)))
        file.seek(offset)
        file.write(block)


def test_a_disk_that_has_grown():
    with Lab() as lab:
        lab.a.create('--in-sync')
        lab.b.create('--in-sync')
        size = os.path.getsize(lab.a.disk)
        for more in (4 * MIB, 100 * MIB, 3 << 30):
            os.truncate(lab.a.disk, size + more)
            _refused(lab.a.rblk('create', 't', check=False), f'had {size} bytes', '--force')
        # By too little for its metadata to follow: it is used as it was.
        os.truncate(lab.a.disk, size + 64 * 4096)
        lab.b.attach()
        lab.a.attach('--primary')
        lab.synced()
        said = until('it is told', lambda: re.search(r'lvextend -L (\d+)b', lab.a.daemon.words()), 10)
        lab.a.detach()
        os.truncate(lab.a.disk, int(said.group(1)))
        lab.a.attach('--primary')
        lab.synced()


def test_a_disk_that_loses_its_end():
    """It is cut in half below the Secondary: nothing that was there is believed to be."""
    for ends in ('detach', 'kill'):
        with Lab() as lab:
            client = lab.start()
            client.write(0, random.randbytes(MIB))
            client.write(client.size - MIB, random.randbytes(MIB), fua=True)
            size = os.path.getsize(lab.b.disk)
            os.truncate(lab.b.disk, size // 2)
            client.write(8 * MIB, random.randbytes(MIB), fua=True)
            client.write(client.size - 4096, random.randbytes(4096), fua=True)
            (lab.b.detach if ends == 'detach' else lab.b.kill)()
            os.truncate(lab.b.disk, size)
            daemon = lab.b.attach(ready=False)
            until('it serves or is refused', lambda: 'connected' in daemon.words() or not daemon.running(), 20)
            if not daemon.running():
                assert 'has no usable metadata' in daemon.words(), daemon.words()
                lab.b.create('--force')
                lab.b.attach()
            lab.synced()
            lab.compare_running()
            client.close()
            lab.finish()


def test_a_log_that_takes_nothing():
    """The disk below it is full, or nobody reads the pipe: the volume goes on."""
    reader, pipe = os.pipe()
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)
    for out in (open('/dev/full', 'wb'), os.fdopen(pipe, 'wb')):
        with out, Lab() as lab:
            for node in lab.nodes:
                node.create('--in-sync')
            lab.b.attach()
            lab.a.attach('--primary', out=out)
            lab.synced()
            client = lab.a.client()
            for number in range(3):
                lab.b.kill()
                client.write(number * MIB, random.randbytes(MIB), fua=True)
                lab.b.attach()
                lab.synced()
            client.close()
            lab.finish()
    os.close(reader)


def test_metadata_of_somebody_else():
    with Lab() as lab:
        lab.a.create('--in-sync')
        other = os.path.join(lab.folder, 'other.toml')
        write_config(other, 'other', lab.nodes)
        with _unchanged(lab.a.disk):
            lab.a.config = other
            front = f'nbd=unix:{lab.a.socket}'
            _refused(lab.a.rblk('attach', 'other', '--front', front, check=False), 'volume')
            lab.a.config = lab.config
        both = _superblocks(lab.a.disk)
        assert len(both) == 2, f'superblocks at {both}'
        original = open(lab.a.disk, 'rb').read()

        def newer(block):
            struct.pack_into('<H', block, 8, 99)
        for place in both:
            _edit(lab.a.disk, place, newer)
        with _unchanged(lab.a.disk):
            _refused(_attach(lab.a), 'version')
            _refused(lab.a.rblk('create', 't', check=False), '--force')
        with open(lab.a.disk, 'wb') as file:
            file.write(original)
        # The disk of the other node in this one's place.
        lab.b.create('--in-sync')
        with _unchanged(lab.b.disk):
            lab.a.disk, kept = lab.b.disk, lab.a.disk
            swapped = os.path.join(lab.folder, 'swapped.toml')
            lab.b.disk, lab.a.config = kept, swapped
            write_config(swapped, 't', lab.nodes)
            _refused(_attach(lab.a), 'node')
            lab.a.disk, lab.b.disk = lab.b.disk, lab.a.disk


def test_torn_metadata():
    """One torn copy is what a power cut leaves: it must do. Two are no knowledge at all."""
    def tear(block):
        block[2048:] = bytes(random.randbytes(2048))
    for torn in (0, 1):
        with Lab() as lab:
            for node in lab.nodes:
                node.create('--in-sync')
            _edit(lab.a.disk, _superblocks(lab.a.disk)[torn], tear, seal=False)
            lab.b.attach()
            lab.a.attach('--primary')
            lab.synced()
            lab.finish()
    with Lab() as lab:
        lab.a.create('--in-sync')
        for place in _superblocks(lab.a.disk):
            _edit(lab.a.disk, place, tear, seal=False)
        with _unchanged(lab.a.disk):
            _refused(_attach(lab.a), 'metadata')


CONFIGS = [
    # (a line of the good file, what stands there instead, words of the error)
    ('name = "t"', 'name = 5', ['name', ':2']),
    ('name = "t"', 'name = "../t"', ['name', ':2']),
    ('name = "t"', 'naem = "t"', ['naem', ':2']),
    ('name = "t"', 'name = "t', [':2']),
    ('name = "t"', 'name = "t"\npeer-timeout-ms = 1', ['peer-timeout-ms', ':3']),
    ('name = "t"', 'name = "t"\npeer-timeout-ms = -1', ['peer-timeout-ms', ':3']),
    ('name = "t"', 'name = "t"\non-peer-lost = "hope"', ['on-peer-lost', ':3']),
    ('name = "t"', 'name = "t"\npromote-at-start = "yes"', ['promote-at-start', ':3']),
    ('10.77.0.2:7790', '10.77.0.1:7790', ['address']),
    ('10.77.0.2:7790', '10.77.0.2', ['address']),
    ('10.77.0.2:7790', '10.77.0.2:0', ['address']),
    ('name = "beta"', 'name = "alpha"', ['alpha']),
]


def test_configurations():
    with Lab() as lab:
        good = open(lab.config).read()
        for old, new, words in CONFIGS:
            assert old in good
            _try_config(lab, good.replace(old, new, 1).encode(), words)
        with open(lab.config, 'w') as file:
            file.write(good.replace('alpha', 'gamma'))
        _refused(_attach(lab.a), 'alpha', 'gamma', 'beta')
        _try_config(lab, good[:good.rindex('[[node]]')].encode(), ['node'])
        _try_config(lab, (good + good[good.rindex('[[node]]'):].replace('beta', 'gamma')).encode(), ['node'])
        _try_config(lab, b'', ['resource'])
        _try_config(lab, b'\xff\xfe' + good.encode(), [])
        _try_config(lab, b'#' * (2 * MIB), [])
        os.unlink(lab.config)
        _refused(_attach(lab.a), lab.config)
        _refused(lab.a.rblk('create', 't', check=False), lab.config)


def _try_config(lab, text, words):
    with open(lab.config, 'wb') as file:
        file.write(text)
    with _unchanged(lab.a.disk):
        _refused(_attach(lab.a), lab.config, *words)
        _refused(lab.a.rblk('create', 't', check=False), lab.config, *words)


def test_signals_end_it_well():
    """SIGTERM is a detach in good order; a locked run directory is explained."""
    with Lab() as lab:
        lab.start().close()
        lab.a.daemon.signal(signal.SIGTERM)
        assert lab.a.daemon.wait(20) == 0, lab.a.daemon.words()[-1000:]
        lab.b.detach()
        lab.compare()


def test_disk_locked_by_another_program():
    with Lab() as lab:
        lab.a.create()
        with open(lab.a.disk, 'rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _refused(_attach(lab.a), 'use')
