"""Dry and wet recordings: latency to a sample under hard effects, every planted fault named, nothing else named."""
import json,warnings
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import numpy as np
import pytest
import torch
from scipy import signal
from fastproaudio.data import AudioDataLoaders
from fastproaudio.io import read_audio, write_audio
from fastproaudio.pairs import align_pair, check_pair, PairCheck

sr,n = 16000,16000*9
bundle = Path(__file__).parents[2]/'fastproaudio'/'bundle'

def plucks(seed=0):
    "Notes of a guitar, irregular in pitch and time."
    rng,x,p = np.random.default_rng(seed),np.zeros(n),1600
    while p<n-100:
        f,m = 82*2**(rng.integers(0, 30)/12),min(9600, n-p)
        t = np.arange(m)/sr
        x[p:p+m] += sum(rng.uniform(.5, 1)*np.sin(2*np.pi*f*k*t)/k*np.exp(-t*(4+k)) for k in range(1, 12) if f*k<sr/2)
        p += int(rng.uniform(.12, .5)*sr)
    return x/np.abs(x).max()*.6

def later(y, d):
    return np.concatenate([np.zeros(d), y])[:len(y)] if d>=0 else np.concatenate([y[-d:], np.zeros(-d)])

def low_pass(x, f=2000, order=2): return signal.lfilter(*signal.butter(order, f/(sr/2)), x)
def compressor(x):
    e = signal.lfilter([.002], [1, -.998], np.abs(x))
    return x*np.minimum(1, (.02/np.maximum(e, 1e-6))**.7)
def reverb(x, pre_s=.03):
    rng = np.random.default_rng(1)
    h = np.zeros(int((pre_s+.5)*sr))
    tail = int(.5*sr)
    h[-tail:] = rng.standard_normal(tail)*10**(-3*np.arange(tail)/tail)*.05
    h[0] = .7
    return signal.fftconvolve(x, h)[:len(x)]
def tremolo(x): return x*(.6+.4*np.sin(2*np.pi*5*np.arange(len(x))/sr))

effects = dict(
    gain=lambda x: .1*x, soft=lambda x: .6*np.tanh(8*x), hard=lambda x: np.clip(20*x, -.5, .5),
    fuzz=lambda x: .5*np.tanh(100*x), uneven=lambda x: .5*(np.tanh(6*x+.5)-np.tanh(.5)),
    compressor=compressor, reverb=reverb, tremolo=tremolo, low_pass=low_pass,
    treble=lambda x: x+2*(x-low_pass(x, 3000, 1)), echo=lambda x: .6*x+.4*later(x, 4000),
    inverted=lambda x: -.5*np.tanh(5*x))
dry = plucks()
def check(x, y, **kw): return check_pair(x.astype(np.float32), np.asarray(y).astype(np.float32), sr, **kw)

# Healthy pairs

@pytest.mark.parametrize('d', [0, 1, 37, 512, 4800, -150])
@pytest.mark.parametrize('name', ['soft', 'reverb'])
def test_latency_at_every_delay(name, d):
    r = check(dry, later(effects[name](dry), d))
    assert abs(r.latency-d)<=1
    assert r.kinds == (['late'] if d>2 else ['early'] if d<-2 else [])
    assert sum(v is not None and abs(v-d)<=3 for v in r.methods.values())>=2

@pytest.mark.parametrize('name', [k for k in effects if k not in ('soft', 'reverb')])
def test_hard_effects_are_healthy(name):
    r = check(dry, later(effects[name](dry), 37))
    assert abs(r.latency-37)<=1
    assert r.kinds == ['late']+['inverted']*(name=='inverted')
    assert r.polarity == (-1 if name=='inverted' else 1)

@pytest.mark.parametrize('name', ['soft', 'compressor'])
def test_noise_in_both_recordings(name):
    rng = np.random.default_rng(3)
    hiss = lambda: 3e-4*rng.standard_normal(n)
    r = check(dry+hiss(), later(effects[name](dry), 300)+hiss())
    assert abs(r.latency-300)<=1 and r.kinds==['late']

@pytest.mark.parametrize('part', ['guitar_dist/train', 'guitar_dist/test', 'tabla_comp/train', 'tabla_comp/test'])
def test_bundled_pairs_are_healthy(part):
    r = check_pair(bundle/f'{part}_input.flac', bundle/f'{part}_target.flac')
    assert r.ok and 0<=r.latency<=2, str(r)
    assert r.swapped<.1 and r.confidence==1

