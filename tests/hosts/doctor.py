"""`rblk doctor` and `rblk drill` find what was broken on purpose, say what to do, and break nothing themselves."""

import json

from lab import Lab, Network, until

OK, ERRORS, WARNINGS = 0, 1, 4


def test_a_healthy_mirror_has_no_errors():
    with Lab() as lab:
        client = lab.start()
        for node in lab.nodes:
            code, checks = _doctor(node)
            errors = [check for check in checks if check['level'] == 'error']
            assert not errors and code in (OK, WARNINGS), errors
            for subject in ('kernel', 'io_uring', 'configuration', 'disk', 'metadata', 'own address', 'packet size',
                            'daemon', 'connection', 'own data', 'same configuration'):
                found = _of(checks, subject)
                assert found['level'] == 'ok', found
            assert 'UpToDate' in _of(checks, "peer's data")['finding']
        said = [_of(_doctor(node)[1], 'configuration')['finding'].split('Digest ')[1].split(':')[0]
                for node in lab.nodes]
        assert said[0] == said[1], said
        code, checks = _doctor(lab.b, 'drill')
        assert code == WARNINGS, checks
        assert _of(checks, 'data')['level'] == _of(checks, 'planned switch')['level'] == 'ok'
        assert 'rblk promote t --force' in _of(checks, 'primary dies')['remedy']
        # A look changes nothing.
        assert lab.a.status()['role'] == 'Primary' and lab.a.connection() == 'Connected'
        client.close()
        lab.finish()


def test_two_configurations_are_found():
    with Lab() as lab:
        client = lab.start()
        for node in lab.nodes:
            assert node.status()['rblk']['config'] == node.status()['rblk']['peer-config']
        with open(lab.config) as file:
            text = file.read()
        with open(lab.config, 'w') as file:
            file.write(text.replace('[resource]', '[resource]\npeer-timeout-ms = 3500', 1))
        # The file has changed, and no daemon has read it.
        found = _of(_doctor(lab.a)[1], 'configuration in use')
        assert found['level'] == 'warning' and 'than the file has now' in found['finding'], found
        # One daemon has read it.
        lab.b.kill()
        lab.b.attach()
        lab.synced()
        rblk = lab.a.status()['rblk']
        assert rblk['config'] != rblk['peer-config'] and rblk['peer-config'] == lab.b.status()['rblk']['config']
        for node in lab.nodes:
            assert 'the peer runs with another one' in node.rblk('status', 't').stdout
            found = _of(_doctor(node)[1], 'same configuration')
            assert found['level'] == 'warning' and 'rblk config t' in found['remedy'], found
        client.close()
        lab.finish()


def test_what_is_broken_is_found():
    with Lab(resource='peer-timeout-ms = 1000\n') as lab:
        code, checks = _doctor(lab.a)
        assert code == ERRORS
        assert 'rblk create t' in _of(checks, 'metadata')['remedy']
        assert 'rblk attach t' in _of(checks, 'daemon')['remedy']
        assert 'nobody listens' in _of(checks, 'peer')['finding']
        found = _of(_doctor(lab.b)[1], 'peer')      # which is dialled: nobody listens at its peer, ever
        assert found['level'] == 'ok' and 'alpha dials this node' in found['finding'], found
        client = lab.start()
        lab.b.kill()
        until('the peer is away', lambda: lab.a.connection() == 'Connecting', 20)
        code, checks = _doctor(lab.a)
        assert code == ERRORS and _of(checks, 'connection')['level'] == 'error', checks
        assert 'nobody listens' in _of(checks, 'peer')['finding']
        lab.network.cut()
        code, checks = _doctor(lab.a)
        assert 'does not answer' in _of(checks, 'peer')['finding'], checks
        code, checks = _doctor(lab.a, 'drill')
        assert code == ERRORS and 'misses what is written' in _of(checks, 'data')['finding'], checks
        lab.network.heal()
        lab.b.attach()
        lab.synced()
        # An address of nobody, and a handler that is not there.
        with open(lab.config) as file:
            text = file.read()
        with open(lab.config, 'w') as file:
            file.write(text.replace(Network.ADDRESS['a'], '10.77.0.99') + '\n[handlers]\nsplit-brain = "/nowhere/x"\n')
        assert 'no address of this host' in _of(_doctor(lab.a)[1], 'own address')['finding']
        assert '/nowhere/x' in _of(_doctor(lab.a, 'drill')[1], 'handler')['finding']
        with open(lab.config, 'w') as file:
            file.write(text + '\nnonsense = 1\n')
        code, checks = _doctor(lab.a)
        assert code == ERRORS and 'nonsense' in _of(checks, 'configuration')['finding'], checks
        with open(lab.config, 'w') as file:
            file.write(text)
        client.close()
        lab.finish()


def _doctor(node, verb='doctor'):
    result = node.rblk(verb, 't', '--json', check=False)
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    words = {'ok': OK, 'warning': WARNINGS, 'error': ERRORS}
    assert result.returncode == words[report['worst']], report
    for check in report['checks']:
        assert check['level'] == 'ok' or check.get('remedy') or check['subject'] in ('kernel', 'clock'), check
    return result.returncode, report['checks']


def _of(checks, subject):
    found = [check for check in checks if check['subject'] == subject]
    assert len(found) == 1, f'{subject}: {found} of {checks}'
    return found[0]
