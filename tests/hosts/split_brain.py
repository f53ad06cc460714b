"""A split brain on two real daemons ends as the policies say. Where it ends by itself both disks are equal, and what
the loser had is saved."""

import json
import os
import stat

from lab import MIB, Lab, until

LINES = 'peer-timeout-ms = 1000\n\n[resource.split-brain]\n'
BEFORE, HERE, THERE = bytes([1]), bytes([2]), bytes([3])
LEAST = 'after-0pri = "discard-least-changes"\n'

# Policies, who is Primary when they meet, what `a` and `b` have changed, in MiB, and who loses. `b` was not Primary
# when it went its own way. The policies that are not here have a test of their own.
ENDS = (
    ('after-0pri = "discard-younger-primary"', '', (1, 4), 'b'),
    ('after-0pri = "discard-older-primary"', '', (4, 1), 'a'),
    ('after-0pri = "discard-node-alpha"', '', (4, 1), 'a'),
    ('after-0pri = "discard-node-beta"', '', (1, 4), 'b'),
    (LEAST + 'after-1pri = "consensus"', 'a', (4, 1), 'b'),
    (LEAST + 'after-1pri = "violently-as0p"\nrr-conflict = "violently"', 'a', (1, 4), 'a'),
    (LEAST + 'after-1pri = "discard-secondary"\nafter-2pri = "call-pri-lost-after-sb"', 'ab', (1, 4), 'a'),
)


def test_each_policy_ends_as_its_table_says():
    for policies, primaries, (here, there), loses in ENDS:
        print(f'      {policies!r}, Primary: {primaries or "nobody"}')
        with _lab(policies) as lab:
            _split(lab, here, there, demote='b' not in primaries)
            if 'a' not in primaries:
                lab.a.rblk('demote', 't')
            winner, left = (lab.b, (0, there)) if loses == 'a' else (lab.a, (here, 0))
            _ends(lab, winner, *left, lost=(here, there), seconds=90)


def test_two_primaries_wait_until_one_is_demoted():
    with _lab(LEAST + 'after-1pri = "violently-as0p"\nafter-2pri = "violently-as0p"') as lab:
        _split(lab, here=1, there=4, demote=False)
        lab.network.heal()
        until('it is refused', lambda: 'demote' in lab.b.rblk('status', 't').stdout, 30)
        lab.b.rblk('demote', 't')
        until('the Primary is in the way', lambda: 'this side is Primary' in lab.a.rblk('status', 't').stdout, 30)
        lab.a.rblk('demote', 't')
        _ends(lab, winner=lab.b, here=0, there=4, lost=(1, 4))


def test_consensus_leaves_it_to_an_operator_if_the_primary_would_lose():
    with _lab(LEAST + 'after-1pri = "consensus"') as lab:
        _split(lab, here=1, there=4)
        lab.network.heal()
        lab.a.stands_alone()
        assert lab.a.status()['role'] == 'Primary'


def test_disconnect_keeps_both():
    with _lab('after-0pri = "disconnect"') as lab:
        _split(lab, here=1, there=1)
        lab.a.rblk('demote', 't')
        before = [node.generation() for node in lab.nodes]
        lab.network.heal()
        for node in lab.nodes:
            node.stands_alone()
        assert [node.generation() for node in lab.nodes] == before
        _expect(lab.a, here=1, there=0)
        _expect(lab.b, here=0, there=1)


def test_zero_changes_lose_nothing():
    with _lab('after-0pri = "discard-zero-changes"') as lab:
        _split(lab, here=1, there=0)
        lab.a.rblk('demote', 't')
        _ends(lab, winner=lab.a, here=1, there=0)


def test_zero_changes_decide_nothing_if_both_wrote():
    with _lab('after-0pri = "discard-zero-changes"') as lab:
        _split(lab, here=1, there=1)
        lab.a.rblk('demote', 't')
        lab.network.heal()
        lab.a.stands_alone()


def test_least_changes_lose():
    for here, there in ((4, 1), (1, 4)):
        with _lab('after-0pri = "discard-least-changes"') as lab:
            _split(lab, here, there)
            lab.a.rblk('demote', 't')
            if here > there:
                _ends(lab, winner=lab.a, here=here, there=0, lost=(here, there))
            else:
                _ends(lab, winner=lab.b, here=0, there=there, lost=(here, there))