# Faults

def slow(y, ppm): return np.interp(np.arange(n)*(1-ppm*1e-6), np.arange(n), y)
def put(y, at, v):
    y = y.copy(); y[at] = v
    return y
wet = effects['soft'](dry)
loud = int(np.convolve(dry**2, np.ones(400), 'valid').argmax())
other = plucks(7)
faults = dict(
    late=(dry, later(wet, 512), {'late'}),
    early=(dry, later(wet, -100), {'early'}),
    inverted=(dry, -wet, {'inverted'}),
    another_take=(dry, effects['soft'](other), {'different'}),
    changes_take=(dry, np.append(wet[:n//2], effects['soft'](other)[n//2:]), {'different'}),
    slow_clock=(dry, slow(wet, 80), {'drift'}),
    fast_clock=(dry, slow(wet, -200), {'drift'}),
    lost_buffer=(dry, np.append(wet[:n//2], later(wet, -64)[n//2:]), {'jump'}),
    added_buffer=(dry, np.append(wet[:n//2], later(wet, 256)[n//2:]), {'jump'}),
    clipped_wet=(dry, np.clip(3*wet, -1, 1), {'clipped'}),
    clipped_dry=(np.clip(5*dry, -1, 1), wet, {'clipped'}),
    silent_wet=(dry, 0*wet, {'silent'}),
    silent_dry=(0*dry, wet, {'silent'}),
    nan=(dry, put(wet, slice(900, 903), np.nan), {'nan'}),
    too_loud=(dry, wet/np.abs(wet).max()*1.4, {'loud'}),
    offset=(dry, wet+.05, {'dc'}),
    shorter=(dry, wet[:-3000], {'length'}),
    stereo=(dry, np.stack([wet, wet]), {'channels'}),
    dead_channel=(np.stack([dry, dry]), np.stack([wet, 0*wet]), {'channel'}),
    drop_out=(dry, put(wet, slice(loud, loud+160), 0), {'dropout'}),
    falls_silent=(dry, put(wet, slice(n//2, n//2+sr), 0), {'gap'}),
    swapped=(wet, dry, {'swapped'}))

@pytest.mark.parametrize('name', list(faults))
def test_each_fault_is_named_and_no_other(name):
    x,y,want = faults[name]
    r = check(x, y)
    assert set(r.kinds)==want, str(r)
    assert not r.ok and all(len(p)>20 for p in r.problems)

def test_figures_of_faults():
    r = check(dry, slow(wet, 80))
    assert abs(r.drift_ppm-80)<8 and abs(r.latency)<=2
    r = check(dry, np.append(wet[:n//2], later(wet, 256)[n//2:]))
    p = r.problems[0]
    assert abs(p.at[0]-n/2/sr)<1 and '256' in p
    r = check(dry, put(wet, slice(loud, loud+160), 0))
    assert abs(r.problems[0].at[0]-loud/sr)<.01
    r = check(dry, np.clip(3*wet, -1, 1))
    assert len(r.problems[0].at)>=3 and 'at a lower level' in r.problems[0]

@pytest.mark.parametrize('name', ['soft', 'hard', 'reverb', 'fuzz'])
def test_exchanged_files(name):
    y = effects[name](dry)
    there,back = check(dry, y),check(y, dry)
    assert there.swapped<.1 and back.swapped>.6
    assert any(p.kind=='swapped' for p in back.problems+back.notes)

def test_names_count(tmp_path):
    a = write_audio(tmp_path/'amp_wet.wav', torch.from_numpy(dry).float(), sr, 'FLOAT')
    b = write_audio(tmp_path/'amp_dry.wav', torch.from_numpy(.5*dry).float(), sr, 'FLOAT')
    assert 'swapped' in check_pair(a, b).kinds and check_pair(b, a).ok

def test_rates(tmp_path):
    a = write_audio(tmp_path/'a.wav', torch.from_numpy(dry).float(), sr)
    half = signal.resample_poly(later(wet, 400), 1, 2)
    b = write_audio(tmp_path/'b.wav', torch.from_numpy(half).float(), sr//2)
    r = check_pair(a, b)
    assert r.kinds[0]=='rate' and abs(r.latency-400)<=2
    c = write_audio(tmp_path/'c.wav', torch.from_numpy(signal.resample_poly(dry, 3, 1)).float(), 48000)
    wrong = write_audio(tmp_path/'d.wav', torch.from_numpy(signal.resample_poly(wet, 3, 1)).float(), 44100)
    r = check_pair(c, wrong)
    assert any('48000 Hz, its header says 44100' in p for p in r.problems)

@pytest.mark.parametrize('y,match', [(torch.zeros(1, 0), 'expected'), (torch.zeros(2, 2, 5), 'channels, samples')])
def test_bad_input(y, match):
    with pytest.raises(ValueError, match=match): check_pair(torch.zeros(1, 100), y, sr)
    with pytest.raises(ValueError, match='sample rate'): check_pair(torch.zeros(1, 100), torch.zeros(1, 100))
    with pytest.raises(ValueError, match='no such file'): check_pair('nowhere.wav', 'nowhere.wav')

@pytest.mark.parametrize('m', [1, 2, 100, 3000])
def test_short_recordings_raise_nothing(m):
    r = check(dry[2000:2000+m], wet[2000:2000+m])
    assert isinstance(r, PairCheck) and str(r)

# Report, aligned files, loaders

def test_report(tmp_path):
    r = check(dry, later(-wet, 512))
    assert 'PROBLEM' in str(r) and '512 samples' in str(r) and 'inverted' in str(r)
    assert r.save(tmp_path/'r.png').read_bytes()[:4]==b'\x89PNG'
    assert json.loads(json.dumps(r.record()))['latency']==512
    with pytest.raises(ValueError, match='cannot be written'): r.save(tmp_path/'no'/'r.png')
    silent = check(dry, 0*wet)
    assert silent.save(tmp_path/'s.png').exists() and silent.latency is None

def files(d, x=dry, y=None, rate=sr):
    def write(name, o): return write_audio(d/name, torch.from_numpy(np.ascontiguousarray(o)).float(), rate, 'FLOAT')
    return [write('a_input.wav', x), write('a_target.wav', y)]

@pytest.mark.parametrize('d', [300, -80])
@pytest.mark.parametrize('kw', [{}, dict(preload=True), dict(read_len=9000)], ids=str)
def test_loaders_align(tmp_path, d, kw):
    fs = files(tmp_path, y=later(.5*dry, d))
    before = [f.read_bytes() for f in fs]
    dls = AudioDataLoaders.from_pairs(*fs, align=True, chunk_len=1000, device='cpu', **kw)
    dls.set_context(200)
    scored = 0
    for dl in dls:
        for x,y in dl:
            assert torch.allclose(y, .5*x, atol=1e-6)
            scored += float(x.abs().sum())
    assert scored>0 and dls.alignment[0]['shift']==d
    assert [f.read_bytes() for f in fs]==before

def test_loaders_take_other_lengths_and_say_what_they_cannot_mend(tmp_path, capsys):
    fs = files(tmp_path, y=slow(-later(wet, 100), 150)[:-2000])
    with pytest.warns(UserWarning, match='ppm'):
        dls = AudioDataLoaders.from_pairs(*fs, align=True, chunk_len=1000, device='cpu')
    assert 'aligned 1 pair' in capsys.readouterr().out
    assert dls.alignment[0]['polarity']==-1 and any('upside down' in p for p in dls.alignment[0]['problems'])

def test_door(tmp_path):
    with pytest.warns(UserWarning, match='512 samples .* align=True'):
        AudioDataLoaders.from_pairs(*files(tmp_path, y=later(wet, 512)), chunk_len=1000, device='cpu')
    (tmp_path/'b').mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        AudioDataLoaders.from_pairs(*files(tmp_path/'b', y=wet), chunk_len=1000, device='cpu')

def test_align_pair(tmp_path):
    fs = files(tmp_path, y=later(wet, 700))
    out = align_pair(*fs, tmp_path/'out')
    x,y = [read_audio(o)[0] for o in out]
    assert x.shape==y.shape==(1, n-700) and torch.equal(y[0], torch.from_numpy(wet[:n-700]).float())
    with pytest.raises(ValueError, match='choose another'): align_pair(*fs, tmp_path)
