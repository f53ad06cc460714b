"""What a Primary does without its peer: `on-peer-lost` and `ride-through-s`, on real daemons and a cut cable."""

import threading
import time

from lab import MIB, Lab, until

TIMEOUT = 'peer-timeout-ms = 1000\n'


class Writer:
    """One write in a thread of its own: held until somebody lets it through."""

    def __init__(self, client, fill):
        self.began = time.monotonic()
        self.held = None
        self.error = None
        self._thread = threading.Thread(target=self._run, args=(client, fill), daemon=True)
        self._thread.start()

    def _run(self, client, fill):
        try:
            client.write(MIB, bytes([fill]) * MIB)
        except OSError as error:
            self.error = error
        self.held = time.monotonic() - self.began

    def is_held(self):
        return self._thread.is_alive()

    def wait(self, seconds):
        self._thread.join(seconds)
        assert not self.is_held(), f'held for more than {seconds} s'
        return self.held


def _current(node):
    return node.status()['rblk']['generation']['current']


def test_a_suspended_volume_waits_for_its_peer():
    with Lab(mib=64, resource=TIMEOUT + 'on-peer-lost = "suspend"') as lab:
        client = lab.start()
        before = _current(lab.a)
        lab.network.cut()
        writer = Writer(client, 1)
        until('it says that writes wait', lambda: lab.a.status()['suspended-fencing'], 10)
        why = lab.a.status()['rblk']['why']['suspended']
        assert any('rblk promote t --force' in text for text in why), why
        assert 'writes wait: ' in lab.a.rblk('status', 't').stdout
        time.sleep(5)
        assert writer.is_held(), 'it went on alone'
        assert client_reads(lab), 'reads wait, too'
        lab.network.heal()
        print(f'      held for {writer.wait(20):.2f} s, until the cable was back')
        assert writer.error is None
        lab.synced()
        assert _current(lab.a) == before, 'a cut without a completion left a trace'
        client.close()
        lab.finish()


def client_reads(lab):
    reader = lab.a.client()
    try:
        return reader.read(8 * MIB, 4096) == bytes(4096)
    finally:
        reader.close()


def test_an_operator_lets_it_go_on():
    with Lab(mib=64, resource=TIMEOUT + 'on-peer-lost = "suspend"') as lab:
        client = lab.start()
        before = _current(lab.a)
        lab.b.kill()
        writer = Writer(client, 2)
        until('it says that writes wait', lambda: lab.a.status()['suspended-fencing'], 10)
        lab.a.rblk('promote', 't', '--force')
        writer.wait(5)
        assert writer.error is None
        assert _current(lab.a) != before, 'going on alone is on record'
        assert not lab.a.status()['suspended']
        lab.b.attach()
        lab.synced()
        assert client.read(MIB, MIB) == bytes([2]) * MIB
        client.close()
        lab.finish()


def test_only_the_preferred_node_goes_on():
    for preferred in ('alpha', 'beta'):
        with Lab(mib=64, resource=TIMEOUT + f'on-peer-lost = "prefer"\nprefer = "{preferred}"') as lab:
            client = lab.start()
            lab.network.cut()
            writer = Writer(client, 3)
            if preferred == 'alpha':
                print(f'      the preferred node went on after {writer.wait(10):.2f} s')
            else:
                time.sleep(6)
                assert writer.is_held(), 'the other one went on'
            lab.network.heal()
            writer.wait(20)
            assert writer.error is None
            lab.synced()
            client.close()
            lab.finish()


def test_a_short_cut_is_ridden_through():
    with Lab(mib=64, resource=TIMEOUT + 'ride-through-s = 8') as lab:
        client = lab.start()
        before = _current(lab.a)
        lab.network.cut()
        writer = Writer(client, 4)
        time.sleep(4)
        assert writer.is_held()
        lab.network.heal()
        writer.wait(20)
        lab.synced()
        assert _current(lab.a) == before, 'a cut shorter than ride-through-s left a trace'
        lab.network.cut()
        long = Writer(client, 5)
        held = long.wait(30)
        print(f'      ridden through for {held:.2f} s, then on alone')
        assert held >= 7.4 and _current(lab.a) != before
        lab.network.heal()
        lab.synced()
        client.close()
        lab.finish()
