"""Times real time of each target by size of block, beside eager torch, and the plugin's C++ player where it is at hand, in one run.

    python benchmarks/export.py [--models nano standard lstm] [--seconds .3]

One thread, weights as they start. `FASTPROAUDIO_NAM_RENDER=/path/to/render` adds the C++ player (which plays whole files). Judge by
ratios: every line is timed on the same machine, one after the other.
"""
import argparse, importlib.util, os, tempfile, time
from pathlib import Path

import torch
from fastproaudio.dsp import noise
from fastproaudio.export.checks import block_speeds
from fastproaudio.export.core import export, load_effect
from fastproaudio.export.nam import render_nam
from fastproaudio.models.nam import NAMLSTM, NAMWaveNet

SR,SIZES = 48000,(64, 128, 256, 1024, 4096)
SUFFIX = dict(nn_tilde='.ts', onnx='.onnx', torch_export='.pt2')

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
    try: export(model, folder/f'a{SUFFIX[target]}', to=target, sr=SR)
    except (ValueError, ImportError) as e:
        print(f'    {target}: {str(e)[:90]}')
        return None
    effect = load_effect(folder/f'a{SUFFIX[target]}')
    if target=='nn_tilde': return effect.graph
    state = [effect.start]
    def block(x): state[0] = effect.graph(x, state[0])[1]
    return block

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
    a = p.parse_args()
    torch.set_num_threads(1)
    have_onnx = all(importlib.util.find_spec(m) for m in ('onnx', 'onnxscript', 'onnxruntime'))
    for name in a.models:
        print(f'\n{name}: times real time at {SR} Hz, by block' + '\n' + ' '*30 + ''.join(f'{s:>10}' for s in SIZES))
        model = make(name)
        line('eager stream', block_speeds(eager(model), SR, sizes=SIZES, seconds=a.seconds).values())
        with tempfile.TemporaryDirectory() as d:
            for target in SUFFIX:
                if target=='onnx' and not have_onnx: continue
                block = exported(model, target, Path(d))
                if block is not None: line(target, block_speeds(block, SR, sizes=SIZES, seconds=a.seconds).values())
            if os.environ.get('FASTPROAUDIO_NAM_RENDER'): line('C++ player, whole file', [cpp(model, Path(d))]*len(SIZES))

if __name__=='__main__': main()
