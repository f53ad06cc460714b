"""One attached 1 GiB volume at depth 128 stays under 96 MiB resident, buffers and locked pages included."""

import random
import time

from checker import Checker, Load
from lab import MIB, Lab

LIMIT = 96 * MIB
POOL = 52 * MIB         # buffers of payload, see BUFFERS_MAX in src/limits.rs


def test_memory_stays_under_its_limit():
    with Lab(mib=1024, disk_mib=1026) as lab:
        client = lab.start()
        assert client.size >= 1024 * MIB
        checker = Checker(client.size)
        load = Load(client, checker, random.getrandbits(32), depth=128,
                    mix={'write': 70, 'read': 25, 'flush': 5}).start()
        time.sleep(8)
        lab.b.kill()        # the bitmap fills
        time.sleep(4)
        lab.b.attach()
        lab.synced()
        load.stop().expect_clean()
        for node in lab.nodes:
            memory = node.daemon.memory()
            figures = ', '.join(f'{value / MIB:.1f} MiB {key}' for key, value in memory.items())
            print(f'      {node.name}: {figures}')
            assert memory['most'] <= LIMIT, f'{node.name}: {figures}'
            assert memory['pinned'] >= POOL, f'the buffers are not registered: {figures}'
            assert memory['locked'] >= POOL, f'the memory is not locked: {figures}'
        client.close()
        lab.finish()
