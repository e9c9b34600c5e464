"The same script alone and as two processes: the same losses, each chunk read once, streams that go on."
import json, os, socket, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastproaudio.dsp import noise, sine
from fastproaudio.io import write_audio

SCRIPT = Path(__file__).with_name('distributed_script.py')
KINDS = 'pairs', 'streams', 'classifier'

pytestmark = pytest.mark.skipif(not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
                                reason='torch without gloo')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def run(path, out, bs, n=1, more=(), kinds=KINDS):
    "What each of `n` processes saw."
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[2]), 'GLOO_SOCKET_IFNAME':'lo'}
    launch = [sys.executable]+([] if n==1 else ['-m', 'torch.distributed.run', '--nproc_per_node', str(n),
                                                '--master_addr', '127.0.0.1', '--master_port', str(free_port())])
    r = subprocess.run([*launch, str(SCRIPT), str(path), out, str(bs), ','.join(kinds), *more],
                       capture_output=True, text=True, env=env, timeout=180)
    assert r.returncode==0, r.stderr[-4000:]
    return [json.loads((path/f'{out}_{i}.json').read_text()) for i in range(n)],r.stdout


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
    path = tmp_path_factory.mktemp('distributed')
    for i in range(4):
        x = noise(3000+400*i, seed=i, amp=.2)
        for k,o in (('dry', x), ('wet', .8*torch.tanh(6*x))):
            (path/'pairs').mkdir(exist_ok=True)
            write_audio(path/'pairs'/f'{i}_{k}.wav', o, 8000, subtype='FLOAT')
    for i in range(14):
        folder = path/'folders'/('tone', 'noise')[i%2]
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder/f'{i}.wav', sine(200+50*i, sr=8000, n=2000)[None]*.5
                    if i%2==0 else noise(2000, seed=i, amp=.3), 8000)
    (alone,),_ = run(path, 'alone', 6)
    return path,alone,*run(path, 'two', 3, n=2)


@pytest.mark.parametrize('kind', KINDS)
def test_two_processes_train_as_one(seen, kind):
    "At the same global batch: each step's loss, each epoch's figures, the weights, and the predictions."
    _,alone,two,_ = seen
    a = alone[kind]
    tol = dict(rtol=2e-4, atol=1e-6)
    for b in (o[kind] for o in two):
        assert len(a['losses'])==len(b['losses']) and b['plain'] and b['n_preds']==a['n_preds']
        np.testing.assert_allclose(b['losses'], a['losses'], **tol)
        assert len(a['values'])==2
        for k in ('values', 'valid', 'weights', 'preds')[:3 if kind=='streams' else 4]:
            np.testing.assert_allclose(b[k], a[k], rtol=5e-4, atol=1e-5, err_msg=k)
    for k in ('weights', 'preds'):
        assert two[0][kind][k]==two[1][kind][k], 'one network; each process has all predictions'


@pytest.mark.parametrize('kind', KINDS)
def test_each_chunk_is_read_once(seen, kind):
    _,alone,two,_ = seen
    for whole,a,b in zip(alone[kind]['read'], *(o[kind]['read'] for o in two)):
        whole,a,b = [sorted(map(tuple, o)) for o in (whole, a, b)]
        # the last batch may give a process nothing: it answers one that does not count
        padding = len(a)+len(b)-len(whole)
        assert 0<=padding<=1 and set(a)|set(b)==set(whole)
        if not padding: assert sorted(a+b)==whole


def test_streams_go_on(seen):
    _,alone,two,_ = seen
    a,b,c = alone['streams']['on'],*(o['streams']['on'] for o in two)
    assert sum(a)>20 and len(a)==len(b)==len(c)
    assert [i+j for i,j in zip(b, c)]==a, 'every row that one process carries on, the two do'


def test_one_process_writes(seen):
    path,_,_,out = seen
    assert sorted(f.name for f in (path/'two'/'pairs'/'models').iterdir())==['run.previous.pth', 'run.pth']
    assert [f.name for f in (path/'two'/'pairs'/'listening').iterdir()]==['run-1']
    assert out.count('ESR to beat')==1


def test_resumed_together(seen):
    "A finished run is known to both."
    path,_,two,_ = seen
    again,out = run(path, 'two', 3, n=2, more=['--resume'], kinds=['streams'])
    assert out.count('this fit is done')==1
    for a,b in zip(two, again):
        assert a['streams']['weights']==b['streams']['weights'] and len(b['streams']['read'])==2, 'no third epoch'
