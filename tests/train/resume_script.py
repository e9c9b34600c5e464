"A training script of one kind, as a user writes it; test_resume.py has it killed in mid-epoch and runs it again."
import os, random, signal, sys
from pathlib import Path

from fastproaudio.all import *

torch.set_num_threads(1)


def sounds(path):
    "Six sounds of two kinds, and a pair; written once."
    if (path/'wet.wav').exists(): return
    for i in range(6):
        folder = path/'sounds'/('tone', 'noise')[i%2]
        folder.mkdir(parents=True, exist_ok=True)
        x = sine(200+50*i, sr=8000, n=3000)[None]*.5 if i%2==0 else noise(3000, seed=i, amp=.3)
        write_audio(folder/f'{i}.wav', x, 8000, subtype='FLOAT')
    x = noise(7000, seed=0, amp=.2)
    write_audio(path/'dry.wav', x, 8000, subtype='FLOAT')
    write_audio(path/'wet.wav', .8*torch.tanh(6*x), 8000, subtype='FLOAT')


class Hiss(Transform):
    "An item transform that draws, in the worker if there is one."
    split_idx = 0
    def encodes(self, x:AudioTensor): return x + 1e-3*torch.randn(x.shape)


class OwnDraws(Callback):
    "A callback with generators of its own, and a count."
    def __init__(self): self.rng,self.np_rng,self.drawn = random.Random(0),np.random.default_rng(0),0
    def before_batch(self):
        if not self.training: return
        self.drawn += 1
        self.learn.xb = (self.xb[0]*(1+.01*self.rng.random()+.01*self.np_rng.random()), *self.xb[1:])


def make(path, kind, **kwargs):
    more = dict(path=path, device='cpu')
    # two workers that draw, dropout, polarity, windows of longer reads
    if kind=='effects':
        dls = AudioDataLoaders.from_pairs(path/'dry.wav', path/'wet.wav', chunk_len=256,
                                          bs=4, num_workers=2, flip_polarity=True, read_len=512, **more)
        dls.train.after_item.add(Hiss())
        return effects_learner(dls, TCN(n_blocks=2, ks=3, channel_width=4), cbs=[OwnDraws()], **kwargs).to_bf16()
    if kind=='lstm':
        dls = AudioDataLoaders.from_files(path/'sounds'/'tone', n_tokens=32, chunk_len=128, bs=3, seed=3, **more)
        return autoregressive_learner(dls, SampleLSTM(hidden=12, n_tokens=32, output_p=.1), alpha=1., beta=1., **kwargs)
    if kind=='wavenet':
        dls = AudioDataLoaders.from_files(path/'sounds'/'noise', n_tokens=32,
                                          carry=False, chunk_len=256, bs=4, num_workers=2, seed=3, **more)
        return autoregressive_learner(dls, SampleWaveNet(n_tokens=32, channels=8, n_layers=3), **kwargs)
    dls = AudioDataLoaders.from_folder(path/'sounds', valid_pct=.34, seed=0,
                                       head=True, pad=True, chunk_len=3000, bs=2, device='cpu')
    dls.path = path
    return classifier_learner(dls, width=4, **kwargs)


class Killed(Callback):
    "Ends the process in the middle of an epoch, as a power cut does."
    def after_step(self):
        if self.epoch==1 and self.iter==1: os.kill(os.getpid(), signal.SIGKILL)


def train(path, kind, name, seed, resume=False, kill=False):
    set_seed(seed)
    learn = make(path, kind)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(3, 5e-3, cbs=[Checkpoint(f'{kind}_{name}', resume=resume)] + [Killed()]*kill)
    rec = learn.recorder
    torch.save(dict(weights=learn.model.state_dict(), losses=torch.stack(rec.losses).tolist(),
                    lrs=[float(v) for v in rec.lrs],
                    values=[[float(o) for o in v] for v in rec.values],
                    hps={k:[float(o) for o in v] for k,v in rec.hps.items()},
                    sqr=[float(learn.opt.state[p]['sqr_avg'].double().sum()) for p in learn.model.parameters()],
                    train_iter=learn.train_iter,
                    next_draws=[random.random(), np.random.rand(), torch.rand(1).item(),
                                learn.dls.train.rng.random()]), path/f'{kind}_{name}.result')


def killed(path, kind):
    "Train in a child that kills itself; the signal it died of."
    sys.stdout.flush()
    pid = os.fork()
    if pid==0:
        train(path, kind, 'broken', 0, kill=True)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


if __name__=='__main__':
    path,role,kinds = Path(sys.argv[1]),sys.argv[2],sys.argv[3:]
    sounds(path)
    for kind in kinds:
        if role=='whole': train(path, kind, 'whole', 0)
        elif role=='kill': print('died of', killed(path, kind), flush=True)
        else: train(path, kind, 'broken', 1, resume=True)
    if role=='whole': train(path, 'effects', 'other', 1)
