"""Damaged files of every kind, by seeded mutators.

    python benchmarks/torture.py [--minutes 10] [--seed 0] [--kinds wav,nam]

Each kind is read in a child process, file after file. A file is *clean* if it is read, or refused in one sentence;
*wrong* if anything else is raised, if a message is no sentence, or if a sound that was cut is read shorter without
a word; *crash* and *hang* speak for themselves."""
import argparse, json, os, random, subprocess, sys, tempfile, threading, time, warnings
from pathlib import Path

SOUNDS = dict(wav=('WAV', 'PCM_16'), flac=('FLAC', 'PCM_16'), aiff=('AIFF', 'PCM_16'), w64=('W64', 'PCM_16'),
              au=('AU', 'PCM_16'), caf=('CAF', 'PCM_16'), ogg=('OGG', 'VORBIS'), opus=('OGG', 'OPUS'),
              mp3=('MP3', 'MPEG_LAYER_III'))
MODELS = ('nam', 'lstm.nam', 'json', 'ts', 'model.pt', 'network.json', 'weights.pt', 'labels.txt')
KINDS = (*SOUNDS, *MODELS)


def cut(data, rng): return data[:rng.randrange(1, len(data))]


def zero_sector(data, rng):
    at = rng.randrange(max(1, len(data)//512))*512
    return data[:at]+bytes(min(512, len(data)-at))+data[at+512:]


def flip(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])): data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_head(data, rng):
    n = min(len(data), 256)
    return flip(data[:n], rng)+data[n:]


def drop(data, rng):
    at = rng.randrange(len(data))
    return data[:at]+data[at+rng.randrange(1, 50):]


def insert(data, rng):
    at = rng.randrange(len(data))
    return data[:at]+rng.randbytes(rng.randrange(1, 20))+data[at:]


def repeat(data, rng):
    at = rng.randrange(len(data))
    return data[:at]+data[at:at+200]+data[at:]


def word(data, rng):
    at = rng.randrange(len(data))
    words = [b'\xff'*4, bytes(4), b'9999', b'1e99', b'null', b'-1, ', b'"x",', b'[[[[', b'{}, ', b'NaN ', b'true',
             b'\x7f\xff\xff\xff']
    return data[:at]+rng.choice(words)+data[at+4:]


def field(data, rng):
    "Another value in place of one in JSON."
    try: tree = json.loads(data)
    except ValueError: return word(data, rng)
    node, key = tree, None
    while isinstance(node, (dict, list)) and node:
        parent, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = parent[key]
        if rng.random() < .3: break
    if key is None: return data
    parent[key] = rng.choice([None, True, -1, 0, 2**62, .5, 3., 'x', '', [], {}, [[]], {'a': 1}, 1e300, [1]*100])
    return json.dumps(tree).encode()


LOSING = (cut, zero_sector)
MUTATORS = (*LOSING, flip, flip_head, drop, insert, repeat, word, field)


def make(kind, folder):
    "A good file of a kind, and what reads it: `(path of the file, function)`; the function gives its length."
    import torch
    from fastproaudio.dsp import noise
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = noise(60, seed=0, amp=.1)
    if kind in SOUNDS:
        import soundfile as sf
        from fastproaudio.io import read_audio
        p = folder/f'a.{kind}'
        fmt, sub = SOUNDS[kind]
        sf.write(p, noise(30_000, seed=1, n_ch=2, amp=.1).T.numpy(), 48000, sub, format=fmt)
        return p, lambda p: read_audio(p)[0].shape[1]
    if kind == 'labels.txt':
        from fastproaudio.train.labels import read_labels, write_labels
        p = write_labels(folder/kind, [('a', .1, .2), ('b b', .3, 1.5)]*20)
        return p, lambda p: len(read_labels(p))
    from fastproaudio.export import export, load_effect, load_network, save_network
    from fastproaudio.models import NAMLSTM, NAMWaveNet, TCN
    tcn = TCN(n_blocks=1, ks=3, channel_width=2)
    if kind in ('network.json', 'weights.pt'):
        save_network(tcn, folder/'net', sr=48000)
        return folder/'net'/kind, lambda p: load_network(p.parent)(x[None]).shape[2]
    if kind == 'model.pt':
        export(tcn, folder/'aud', to='audacity', sr=48000, n_random=0)
        return folder/'aud'/kind, lambda p: load_effect(p.parent)(x).shape[1]
    wavenet = NAMWaveNet([dict(n_in=1, channels=2, dilations=[1, 8], ks=[3]*2, acts=['Tanh']*2, gated=False, head=1,
                               head_ks=1, head_bias=True)])
    stack = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.PReLU(2), torch.nn.Conv1d(2, 1, 1))
    model, to = {'nam': (wavenet, 'nam'), 'lstm.nam': (NAMLSTM(3, run_in=100), 'nam'), 'json': (stack, 'rtneural'),
                 'ts': (tcn, 'nn_tilde')}[kind]
    p = folder/f'a.{kind}'
    export(model, p, to=to, sr=48000)
    return p, lambda p: load_effect(p)(x).shape[1]