def test_the_secondary_loses():
    with _lab('after-1pri = "discard-secondary"') as lab:
        _split(lab, here=1, there=4)
        _ends(lab, winner=lab.a, here=1, there=0, lost=(1, 4))


def test_a_primary_that_loses_steps_down_and_a_command_is_told():
    with _lab('after-0pri = "discard-least-changes"\nafter-1pri = "call-pri-lost-after-sb"',
              handler='pri-lost-after-sb') as lab:
        client = _split(lab, here=1, there=4, close=False)
        lab.network.heal()
        until('the command has run', lambda: os.path.exists(_told(lab)), 30)
        assert lab.a.status()['role'] == 'Primary', 'its device is in use'
        client.close()
        _ends(lab, winner=lab.b, here=0, there=4, lost=(1, 4), seconds=90)


def test_different_policies_are_refused_in_words():
    with _lab('after-0pri = "discard-zero-changes"') as lab:
        lab.start().close()
        lab.b.detach()
        with open(lab.config) as file:
            text = file.read()
        with open(lab.config, 'w') as file:
            file.write(text.replace('discard-zero-changes', 'discard-least-changes'))
        lab.b.attach()
        until('it is told', lambda: 'different policies' in lab.b.rblk('status', 't').stdout, 20)
        assert 'rblk config t' in lab.a.rblk('status', 't').stdout


def _lab(policies, handler=None):
    lab = Lab(mib=64, resource=f'{LINES}{policies}\n')
    with open(lab.config, 'a') as file:
        file.write(f'\n[salvage]\ndirectory = "{lab.folder}/kept"\n')
    if handler:
        script = os.path.join(lab.folder, 'handler')
        with open(script, 'w') as file:
            file.write(f'#!/bin/sh\necho "$DRBD_RESOURCE" > {_told(lab)}\n')
        os.chmod(script, stat.S_IRWXU)
        with open(lab.config, 'a') as file:
            file.write(f'\n[handlers]\n{handler} = "{script}"\n')
    return lab


def _told(lab):
    return os.path.join(lab.folder, 'told')


def _split(lab, here, there, close=True, demote=True):
    """`a` goes on and writes, `b` is made Primary by force beside it, writes, and is Secondary again. In MiB."""
    client = lab.start()
    client.write(0, BEFORE * 16 * MIB)
    client.flush()
    lab.network.cut()
    client.write(0, HERE * here * MIB)
    until('the loss is noticed', lambda: lab.b.connection() == 'Connecting', 10)
    lab.b.rblk('promote', 't', '--force')
    other = lab.b.client()
    if there:
        other.write(8 * MIB, THERE * there * MIB)
    other.close()
    if demote:
        lab.b.rblk('demote', 't')
    if close:
        client.close()
    return client


def _ends(lab, winner, here, there, lost=None, seconds=60):
    """After the cable is back the winner's data is the volume, byte by byte on both, and the other's is saved."""
    lab.network.heal()
    lab.synced(seconds)
    loser = lab.b if winner is lab.a else lab.a
    for node in (winner, loser):
        _expect(node, here, there)
    lab.finish()
    if lost:
        _saved(lab, loser, *((0, HERE * lost[0] * MIB) if loser is lab.a else (8 * MIB, THERE * lost[1] * MIB)))


def _saved(lab, loser, offset, expected):
    """The set that the loser has kept is what it had, and no more."""
    sets = json.loads(loser.rblk('salvage', 'list', 't', '--json', '--extents').stdout)
    assert [(found['node'], found['extents']) for found in sets] == [(loser.name, [[offset, len(expected)]])], sets
    image = os.path.join(lab.folder, 'image')
    loser.rblk('salvage', 'export', 't', sets[0]['set'], '--output', image)
    with open(image, 'rb') as file:
        file.seek(offset)
        assert file.read(len(expected)) == expected


def _expect(node, here, there):
    # One that has just seen the other as Primary waits a moment.
    until('it is Primary', lambda: node.rblk('promote', 't', check=False).returncode == 0, 10)
    client = node.client()
    assert client.read(0, 4 * MIB) == HERE * here * MIB + BEFORE * (4 - here) * MIB
    assert client.read(8 * MIB, 4 * MIB) == THERE * there * MIB + BEFORE * (4 - there) * MIB
    client.close()
    node.rblk('demote', 't')
