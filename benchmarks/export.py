"""Times real time of each target by size of block, beside eager torch, and the plugin's C++ player where it is
at hand, in one run.

    python benchmarks/export.py [--models nano standard lstm] [--seconds .3]
    python benchmarks/export.py --what      what each target can express, asked of the exporters themselves

One thread, weights as they start. `FASTPROAUDIO_NAM_RENDER=/path/to/render` adds the C++ player (which plays
whole files). Judge by ratios: every line is timed on the same machine, one after the other.
"""
import argparse, importlib.util, os, tempfile, time
from pathlib import Path

import torch
from torch import nn
from fastproaudio.dsp import noise
from fastproaudio.export import export, load_effect
from fastproaudio.export.checks import block_speeds
from fastproaudio.export.nam import render_nam
from fastproaudio.models import FIR, LSTMEffect, NAMLSTM, NAMWaveNet, TCN, UNet1d, WaveNet

SR,SIZES = 48000,(64, 128, 256, 1024, 4096)
SUFFIX = dict(nn_tilde='.ts', onnx='.onnx', torch_export='.pt2')
FILES = dict(audacity='', nam='.nam', **SUFFIX, rtneural='.json', guitarml='.json')

def make(name):
    torch.manual_seed(0)
    return (NAMLSTM(24) if name=='lstm' else NAMWaveNet(name)).eval().requires_grad_(False)

def eager(model):
    "The model's own stream."
    state = model.init_state(1)
    def block(x): model.stream(x, state)
    return block

def exported(model, target, folder):
    "Write, load, and play blocks; None where the format cannot say it."
    try: export(model, folder/f'a{FILES[target]}', to=target, sr=SR, **(dict(n_random=0) if target=='audacity' else {}))
    except (ValueError, ImportError) as e:
        print(f'    {target}: {str(e)[:90]}')
        return None
    effect = load_effect(folder/f'a{FILES[target]}')
    if target=='nn_tilde': return effect.graph
    if target=='nam': return lambda x, m=effect.model, s=[effect.model.init_state(1)]: m.stream(x, s[0])
    if target in ('audacity', 'rtneural', 'guitarml'): return lambda x: effect(x[0])
    state = [effect.start]
    def block(x): state[0] = effect.graph(x, state[0])[1]
    return block

def networks():
    "One of each kind, small: what it is, and how to make it."
    def plain(gain, **kwargs):
        m = LSTMEffect(hidden=4, warm_up=100, **kwargs)
        with torch.no_grad(): m.dry.fill_(gain)
        return m
    tcn = dict(n_blocks=1, ks=3, channel_width=2)
    return {'NAMWaveNet':lambda: NAMWaveNet('nano'), 'NAMLSTM':lambda: NAMLSTM(4, run_in=100),
            'LSTMEffect, dry added':lambda: plain(1.),
        'LSTMEffect, dry not added':lambda: plain(0.), 'LSTMEffect with knobs':lambda: plain(1., n_knobs=1),
            'TCN':lambda: TCN(**tcn), 'TCN with knobs':lambda: TCN(n_knobs=1, **tcn),
        'TCN, stereo':lambda: TCN(n_in=2, n_out=2, **tcn), 'TCN with lookahead':lambda: TCN(causal=False, **tcn),
            'WaveNet':lambda: WaveNet(channels=2, n_layers=2, head=2),
        'UNet1d':lambda: UNet1d(channels=(2, 3), strides=(4,), ks=3, causal=True), 'FIR':lambda: FIR(10),
            'Sequential of Conv1d':lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1))}

def answer(make, target, folder):
    "`yes`, `whole sounds`, or `-`, and the refusal."
    torch.manual_seed(0)
    options = dict(n_random=0) if target=='audacity' else {}
    try: report = export(make().eval(), folder/f'a{FILES[target]}', to=target, sr=SR, **options)
    except (ValueError, ImportError) as e: return '-',str(e).splitlines()[0]
    return ('whole' if target=='audacity' or 'whole sounds' in str(report) else 'yes'),''

def what():
    "The table, and below it why not."
    why = []
    print('| network | ' + ' | '.join(FILES) + ' |\n|' + '---|'*(len(FILES)+1))
    with tempfile.TemporaryDirectory() as d:
        for i,(name,make) in enumerate(networks().items()):
            cells = []
            for target in FILES:
                folder = Path(d)/f'{i}{target}'
                folder.mkdir()
                got,reason = answer(make, target, folder)
                cells.append(got)
                if reason: why.append(f'{name}, {target}: {reason.replace(d, "")[:150]}')
            print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)
    print('\n' + '\n'.join(why))

def cpp(model, folder, seconds=20):
    "Times real time of the C++ player on a whole file, its start-up taken off."
    export(model, folder/'a.nam', to='nam', sr=SR)
    def took(n):
        x = noise(n, seed=0, amp=.1)[0]
        start = time.perf_counter()
        render_nam(folder/'a.nam', x)
        return time.perf_counter()-start
    base = took(SR)
    return (seconds-1)/max(took(seconds*SR)-base, 1e-9)

def line(name, speeds): print(f'  {name:<28}' + ''.join(f'{v:>10.1f}' for v in speeds))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--models', nargs='+', default=['nano', 'standard', 'a2_lite', 'lstm'])
    p.add_argument('--seconds', type=float, default=.3)
    p.add_argument('--what', action='store_true', help='what each target can express')
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.what: return what()
    have_onnx = all(importlib.util.find_spec(m) for m in ('onnx', 'onnxscript', 'onnxruntime'))
    for name in a.models:
        print(f'\n{name}: times real time at {SR} Hz, by block' + '\n' + ' '*30 + ''.join(f'{s:>10}' for s in SIZES))
        model = make(name)
        line('eager stream', block_speeds(eager(model), SR, sizes=SIZES, seconds=a.seconds).values())
        with tempfile.TemporaryDirectory() as d:
            for target in FILES:
                if target=='onnx' and not have_onnx: continue
                block = exported(model, target, Path(d))
                if block is not None: line(target, block_speeds(block, SR, sizes=SIZES, seconds=a.seconds).values())
            if os.environ.get('FASTPROAUDIO_NAM_RENDER'):
                line('C++ player, whole file', [cpp(model, Path(d))]*len(SIZES))

if __name__=='__main__': main()