def judge(read, path, n, losing):
    "`clean`, or what is wrong."
    try: got = read(path)
    except ValueError as e:
        said = str(e)
        if '\n' in said or len(said) > 700: return f'a message that is no sentence: {said[:200]!r}'
        return 'clean'
    except RuntimeError as e:
        # a graph that fails as it plays
        if path.suffix in ('.ts', '.pt') and 'torch' in type(e).__module__+str(e).lower(): return 'clean'
        return f'{type(e).__name__}: {str(e)[:200]!r}'
    except BaseException as e: return f'{type(e).__name__}: {str(e)[:200]!r}'
    return f'read {got} of {n} without a word' if losing and got < n else 'clean'


def work(kind, seed, first, last):
    "Mutate and read; a line before and after each try."
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as d:
        path, read = make(kind, Path(d))
        good = path.read_bytes()
        n = read(path)
        for i in range(first, last):
            rng = random.Random(f'{kind} {seed} {i}')
            how = rng.choice(MUTATORS)
            path.write_bytes(how(good, rng))
            print(json.dumps(dict(i=i)), flush=True)
            losing = kind in SOUNDS and how in LOSING
            print(json.dumps(dict(i=i, how=how.__name__, found=judge(read, path, n, losing))), flush=True)


def watch(kind, seed, n, seconds, timeout_s=120.):
    "Counts of a kind: tries, clean, wrong, crash, hang; the first of what is not clean."
    res = dict(tries=0, clean=0, wrong=0, crash=0, hang=0)
    told = []
    first = 0
    end = dict(at=time.time()+seconds+60)                             # moved below, as `look` goes on
    while first < n and time.time() < end['at']:
        child = subprocess.Popen([sys.executable, __file__, '--work', kind, str(seed), str(first), str(n)],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                 env={**os.environ, 'FASTPROAUDIO_CACHE': tempfile.gettempdir()})
        state = dict(at=time.time(), hung=False, late=False)
        def look(child=child, state=state):
            while child.poll() is None:
                time.sleep(.5)
                state['late'] = time.time() > end['at']
                state['hung'] = time.time()-state['at'] > timeout_s
                if state['late'] or state['hung']: return child.kill()
        threading.Thread(target=look, daemon=True).start()
        open_try = None
        for line in child.stdout:
            o = json.loads(line)
            state['at'] = time.time()
            if not res['tries']: end['at'] = time.time()+seconds      # what starting took is not counted
            open_try = None if 'found' in o else o['i']
            first = o['i']+1
            if 'found' not in o: continue
            res['tries'] += 1
            res['clean' if o['found'] == 'clean' else 'wrong'] += 1
            if o['found'] != 'clean': told.append(f"{kind} {o['i']} {o['how']}: {o['found']}")
        child.wait()
        if state['late']: break
        if open_try is None and child.returncode == 0: break
        res['tries'] += 1
        res['hang' if state['hung'] else 'crash'] += 1
        told.append(f'{kind} {open_try}: ' + ('hang' if state['hung'] else f'ended with {child.returncode}'))
        first = max(first, (open_try or 0)+1)
    return res, told


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--minutes', type=float, default=10.)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--most', type=int, default=1000, help='tries of a kind')
    p.add_argument('--kinds', default=','.join(KINDS))
    a = p.parse_args()
    kinds = a.kinds.split(',')
    total = dict(tries=0, clean=0, wrong=0, crash=0, hang=0)
    print(f"{'kind':>14} "+' '.join(f'{k:>6}' for k in total))
    end = time.time()+60*a.minutes
    for i, kind in enumerate(kinds):
        res, told = watch(kind, a.seed, a.most, max(1., (end-time.time())/(len(kinds)-i)))
        for k in total: total[k] += res[k]
        print(f'{kind:>14} '+' '.join(f'{v:6d}' for v in res.values()), flush=True)
        for line in told[:4]: print(f'    {line}')
    print(f"{'all':>14} "+' '.join(f'{v:6d}' for v in total.values()))
    return 1 if total['tries'] > total['clean'] else 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['--work']: work(sys.argv[2], *map(int, sys.argv[3:]))
    else: sys.exit(main())
