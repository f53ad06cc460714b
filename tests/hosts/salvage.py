"""What a split brain's loser wrote is saved before it is overwritten, byte by byte; what cannot be saved is kept."""

import json
import os
import stat
import subprocess

from lab import MIB, Lab, until

TIMEOUT = 'peer-timeout-ms = 1000\n'
BEFORE, HERE, THERE = bytes([1]), bytes([2]), bytes([3])


def test_what_an_operator_discards_is_saved():
    with _lab() as lab:
        client = _split(lab)
        lost = lab.b.generation()
        _both_stand_alone(lab)
        events = lab.b.watch()
        _give_up(lab.b, lab.a)
        lab.synced()
        client.close()
        salvage = lab.b.status()['rblk']['salvage']
        assert salvage['state'] == 'saved' and salvage['done-bytes'] == 4 * MIB, salvage
        _saved(lab, lab.b, lost, salvage['set'])
        assert lab.a.status()['rblk']['salvage']['state'] == 'idle'
        until('the events tell', lambda: 'salvage:saved' in events.readline(), 10)
        lab.finish()
        _reads_back(lab, lab.b)


def test_what_a_policy_discards_is_saved():
    with _lab('after-0pri = "discard-least-changes"') as lab:
        _split(lab).close()
        lost = lab.b.generation()
        lab.a.rblk('demote', 't')
        lab.network.heal()
        lab.synced()
        _saved(lab, lab.b, lost)
        lab.finish()
        _reads_back(lab, lab.b)


def test_what_does_not_fit_is_kept_on_both_nodes_until_there_is_room():
    with _lab(maximum='3M') as lab:
        client = _split(lab)
        _both_stand_alone(lab)
        before = [node.generation() for node in lab.nodes]
        _give_up(lab.b, lab.a)
        _stands_alone_unsaved(lab.b)
        assert lab.b.connection() == 'StandAlone'
        said = _status(lab.b)
        for part in ('`max` in [salvage] allows 3.0 MiB', 'it takes 4.0 MiB', '--no-salvage'):
            assert part in said, f'{part} in {said}'
        explained = lab.b.rblk('explain', 't').stdout
        for command in ('rblk salvage list t', 'rblk connect t --discard-my-data'):
            assert f'\n  {command}\n' in f'{explained}\n', explained
        exists = next(line for line in lab.b.watch() if ' connection ' in line)
        assert 'connection:StandAlone' in exists and 'salvage:failed' in exists, exists
        assert [node.generation() for node in lab.nodes] == before
        assert _bytes(lab.b.disk, 8 * MIB, 4 * MIB) == THERE * 4 * MIB
        assert _bytes(lab.a.disk, 0, 8 * MIB) == HERE * 8 * MIB
        assert client.read(0, 8 * MIB) == HERE * 8 * MIB, 'and the other goes on'
        assert _sets(lab.b) == [] and _leftovers(lab) == []
        # More room, and the order again.
        lab.b.detach()
        _replace(lab.config, 'max = "3M"', 'max = "5M"')
        lab.b.attach()
        lab.b.stands_alone(20)
        _give_up(lab.b, lab.a)
        lab.synced()
        client.close()
        _saved(lab, lab.b, before[1])
        lab.finish()
        _reads_back(lab, lab.b)


def test_an_operator_goes_on_without_saving_once():
    with _lab(maximum='3M') as lab:
        client = _split(lab)
        _both_stand_alone(lab)
        _give_up(lab.b, lab.a)
        _stands_alone_unsaved(lab.b)
        lab.b.rblk('connect', 't', '--discard-my-data', '--no-salvage')
        lab.synced()
        assert _sets(lab.b) == []
        client.close()
        lab.finish()


def test_a_handler_is_asked_after_saving_and_may_say_no():
    with _lab() as lab:
        with open(lab.config, 'a') as file:
            command = f'ls {lab.folder}/kept/t > {lab.folder}/seen; exit 1'
            file.write(f"\n[handlers]\nbefore-resync-target = '{command}'\n")
        client = _split(lab)
        lost = lab.b.generation()
        _both_stand_alone(lab)
        _give_up(lab.b, lab.a)
        until('it says no', lambda: 'before-resync-target did not allow' in _status(lab.b), 20)
        _saved(lab, lab.b, lost)
        with open(f'{lab.folder}/seen') as seen:
            assert seen.read().split() == [_sets(lab.b)[0]['set']], 'it was saved before'
        assert lab.b.generation() == lost
        client.close()


def test_a_daemon_that_is_killed_while_it_saves_leaves_no_half_set():
    with _lab() as lab:
        client = _split(lab)
        lost = lab.b.generation()
        _both_stand_alone(lab)
        partial = os.path.join(lab.folder, 'kept', 't', '.beta.partial')
        _give_up(lab.b, lab.a)
        # A small set is whole within milliseconds: sometimes the kill comes in time, and it ends well each time.
        until('it begins', lambda: os.path.exists(partial) or _sets(lab.b), 20, pause=0.001)
        lab.b.kill()
        for found in _sets(lab.b):
            assert found['generation'] == lost and 'damage' not in found
        os.makedirs(partial, exist_ok=True)
        lab.b.attach()
        if lab.b.generation() == lost:
            lab.b.stands_alone(20)
            _give_up(lab.b, lab.a)
        lab.synced()
        client.close()
        _saved(lab, lab.b, lost)
        lab.finish()
        _reads_back(lab, lab.b)


