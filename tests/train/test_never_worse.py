"What a musician gets of two recordings: no worse than doing nothing, silent where the rig is, kept whatever happens."
import itertools
import json
import warnings

import pytest
import torch

from fastproaudio.dsp import delay, fft_conv, noise, sine
from fastproaudio.export.network import load_network
from fastproaudio.io import read_audio, write_audio
from fastproaudio.models import FIR, TCN, Parallel
from fastproaudio.train import train_effect
from fastproaudio.train.guard import Guard

SR = 8000


class Ticks:
    "A clock that moves on with every look at it: a run is as long on every machine."
    def __init__(self): self.ticks = itertools.count()
    def __call__(self): return next(self.ticks)


def playing(seconds=8, seed=0):
    "Tones that swell and pause, some noise with them."
    n = seconds*SR
    swell = torch.sin(torch.linspace(0, 12.5*seconds/8, n)).clamp(min=0)
    tones = sum(sine(f, SR, n) for f in (110., 277., 415.))
    return .25*swell*(tones.reshape(1, -1)/3+.5*noise(n, seed=seed))


def hall(x, n=4000):
    return fft_conv(x, .1*noise(n, seed=1)[0]*torch.linspace(0, -6, n).exp())


def train(tmp_path, x, y, minutes=.25, **kwargs):
    write_audio(tmp_path/'dry.wav', x, SR, 'FLOAT'), write_audio(tmp_path/'wet.wav', y, SR, 'FLOAT')
    args = dict(out=tmp_path/'effect', minutes=minutes, clock=Ticks(), quiet=True) | kwargs
    return train_effect(tmp_path/'dry.wav', tmp_path/'wet.wav', **args)


def as_good_as_all(report):
    return report.esr <= min(v for k, v in report.baselines.items())*1.0001


# %% a fitted filter
def test_fitted_taps_do_not_move_in_training():
    x = playing()
    first = FIR(256).fit(x, hall(x, 256))
    assert not first.taps.requires_grad
    net = Parallel(first, TCN(n_blocks=1, channel_width=2))
    assert 'first.taps' not in [k for k, p in net.named_parameters() if p.requires_grad]


@pytest.mark.parametrize('net', ['auto', 'wavenet'])
def test_a_hall_is_never_worse_than_its_filter(tmp_path, net):
    x = playing()
    got = train(tmp_path, x, hall(x), net=net)
    assert as_good_as_all(got.report), (got.report.esr, got.report.baselines)
    assert got.report.esr < .05
    assert type(got.learn.model).__name__ == 'FIR' and 'no better' not in got.report.verdict
    if net == 'wavenet': assert any('is kept in place of the network' in n for n in got.report.notes)
    again = load_network(tmp_path/'effect')                      # a filter is a network like any other
    x = x[:, -SR:]
    with torch.no_grad():
        assert torch.allclose(again(x[None])[0], got.learn.predict(x).as_subclass(torch.Tensor), atol=1e-6)


def test_nothing_to_learn_is_not_praised(tmp_path):
    x = playing()
    got = train(tmp_path, x, x.clone(), minutes=.2, net='wavenet')
    assert as_good_as_all(got.report) and got.report.verdict.startswith('no better than'), got.report.verdict


# %% silence
@pytest.mark.parametrize('net', ['wavenet', 'tcn', 'sidechain'])
def test_silence_is_silent(tmp_path, net):
    x = playing()
    y = .5*torch.tanh(6*x+.8*x.abs())                            # uneven, so that its sound has a mean
    got = train(tmp_path, x, y, net=net)
    quiet = got.learn.predict(torch.zeros(1, SR)).abs().max()
    assert quiet < 1e-5, f'{float(20*quiet.log10()):.0f} dBFS in silence'
    assert got.report.idle_db < -100 and 'in digital silence' in got.report.markdown()


def test_a_rig_with_an_offset_keeps_it(tmp_path):
    x = playing()
    got = train(tmp_path, x, .5*torch.tanh(6*x)+.05, net='wavenet')
    got.learn.model.eval()
    assert abs(float(got.learn.predict(torch.zeros(1, SR))[0, -1])-.05) < 1e-3


# %% a run goes wrong
@pytest.mark.parametrize('lr', [.3, 1e4])
def test_a_run_that_diverges_ends_with_a_result(tmp_path, lr, monkeypatch):
    import fastproaudio.train.auto as auto
    make = auto.effects_learner
    monkeypatch.setattr(auto, 'effects_learner', lambda *args, **kwargs: make(*args, **{**kwargs, 'lr': lr}))
    got = train(tmp_path, playing(), .5*torch.tanh(6*playing()), net='wavenet')
    assert as_good_as_all(got.report) and got.report.esr < 1
    assert torch.isfinite(got.learn.predict(noise(SR, seed=3))).all()
    if lr > 1: assert not got.ok
    load_network(tmp_path/'effect')


def test_weights_that_turn_into_nan_are_put_back(tmp_path, monkeypatch):
    import fastproaudio.train.auto as auto

    class Poison(Guard):
        steps = 0

        def after_step(self):
            self.steps += 1
            if self.steps == 6: next(self.learn.model.parameters()).data.fill_(float('nan'))

    said = []
    monkeypatch.setattr(auto, 'Guard', lambda say: Poison(say=said.append))
    got = train(tmp_path, playing(), .5*torch.tanh(6*playing()), net='wavenet')
    assert got.ok and len(said) == 1 and 'back to the best state' in said[0]
    assert as_good_as_all(got.report)


