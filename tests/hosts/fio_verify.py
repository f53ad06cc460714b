"""Real clients, real data: fio verifies what it wrote, nbdcopy reads back what it copied in, and both disks
end equal."""

import json
import os
import subprocess

from lab import MIB, Lab

SECONDS = int(os.environ.get('RBLK_FIO_SECONDS', '60'))


def test_fio_finds_no_wrong_byte():
    with Lab(mib=256) as lab:
        lab.start().close()
        uri = f'nbd+unix:///?socket={lab.a.socket}'
        # 32 requests in flight together, from three clients: one that fio reads back and verifies by
        # checksum; beside it, in an area of their own, trims and writes that overlap in flight, where no
        # content can be foretold: but both disks must end equal.
        area = [f'--offset={160 * MIB}', f'--size={96 * MIB}', '--verify=0', '--rate_iops=1000']
        _run([
            'fio', '--ioengine=nbd', f'--uri={uri}', '--randrepeat=0', '--time_based', f'--runtime={SECONDS}',
            '--bsrange=4k-256k', '--blockalign=4k',
            '--name=verified', '--rw=randrw', '--iodepth=20', '--offset=0', f'--size={160 * MIB}',
            '--verify=crc32c', '--verify_backlog=64', '--verify_fatal=1', '--serialize_overlap=1',
            '--fsync=200', '--verify_state_save=0',
            '--name=trims', '--rw=randtrim', '--iodepth=4', *area,
            '--name=writes', '--rw=randwrite', '--iodepth=8', *area,
        ], SECONDS + 60)
        _expect_hops(lab)
        lab.finish()


def _expect_hops(lab):
    """Every hop of a write was measured, and no part took longer than the whole."""
    hops = {hop['hop']: hop for hop in json.loads(lab.a.rblk('stats', 't', '--json').stdout)}
    for name in ('front-read', 'front-write', 'front-flush', 'activity-log', 'disk-write', 'peer'):
        assert hops[name]['count'] > 0, hops[name]
        assert hops[name]['p50-us'] <= hops[name]['p99-us'] <= hops[name]['max-us'] < SECONDS * 1e6, hops[name]
    assert hops['peer']['sum-us'] <= hops['front-write']['sum-us'], hops


def test_file_system_image_comes_back_equal():
    with Lab(mib=64) as lab:
        client = lab.start()
        size = client.size
        client.close()
        image, back = os.path.join(lab.folder, 'image'), os.path.join(lab.folder, 'back')
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with open(image, 'wb') as file:
            file.truncate(size)
        _run(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', os.path.join(source, 'tests'), image], 60)
        uri = f'nbd+unix:///?socket={lab.a.socket}'
        _run(['nbdcopy', '--flush', image, uri], 60)
        _run(['nbdcopy', uri, back], 60)
        _run(['cmp', image, back], 60)
        _run(['e2fsck', '-fn', back], 60)
        lab.finish()
        with open(image, 'rb') as file, open(lab.b.disk, 'rb') as disk:
            assert file.read(size) == disk.read(size), 'the image is not on the secondary'


def _run(command, seconds):
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    words = (result.stdout + result.stderr)[-3000:]
    assert result.returncode == 0, f'{command[0]} ended with {result.returncode}:\n{words}'
