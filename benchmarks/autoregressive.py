"""Learn to predict music sample by sample, for so many seconds of training, and print bits per sample along the way.

Beside it: the predictors that need no network, and fastai's own language model (AWD-LSTM) of the same width,
depth and dropout on the same tokens and streams for the same time. Example: `python benchmarks/autoregressive.py
--seconds 60 --out music.wav`.
`--toy` trains `build_wavenet_toy` (10 levels) for so many seconds of CPU time instead, on three tones in noise
or, with `--words FOLDER`, on a folder with one folder of clips for each word, converted to `--sr`; its test
clips lie in folders named `test`.
"""
import argparse
import math
import tempfile
import time
import warnings
from pathlib import Path

import torch
from fastai.basics import *
from fastai.callback.rnn import ModelResetter
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config
from fastai.text.models.core import get_language_model

import fastproaudio
from fastproaudio.data import AudioDataLoaders, AudioTensor, get_audio_files, prepare_audio, SpeechCommands
from fastproaudio.dsp import mu_law_decode, mu_law_encode, noise, rms_db, sine
from fastproaudio.io import write_audio
from fastproaudio.models import build_wavenet_toy, SampleLSTM
from fastproaudio.train import autoregressive_learner, NextBaselines
from fastproaudio.train.next_sample import next_baselines


class Stopwatch(Callback):
    "Stop the fit after so many seconds of training; validate now and then, off the clock."
    order = 70
    def __init__(self, seconds, n_points, label): self.seconds,self.n_points,self.label = seconds,n_points,label
    def before_fit(self): self.spent,self.rows,self.samples = 0.,[],0
    def before_batch(self): self.t = time.perf_counter()
    def after_batch(self):
        if not self.training: return
        self.spent += time.perf_counter()-self.t
        self.samples += self.y.numel()
        left = 1-self.spent/self.seconds
        for h in self.opt.hypers: h['lr'] = self.lr*min(1, max(0., 1.4*left)) # hold, then fall to 0
        if self.spent>=self.seconds: raise CancelFitException()
        if self.spent>=self.seconds*(len(self.rows)+1)/self.n_points: self.point()
    def after_fit(self): self.point()
    def point(self):
        bits,match = judge(self.learn)
        self.rows.append((self.spent, bits, match))
        rate = self.samples/max(self.spent, 1e-9)
        print(f"{self.label:>12} {self.spent:8.1f} s {rate:10.0f} samples/s "
              f"{bits:8.3f} bits {match:7.3f} match "
              f"({self.smooth_loss.item()/math.log(2):.3f} bits in training)", flush=True)


@torch.no_grad()
def judge(learn):
    "Bits per sample and share of right guesses on the validation set, streams carried."
    model,dl = learn.model.eval(),learn.dls.valid
    total = right = n = 0
    state,rows = None,[]
    if hasattr(model, 'reset'): model.reset()
    for x,y in dl:
        if hasattr(model, 'init_state'):
            fresh = model.init_state(len(x))
            if state is not None:
                keep = torch.as_tensor(dl.continues(x.rows, rows))[:, None]
                fresh = [torch.where(keep, a[:len(x)], b) for a,b in zip(state, fresh)]
            state,rows = fresh,x.rows
            out = model(cast(x, Tensor), state)
        else: out = model(cast(x, Tensor))[0]
        y = cast(y, Tensor)
        total += F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction='sum').item()
        right,n = right+(out.argmax(-1)==y).sum().item(),n+y.numel()
    if hasattr(model, 'reset'): model.reset()
    model.train()
    return total/n/math.log(2),right/n


def peer_learner(dls, a):
    "fastai's language model on the same batches, as wide, as deep and as regularised as ours."
    config = {**awd_lstm_lm_config, 'emb_sz':a.hidden, 'n_hid':a.hidden, 'n_layers':1,
              'pad_token':a.tokens, 'tie_weights':True,
              'weight_p':max(a.weight_p, 1e-6), 'output_p':a.output_p,
              **{k:0. for k in ('hidden_p', 'input_p', 'embed_p')}}
    model = get_language_model(AWD_LSTM, a.tokens+1, config=config)
    loss = lambda out,y: F.cross_entropy(out[0].flatten(0, 1), y.flatten())
    return Learner(dls, model, loss_func=loss, lr=3e-3, cbs=[ModelResetter()], wd=0.)