def test_a_loud_network_is_no_result(tmp_path, monkeypatch):
    import fastproaudio.train.auto as auto

    class Howl(Guard):
        def after_fit(self):
            super().after_fit()
            with torch.no_grad(): self.learn.model.head[2].weight.mul_(1e3)

    monkeypatch.setattr(auto, 'Guard', Howl)
    got = train(tmp_path, playing(), .5*torch.tanh(6*playing()), net='wavenet')
    assert not got.ok and isinstance(got.learn.model, FIR) and got.learn.predict(playing()).abs().max() < 2


# %% recordings
def test_silence_at_the_end_loses_nothing(tmp_path):
    x = playing()
    x[:, int(.8*8*SR):] = 0
    got = train(tmp_path, x, .5*torch.tanh(6*x), net='wavenet')
    assert got.report.esr < 1 and (tmp_path/'effect'/'network.json').exists()


@pytest.mark.parametrize('fault', ['nan', 'denormal', 'zero', 'rate', 'exchanged', 'unrelated'])
def test_what_cannot_be_learned_is_refused_before_time_is_spent(tmp_path, fault):
    x = playing()
    y = .5*torch.tanh(6*x)
    if fault == 'nan': y[0, 4000] = float('nan')
    if fault == 'denormal': y = 1e-40*y.sign()
    if fault == 'zero': y = 0*y
    if fault == 'unrelated': y = .3*noise(y.shape[-1], seed=7)
    write_audio(tmp_path/'dry.wav', x, SR, 'FLOAT')
    if fault == 'nan':
        import soundfile
        soundfile.write(tmp_path/'wet.wav', y[0].numpy(), SR, 'FLOAT')
    else: write_audio(tmp_path/'wet.wav', y, 2*SR if fault == 'rate' else SR, 'FLOAT')
    pair = [tmp_path/'dry.wav', tmp_path/'wet.wav']
    if fault == 'exchanged': pair.reverse()
    clock = Ticks()
    with pytest.raises(ValueError) as e: train_effect(*pair, out=tmp_path/'effect', minutes=1., clock=clock, quiet=True)
    said = str(e.value)
    assert next(clock.ticks) < 5 and not (tmp_path/'effect').exists()
    assert '=True' not in said and 'resample_file' not in said and '\n' not in said, said


def test_a_delay_is_taken_away_and_said(tmp_path, capsys):
    x = .3*noise(8*SR, seed=0)*playing().abs().clamp(min=.02)*8
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        got = train(tmp_path, x, delay(.5*torch.tanh(4*x), 130), net='wavenet', quiet=False)
    said = capsys.readouterr().out
    assert '130 samples (16.25 ms) late' in said and 'align=True' not in said
    assert got.learn.model.record['latency_removed'] == [130] if hasattr(got.learn.model, 'record') else True
    words = json.loads((tmp_path/'effect'/'network.json').read_text())
    assert words['record']['latency_removed'] == [130] and got.report.esr < .9


def test_figures_that_do_not_exist_are_null():
    from fastproaudio.export.network import plain
    words = plain(dict(a=float('inf'), b=[float('nan'), 1.5], c=dict(d=float('-inf'))))
    assert json.loads(json.dumps(words, allow_nan=False)) == dict(a=None, b=[None, 1.5], c=dict(d=None))


def test_a_result_is_swapped_in_whole(tmp_path, monkeypatch):
    import fastproaudio.train.judge as judge
    x = playing()
    train(tmp_path, x, .5*torch.tanh(6*x), minutes=.2, net='wavenet')
    out = tmp_path/'effect'
    (out/'mine.txt').write_text('stays')
    was = {p.name: p.read_bytes() for p in out.iterdir()}

    def killed(*_, **__): raise KeyboardInterrupt
    monkeypatch.setattr(judge, 'write_report', killed)
    with pytest.raises(KeyboardInterrupt): train(tmp_path, x, -x, minutes=.2, net='wavenet')
    assert {k: (out/k).read_bytes() for k in was} == was, 'half of the new result is on the old one'
    monkeypatch.undo()
    train(tmp_path, x, -x, minutes=.2, net='wavenet')
    assert (out/'mine.txt').read_text() == 'stays' and (out/'weights.pt').read_bytes() != was['weights.pt']
    assert not [p for p in tmp_path.iterdir() if p.name.startswith('.export')]
    assert torch.equal(read_audio(out/'wet.wav')[0].sign(), -read_audio(out/'dry.wav')[0].sign())


def test_a_generator_that_diverges_says_so(tmp_path, monkeypatch):
    import fastproaudio.train.generator as generator
    make = generator.autoregressive_learner
    monkeypatch.setattr(generator, 'autoregressive_learner', lambda dls, model: make(dls, model, lr=1e6))
    write_audio(tmp_path/'sound.wav', playing(3), SR, 'FLOAT')
    try:
        learn = generator.train_generator(tmp_path/'sound.wav', tmp_path/'out', .2, net='lstm', n_tokens=16,
                                          seconds=.01, quiet=True, clock=Ticks())
    except ValueError as e: assert 'diverged' in str(e)
    else: assert torch.isfinite(torch.cat([p.flatten() for p in learn.model.parameters()])).all()
