"""Daemons are killed, paused, cut off, stopped and switched at random, again and again, under load. After each
cycle both nodes are connected and in sync, both disks are equal byte by byte, and no acknowledged write is missing.

RBLK_KILL_CYCLES says how many cycles (default 20). A failure prints what was done, and where logs, metadata and disks
are kept (RBLK_KEEP, default: the folder of temporary files).
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import traceback

from checker import Checker, Load
from lab import MIB, Lab, until

CYCLES = int(os.environ.get('RBLK_KILL_CYCLES', '20'))
VOLUME_MIB = 24
SETTINGS = 'peer-timeout-ms = 600'
# After the last fault everything must be well again within this time.
HEAL_S = 40


def test_nothing_acknowledged_is_lost():
    with Lab(mib=VOLUME_MIB, resource=SETTINGS) as lab:
        loop = Loop(lab)
        try:
            loop.run(CYCLES)
        except BaseException:
            loop.keep()
            raise


class Loop:
    """The two nodes, who is Primary, and what its clients know."""

    def __init__(self, lab):
        self.lab = lab
        self.client = lab.start()
        self.bereft = False  # the daemon that serves the client was killed
        self.checker = Checker(self.client.size)
        self.load = None
        self.history = []
        self.counts = {}

    def run(self, cycles):
        """All cycles, then the last look at both disks."""
        begun = time.monotonic()
        for cycle in range(cycles):
            self.note(f'--- cycle {cycle}: {self.primary.name} is Primary')
            self.cycle()
        took = time.monotonic() - begun
        self.client.close()
        self.lab.finish(self.checker)
        kinds = ', '.join(f'{kind} {count}' for kind, count in sorted(self.counts.items()))
        print(f'      {cycles} cycles in {took:.0f} s ({took / max(1, cycles):.1f} s each): {kinds}')

    @property
    def primary(self):
        """The node whose device is used."""
        return self.lab.primary

    @property
    def secondary(self):
        """The other one."""
        return self.other(self.primary)

    def other(self, node):
        """The peer of `node`."""
        return self.lab.b if node is self.lab.a else self.lab.a

    def note(self, text):
        """A line of what was done, for who reads a failure."""
        self.history.append(f'{time.monotonic():.3f} {text}')

    def cycle(self):
        """Load, one to three faults, healing, checks."""
        seed = random.getrandbits(32)
        largest = random.choice([4 << 10, 16 << 10, 128 << 10])
        depth = random.choice([1, 8, 32])
        self.load = Load(self.client, self.checker, seed, depth=depth, largest=largest, rate=3000).start()
        time.sleep(random.uniform(0.02, 0.5))
        for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
            name = random.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])[0]
            self.counts[name] = self.counts.get(name, 0) + 1
            self.note(name)
            FAULTS[name][1](self)
            time.sleep(random.choice([0, random.uniform(0, 0.2), random.uniform(0, 1.0)]))
        self.heal()
        self.look()

    # Faults. Each leaves the world in any state; `heal` mends it.

    def kill(self, *nodes):
        """SIGKILL to all of `nodes` at once."""
        # The client itself is told late: the kernel lets go of a dead ring, and of its sockets, in its own time.
        self.bereft |= self.primary in nodes
        for node in nodes:
            node.daemon.signal(signal.SIGKILL)
        for node in nodes:
            node.daemon.kill()

    def kill_and_return(self, node):
        """Killed, started, and perhaps killed again before it is in sync."""
        self.kill(node)
        for _ in range(random.choice([0, 1, 2])):
            self.attach(node)
            time.sleep(random.uniform(0, 0.8))
            self.kill(node)
        self.attach(node)

    def pause(self, node):
        """Stands still for less or more than the peer's patience."""
        if node.daemon.running():
            node.pause()
            time.sleep(random.choice([random.uniform(0.05, 0.5), random.uniform(0.5, 2.0)]))
            node.resume()

    def cut(self):
        """The link is gone, in both directions or one, without a word."""
        network = self.lab.network
        network.heal()  # a link that is cut still cannot be cut in one direction
        cut = random.choice([network.cut, lambda: network.cut_towards('a'), lambda: network.cut_towards('b')])
        cut()
        time.sleep(random.choice([random.uniform(0.05, 0.6), random.uniform(0.6, 2.0)]))
        if random.random() < 0.7:
            network.heal()

    def terminate(self, node):
        """SIGTERM: leaves in good order, if it can. What does not end within a moment is killed."""
        node.daemon.signal(signal.SIGTERM)
        time.sleep(random.uniform(0, 0.4))
        self.kill(node)

    def switch(self):
        """The roles are exchanged; something may be killed on the way."""
        if not (self.primary.daemon.running() and self.secondary.daemon.running()):
            return
        self.stop_load()
        self.client.close()
        old, new = self.primary, self.secondary
        demote = self.start_verb(old, 'demote')
        if random.random() < 0.3:
            time.sleep(random.uniform(0, 0.05))
            self.kill(random.choice([old, new]))
        demote.wait(60)
        promote = self.start_verb(new, 'promote') if new.daemon.running() else None
        if promote and random.random() < 0.3:
            time.sleep(random.uniform(0, 0.05))
            self.kill(random.choice([old, new]))
        promoted = promote is not None and promote.wait(60) == 0
        self.note(f'demote {demote.returncode}, promote {promote.returncode if promote else "-"}')
        if promoted:
            self.lab.primary = new

    def take_over(self):
        """The Primary dies and the survivor is made Primary by force: where the dead one had not gone on alone, that
        loses nothing that was acknowledged."""
        old, new = self.primary, self.secondary
        if not (old.daemon.running() and new.daemon.running()):
            return
        self.kill(old)
        found = old.metadata()['superblock']
        state = new.status()
        disk = state['devices'][0]['disk-state']
        if found is None or found['peer-outdated'] or disk not in ('UpToDate', 'Consistent'):
            return
        self.stop_load()
        result = new.rblk('promote', new.resource, '--force', check=False)
        self.note(f'{old.name} is dead, {new.name} is promoted by force: {result.returncode}')
        if result.returncode == 0:
            self.lab.primary = new

    # Healing.

    def attach(self, node):
        """Starts the daemon of a node that is down."""
        if not node.daemon.running():
            node.attach(ready=False)

    def heal(self):
        """The network works, both daemons run, one is Primary, both are in sync."""
        self.note('heal')
        self.lab.network.heal()
        nodes = list(self.lab.nodes)
        random.shuffle(nodes)
        for node in nodes:
            node.resume()
            self.attach(node)
            time.sleep(random.choice([0, 0, random.uniform(0, 0.3)]))
        alive = self.load is not None and not self.client.lost
        for node in nodes:
            until(f'{node.name} answers', node._ready, 20)
        if alive:
            time.sleep(random.uniform(0, 0.3))
        until('both nodes are in sync', self.in_sync, HEAL_S, 0.1)
        self.stop_load()
        until('one node is Primary', self.one_primary, HEAL_S, 0.1)
        # The last requests may have met a node that was too busy to answer, and been done by one alone.
        until('both nodes are in sync, and stay so', self.in_sync, HEAL_S, 0.1)

    def in_sync(self):
        """Both nodes say so."""
        return all(self.is_synced(node) for node in self.lab.nodes)

    @staticmethod
    def is_synced(node):
        """What `status` says of the two disks."""
        status = node.status()
        connection = status['connections'][0]
        peer = connection['peer_devices'][0]
        return (connection['connection-state'] == 'Connected' and peer['peer-disk-state'] == 'UpToDate'
                and status['devices'][0]['disk-state'] == 'UpToDate' and peer['out-of-sync'] == 0)

    def one_primary(self):
        """Whoever is Primary is used; if nobody is, one of the two is made so."""
        primaries = [node for node in self.lab.nodes if node.status()['role'] == 'Primary']
        assert len(primaries) < 2, 'two Primaries'
        if primaries:
            self.lab.primary = primaries[0]
            return True
        node = random.choice(self.lab.nodes)
        node.rblk('promote', node.resource, check=False)
        return False

    def stop_load(self):
        """No request is in flight afterwards. Errors are for those who lost their daemon."""
        if self.load is None:
            return
        self.load.stop(HEAL_S)
        assert not self.load.faults, f'{len(self.load.faults)} wrong reads, first: {self.load.faults[0]}'
        if not self.bereft:
            assert not self.load.errors, f'{len(self.load.errors)} errors, first: {self.load.errors[0]}'
        self.load = None

    def look(self):
        """Nothing is in flight: what clients see, and what is on the disks."""
        self.client.close()
        self.client, self.bereft = self.primary.client(), False
        faults = self.checker.check_device(self.client, settle=True)
        assert not faults, f'{len(faults)} faults, first: {faults[0]}'
        self.lab.compare_running()

    def start_verb(self, node, verb):
        """A verb on its way."""
        command = node.command(verb, node.resource)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def keep(self):
        """Copies all that tells what happened to where it outlives the test."""
        folder = tempfile.mkdtemp(prefix='rblk-kill-loop-', dir=os.environ.get('RBLK_KEEP'))
        with open(os.path.join(folder, 'history'), 'w') as file:
            file.write('\n'.join(self.history) + '\n\n' + traceback.format_exc())
        for node in self.lab.nodes:
            with open(os.path.join(folder, f'{node.name}.status'), 'w') as file:
                result = node.rblk('status', node.resource, '--json', check=False, seconds=10)
                file.write(result.stdout + result.stderr)
            with open(os.path.join(folder, f'{node.name}.meta'), 'w') as file:
                file.write(node.rblk('dump-meta', node.disk, check=False).stdout)
        for name in os.listdir(self.lab.folder):
            shutil.copy(os.path.join(self.lab.folder, name), folder)
        print(f'      kept in {folder}; the last steps:')
        print('\n'.join('      ' + line for line in self.history[-12:]))


# A weight and what happens.
FAULTS = {
    'kill Primary': (3, lambda loop: loop.kill(loop.primary)),
    'kill Secondary': (3, lambda loop: loop.kill(loop.secondary)),
    'kill both': (2, lambda loop: loop.kill(*loop.lab.nodes)),
    'kill Primary again and again': (2, lambda loop: loop.kill_and_return(loop.primary)),
    'kill Secondary again and again': (2, lambda loop: loop.kill_and_return(loop.secondary)),
    'pause Primary': (2, lambda loop: loop.pause(loop.primary)),
    'pause Secondary': (2, lambda loop: loop.pause(loop.secondary)),
    'cut': (4, lambda loop: loop.cut()),
    'stop Primary': (1, lambda loop: loop.terminate(loop.primary)),
    'stop Secondary': (2, lambda loop: loop.terminate(loop.secondary)),
    'switch': (4, lambda loop: loop.switch()),
    'take over': (2, lambda loop: loop.take_over()),
}