def test_a_full_file_system_keeps_the_data():
    for options, why in (('size=20M', 'and the file system of'), ('size=64M,nr_inodes=3', 'its file system is full')):
        with _lab() as lab:
            kept = os.path.join(lab.folder, 'kept')
            os.mkdir(kept)
            subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'kept', kept], check=True)
            try:
                client = _split(lab)
                lost = lab.b.generation()
                _both_stand_alone(lab)
                _give_up(lab.b, lab.a)
                _stands_alone_unsaved(lab.b)
                assert why in _status(lab.b), _status(lab.b)
                assert lab.b.generation() == lost
                assert _bytes(lab.b.disk, 8 * MIB, 4 * MIB) == THERE * 4 * MIB
                assert _sets(lab.b) == [] and _leftovers(lab) == []
                client.close()
                for node in lab.nodes:
                    node.kill()
            finally:
                subprocess.run(['umount', kept], check=True)


def test_a_place_that_cannot_be_used_is_told_and_nothing_is_lost():
    with _lab() as lab:
        with open(os.path.join(lab.folder, 'kept'), 'w') as file:
            file.write('in the way')
        client = _split(lab)
        lost = lab.b.generation()
        assert 'cannot save what a resync discards' in _status(lab.b)
        _both_stand_alone(lab)
        _give_up(lab.b, lab.a)
        _stands_alone_unsaved(lab.b)
        assert lab.b.generation() == lost
        client.close()


def test_a_node_that_is_behind_is_not_saved():
    with _lab() as lab:
        client = lab.start()
        lab.network.cut()
        client.write(0, HERE * 4 * MIB)
        lab.network.heal()
        lab.synced()
        client.close()
        assert [node.status()['rblk']['salvage']['state'] for node in lab.nodes] == ['idle'] * 2
        assert _sets(lab.b) == []
        lab.finish()


def _lab(policies='', maximum='1G'):
    table = f'\n[resource.split-brain]\n{policies}\n' if policies else ''
    lab = Lab(mib=64, resource=TIMEOUT + table)
    with open(lab.config, 'a') as file:
        file.write(f'\n[salvage]\ndirectory = "{lab.folder}/kept"\nmax = "{maximum}"\n')
    return lab


def _split(lab):
    """`a` is Primary and wrote 8 MiB; `b` was, wrote 4 MiB elsewhere, and is Secondary."""
    client = lab.start()
    client.write(0, BEFORE * 16 * MIB)
    client.flush()
    lab.network.cut()
    client.write(0, HERE * 8 * MIB)
    until('the loss is noticed', lambda: lab.b.connection() == 'Connecting', 10)
    lab.b.rblk('promote', 't', '--force')
    other = lab.b.client()
    other.write(8 * MIB, THERE * 4 * MIB)
    other.close()
    lab.b.rblk('demote', 't')
    return client


def _both_stand_alone(lab):
    lab.network.heal()
    for node in lab.nodes:
        node.stands_alone()


def _stands_alone_unsaved(node):
    until('it stands alone', lambda: 'could not be saved' in _status(node), 20)


def _give_up(loser, winner):
    loser.rblk('connect', 't', '--discard-my-data')
    winner.rblk('connect', 't')


def _saved(lab, node, lost, name=None):
    """One set, whole, of what `node` had."""
    found = _sets(node)
    assert len(found) == 1, found
    found = found[0]
    assert name in (None, found['set']), found
    assert (found['generation'], found['node'], found['bytes']) == (lost, node.name, 4 * MIB), found
    assert found['extents'] == [[8 * MIB, 4 * MIB]], found
    assert _leftovers(lab) == []
    assert stat.S_IMODE(os.stat(found['path']).st_mode) == 0o700
    text = node.rblk('salvage', 'list', 't').stdout
    assert found['set'] in text and lost in text and '4.0 MiB in 1024 blocks' in text, text


def _reads_back(lab, node):
    """Without a daemon: what the loser had, and holes elsewhere."""
    image = os.path.join(lab.folder, 'image')
    name = _sets(node)[0]['set']
    node.rblk('salvage', 'export', 't', name, '--output', image)
    size = os.path.getsize(image)
    assert size == lab.data_bytes(), size
    assert _bytes(image, 0, size) == bytes(8 * MIB) + THERE * 4 * MIB + bytes(size - 12 * MIB)
    assert os.stat(image).st_blocks * 512 < 6 * MIB, 'it is sparse'
    again = node.rblk('salvage', 'export', 't', name, '--output', image, check=False)
    assert again.returncode == 1 and '--force' in again.stderr, again.stderr
    refused = node.rblk('salvage', 'delete', 't', name, check=False)
    assert refused.returncode == 1 and 'exist nowhere else' in refused.stderr, refused.stderr
    node.rblk('salvage', 'delete', 't', name, '--force')
    assert _sets(node) == [] and _leftovers(lab) == []


def _sets(node):
    return json.loads(node.rblk('salvage', 'list', 't', '--json', '--extents').stdout)


def _leftovers(lab):
    folder = os.path.join(lab.folder, 'kept', 't')
    return [name for name in os.listdir(folder) if name.startswith('.')]


def _bytes(path, offset, length):
    with open(path, 'rb') as file:
        file.seek(offset)
        return file.read(length)


def _replace(path, old, new):
    with open(path) as file:
        text = file.read()
    assert old in text
    with open(path, 'w') as file:
        file.write(text.replace(old, new))


def _status(node):
    return node.rblk('status', 't').stdout