def write(learn, f, a):
    "Go on after the loudest half second of a recording, and say how loud that is."
    x = AudioTensor.create(f)
    frames = cast(x, Tensor)[:, :x.nsamples//a.sr*a.sr].unflatten(-1, (-1, a.sr//2)).square().mean((0, 2))
    prompt = x[:, frames.argmax()*a.sr//2:][:, :a.sr//2]
    y = learn.generate(2*a.sr, prompt=prompt, temperature=.9, seed=0)
    y.save(a.out)
    print(f"{a.out}: prompt {rms_db(cast(prompt, Tensor))[0]:.1f} dBFS, "
          f"generated {rms_db(cast(y, Tensor))[0]:.1f} dBFS")


@torch.no_grad()
def linear_match(dl, taps=32):
    """How often a linear predictor is right that reads the same tokens and was fitted to the very sounds it is
    judged on (32 taps for each chunk)."""
    right = n = 0
    for x,y in dl:
        for xs,ys in zip(*(cast(o, Tensor)[:, -dl.chunk_len:] for o in (x, y))):
            past,want = (mu_law_decode(o, 10).double() for o in (xs, ys))
            rows = F.pad(past, (taps-1, 0)).unfold(0, taps, 1)
            guess = rows@torch.linalg.lstsq(rows+1e-6*torch.randn(rows.shape, dtype=rows.dtype), want[:, None]).solution
            right,n = right+(mu_law_encode(guess[:, 0].float(), 10)==ys).sum().item(),n+len(ys)
    return right/n


def toy(a):
    "The preset that learns in a minute: cross-entropy and accuracy beside those of copy-last and majority."
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp)
        args = dict(n_tokens=10, chunk_len=max(2048, a.sr//2), bs=2, seed=0)
        if a.words:
            words = prepare_audio(a.words, path/'words', a.sr, n_ch=1, progress=False)[a.sr]
            held_out = [str(f.relative_to(words)) for f in get_audio_files(words)
                        if 'test' in f.relative_to(words).parts]
            (words/'validation_list.txt').write_text('\n'.join(held_out))
            dls = SpeechCommands(words, check=False, **args)
        else:
            tones = sum(sine(f, a.sr, 10*a.sr, amp=.25)
                        for f in (220, 523.25, 1318.51))[None]+noise(10*a.sr, seed=0, amp=.05)
            write_audio(path/'tones.wav', tones, a.sr)
            dls = AudioDataLoaders.from_files(path/'tones.wav', carry=False, **args)
        torch.manual_seed(0)
        learn = autoregressive_learner(dls, build_wavenet_toy(), path=path).to_bf16()
        beat,linear = next_baselines(dls),linear_match(dls.valid)
        learn.remove_cb(NextBaselines)
        with learn.no_bar(), learn.no_logging():
            learn.fit_for(a.seconds/60, 6e-3, clock=time.process_time)
            _,bits,_,match = learn.validate()
        print(f"{a.words or 'tones in noise'}, {a.sr} Hz: cross-entropy {bits*math.log(2):.3f}, accuracy {match:.1%}; "
              f"copy-last {beat['copy-last']*math.log(2):.3f}, {beat['copy-last match']:.1%}; "
              f"majority {beat['majority']*math.log(2):.3f}, "
              f"{beat['majority match']:.1%}; 32 taps fitted to each test chunk {linear:.1%}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--train', type=Path, default=None, help='recording or folder; the one in the package if left out')
    p.add_argument('--valid', type=Path, default=None, help='recording or folder')
    p.add_argument('--sr', type=int, default=8000)
    p.add_argument('--tokens', type=int, default=256)
    p.add_argument('--hidden', type=int, default=128)
    p.add_argument('--seconds', type=float, default=60., help='of training, for each model')
    p.add_argument('--lr', type=float, default=4e-3)
    p.add_argument('--weight-p', type=float, default=.3, help='dropout of recurrent weights, in both')
    p.add_argument('--output-p', type=float, default=.1, help='dropout of the last features, in both')
    p.add_argument('--gain-db', type=float, default=8.,
                   help='louder and softer by up to this much, and upside down, in training; 0: as it is')
    p.add_argument('--chunk', type=int, default=128)
    p.add_argument('--bs', type=int, default=16)
    p.add_argument('--no-peer', action='store_true')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--out', type=Path, default=None, help='write two seconds of what it generates to this file')
    p.add_argument('--toy', action='store_true', help='the toy WaveNet on tones in noise, or on --words')
    p.add_argument('--words', type=Path, default=None, help='folder of clips for --toy')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    if a.toy: return toy(a)
    bundle = Path(fastproaudio.__file__).parent/'bundle'/'guitar_dist'
    train,valid = a.train or bundle/'train_input.flac',a.valid or bundle/'test_input.flac'
    with tempfile.TemporaryDirectory() as tmp, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from fastproaudio.io.writers import resample_file
        for name,f in (('train', train), ('valid', valid)):
            if f.is_dir(): prepare_audio(f, Path(tmp)/name, a.sr, n_ch=1, progress=False)
            else:
                (Path(tmp)/name).mkdir()
                resample_file(f, Path(tmp)/name/f'{name}.wav', a.sr, 'PCM_16')
        dls = AudioDataLoaders.from_files(Path(tmp)/'train', valid=Path(tmp)/'valid',
                                          n_tokens=a.tokens, chunk_len=a.chunk, bs=a.bs,
                                          val_bs=64, seed=0, read_len=16*a.chunk,
                                          gain_db=a.gain_db, flip_polarity=a.gain_db>0)
        print(f"{a.sr} Hz, {a.tokens} tokens, "
              f"{dls.train.n*a.chunk/a.sr:.0f} s train, {dls.valid.n*a.chunk/a.sr:.0f} s valid, {a.threads} thread(s)")
        for k,v in next_baselines(dls).items(): print(f"{k:>22} {v:8.3f} {'match' if 'match' in k else 'bits'}")
        torch.manual_seed(0)
        learn = autoregressive_learner(dls, SampleLSTM(a.tokens, hidden=a.hidden,
                                                       weight_p=a.weight_p, output_p=a.output_p), lr=a.lr)
        learn.remove_cb(NextBaselines)
        run(learn, Stopwatch(a.seconds, 5, 'SampleLSTM'), a.lr)
        if a.out: write(learn, next((Path(tmp)/'valid').rglob('*.*')), a)
        if not a.no_peer:
            torch.manual_seed(0)
            run(peer_learner(dls, a), Stopwatch(a.seconds, 5, 'AWD-LSTM'), a.lr)


def run(learn, watch, lr):
    "Train until the watch says stop."
    watch.lr = lr
    with learn.no_bar(), learn.no_logging(), learn.added_cbs(watch): learn.fit(10_000, lr)


if __name__=='__main__': main()
