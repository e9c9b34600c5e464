"Encoder-decoders, their variational form, adversaries, and folders prepared at several rates."
from functools import partial

import fastai.callback.schedule  # gives learners fit_one_cycle  # noqa: F401
import pytest
import torch
from fastai.basics import Callback, set_seed

from fastproaudio.data import AudioDataLoaders, prepare_audio
from fastproaudio.dsp import noise, sine
from fastproaudio.io import audio_info, write_audio
from fastproaudio.models import ConvSummary, Discriminator, Generator, Seq2Seq
from fastproaudio.train import autoencoder_learner, critic_accuracy, gan_learner, seq2seq_learner
from fastproaudio.train.seq2seq import PrevNext


MODELS = {
    'samples': lambda: Seq2Seq(hidden=8),
    'samples_stereo': lambda: Seq2Seq(hidden=8, n_layers=1, n_in=2),
    'frames': lambda: Seq2Seq(hidden=8, summary=ConvSummary((2, 5), (4, 6))),
    'frames_stereo': lambda: Seq2Seq(hidden=8, summary=ConvSummary((3,), (4,), n_in=2)),
    'samples_z': lambda: Seq2Seq(hidden=8, n_z=3),
    'frames_z': lambda: Seq2Seq(hidden=8, summary=ConvSummary((2, 5), (4, 6)), n_z=3),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]()


def sound(m, n, bs=3): return torch.stack([noise(n, seed=i, n_ch=m.n_in, amp=.3) for i in range(bs)])


@pytest.mark.parametrize('a,b', [(1, 1), (37, 23), (20, 10), (5, 41)])
def test_any_two_lengths(model, a, b):
    x = sound(model, a+b)
    assert model(x[..., :a], x[..., a:]).shape == (3, model.n_in, b)
    assert model.generate(x[..., :a], b).shape == (3, model.n_in, b)


def test_told_everything_is_one_parallel_pass(model):
    if model.n_z: pytest.skip('its start is drawn')
    x = sound(model, 60)
    prev, targ = x[..., :30], x[..., 30:]
    state, last = model.encode(prev)
    want = model._run(torch.cat([last, model.frames(targ)[:, :-1]], 1), state, None)
    torch.testing.assert_close(model(prev, targ), model.wave(want, 30), atol=1e-6, rtol=0)


def test_told_nothing_is_greedy(model):
    x = sound(model, 60)
    prev, targ = x[..., :30], x[..., 30:]
    greedy = model.eval()(prev, targ)
    torch.testing.assert_close(model.generate(prev, 30, z_scale=0.), greedy, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(prev, 0*targ), greedy, atol=0, rtol=0)   # eval mode does not look at what follows
    torch.testing.assert_close(model(prev[1:2], targ[1:2]), greedy[1:2], atol=1e-6, rtol=0)
    if model.n_z: return
    model.train().teacher_forcing = 0.
    torch.testing.assert_close(model(prev, targ), greedy, atol=1e-6, rtol=0)


def test_partly_told_equals_the_loop():
    torch.manual_seed(0)
    m, x = Seq2Seq(hidden=8), torch.stack([noise(60, seed=i) for i in range(2)])
    m.teacher_forcing = .6
    torch.manual_seed(1)
    got = m(x[..., :30], x[..., 30:])
    torch.manual_seed(1)
    told = torch.rand(30) < .6
    state, f = m.encode(x[..., :30])
    truth, out = m.frames(x[..., 30:]), []
    for t in range(30):
        inp = f if t == 0 else truth[:, t-1:t] if told[t] else out[-1]
        out.append(m._run(inp, state, None))
    torch.testing.assert_close(got, m.wave(torch.cat(out, 1), 30), atol=1e-6, rtol=0)
    assert 5 < told.sum() < 25


def test_gradients_reach_every_weight(model):
    x = sound(model, 60)
    (model(x[..., :30], x[..., 30:]).pow(2).mean()+model.kl).backward()
    for name, p in model.named_parameters(): assert p.grad is not None and p.grad.abs().max() > 0, name


def test_latent_variable_steers():
    torch.manual_seed(0)
    m, x = MODELS['samples_z'](), torch.stack([noise(30, seed=i) for i in range(2)])
    assert torch.equal(m.generate(x, 20, seed=1), m.generate(x, 20, seed=1))
    spread = [torch.stack([m.generate(x, 20, z_scale=s, seed=i) for i in range(8)]).std(0).mean() for s in (0., 1., 3.)]
    assert spread[0] == 0 < spread[1] < spread[2]
    a, b = [m.generate(x, 20, seed=1, changes=c) for c in (None, [(8, torch.full((2, 3), 2.))])]
    assert torch.equal(a[..., :8], b[..., :8]) and (a-b)[..., 8:].abs().max() > 1e-5
    mean, log_var = m.infer(m.encode(x)[0])
    m(x, x)
    here, prior = torch.distributions.Normal(mean, (.5*log_var).exp()), torch.distributions.Normal(0., 1.)
    want = torch.distributions.kl_divergence(here, prior).sum(1).mean()
    torch.testing.assert_close(m.kl, want)


@pytest.mark.parametrize('make,match', [
    (lambda: Seq2Seq(hidden=0), 'at least 1'),
    (lambda: Seq2Seq(teacher_forcing=1.1), 'teacher_forcing'),
    (lambda: ConvSummary((2, 3), (4,)), 'strides'),
    (lambda: Seq2Seq(hidden=4).generate(torch.zeros(1, 1, 5), 0), 'n >= 1'),
    (lambda: Seq2Seq(hidden=4).generate(torch.zeros(1, 1, 5), 1.5), 'n >= 1'),
    (lambda: Seq2Seq(hidden=4)(torch.zeros(1, 5), torch.zeros(1, 1, 5)), '1, samples'),
    (lambda: Seq2Seq(hidden=4).infer([]), 'n_z'), (lambda: PrevNext(5, 5, min_next=0), 'min_next')])
def test_bad_settings_say_what_was_expected(make, match):
    with pytest.raises(ValueError, match=match): make()


# training

@pytest.fixture
def tone(tmp_path):
    write_audio(tmp_path/'tone.wav', sine(500, 8000, 8000, amp=.5)[None], 8000)
    return tmp_path/'tone.wav'


def test_batches_hold_neighbours_of_random_length(tone):
    dls, sizes = AudioDataLoaders.from_prev_next(tone, 90, 50, 20, 10, bs=4, seed=0), set()
    whole = torch.from_numpy(dls.train._files[0][0].read(0, 8000).numpy())
    for _ in range(4):
        for x, y in dls.train:
            sizes.add((x.shape[-1], y.shape[-1]))
            joined = torch.cat([x, y], -1).as_subclass(torch.Tensor)
            for row, item in zip(x.rows, joined):
                s = int(dls.train.table[row, 1])+90-x.shape[-1]
                assert torch.equal(item, whole[:, s:s+item.shape[-1]])
    assert len(sizes) > 10 and max(a for a, _ in sizes) <= 90 and min(b for _, b in sizes) >= 10


def test_schedules_run_over_the_fit(tone):
    dls, seen = AudioDataLoaders.from_prev_next(tone, 40, 20, bs=16, seed=0), []
    learn = seq2seq_learner(dls, Seq2Seq(hidden=4, n_layers=1, n_z=2), teacher_forcing=(.9, .1), kl_weight=.5)
    class Look(Callback):
        order = 30
        def after_loss(self):
            m = self.learn.model
            if self.training: seen.append((m.teacher_forcing, ((self.loss_grad-self.loss)/m.kl).item()))
    with learn.no_bar(), learn.no_logging(): learn.fit(2, cbs=Look())
    ratios, weights = zip(*seen)
    assert abs(ratios[0]-.9) < 1e-6 and ratios[-1] < .25 and list(ratios) == sorted(ratios, reverse=True)
    assert abs(weights[0]) < 1e-3 and abs(weights[-1]-.5) < 1e-2


def test_two_stages_freeze_the_frames(tone):
    set_seed(0)
    dls = AudioDataLoaders.from_prev_next(tone, 96, 64, bs=16, seed=0)
    auto = autoencoder_learner(dls, ConvSummary((4,), (8,)), lr=1e-2)
    with auto.no_bar(), auto.no_logging():
        before = auto.validate()[0]
        auto.fit(6)
        assert auto.validate()[0] < .2*before
        learn = seq2seq_learner(dls, Seq2Seq(hidden=8, n_layers=1, summary=auto.model))
        learn.freeze()
        kept = [p.clone() for p in auto.model.parameters()]
        learn.fit(1)
        assert all(torch.equal(p, q) for p, q in zip(auto.model.parameters(), kept))
        learn.unfreeze()
        learn.fit(1)
        assert not all(torch.equal(p, q) for p, q in zip(auto.model.parameters(), kept))


def test_adversaries_change_one_at_a_time_and_stay_in_play(tone):
    set_seed(0)
    x = sine(500, 8000, 12_000, amp=.5)[None]+noise(12_000, seed=0, amp=.02) # no generator foresees it
    write_audio(tone, x, 8000)
    dls = AudioDataLoaders.from_prev_next(tone, 128, 128, whole=True, bs=8, seed=0)
    learn, moved = gan_learner(dls, Generator((4,), (12,)), Discriminator((4, 4), (8, 8))), []
    class Look(Callback):
        run_after = type(learn.cbs[0])
        def before_batch(self):
            nets = (self.model.generator, self.model.critic)
            self.was = [[p.clone() for p in m.parameters()] for m in nets]
        def after_step(self):
            now = [list(m.parameters()) for m in (self.model.generator, self.model.critic)]
            moved.append(tuple(any(not torch.equal(a, b) for a, b in zip(w, n)) for w, n in zip(self.was, now)))
    with learn.no_bar(), learn.no_logging(): learn.fit(20, 2e-3, cbs=Look())
    assert {(True, False), (False, True)} == set(moved)
    x, _ = dls.valid.one_batch()
    x = x.as_subclass(torch.Tensor)
    with torch.no_grad(): made = learn.model.generator.eval()(x)
    assert torch.equal(made[..., :128], x)
    power = torch.fft.rfft(made[..., 128:]*torch.hann_window(128)).abs().square().mean((0, 1))
    assert power[6:11].sum() > .8*power.sum() and made[..., 128:].std() > .1
    assert .5 < critic_accuracy(learn) <= 1


# folders

def test_prepared_folders_train_at_each_rate(tmp_path):
    (tmp_path/'in').mkdir()
    for i in range(3): write_audio(tmp_path/'in'/f'{i}.wav', noise(4410, seed=i, n_ch=2), 44100)
    folders = prepare_audio(tmp_path/'in', tmp_path/'out', sr=[44100, 11025, 8000], n_ch=1, progress=False)
    for sr, f in folders.items():
        dls = AudioDataLoaders.from_files(f, chunk_len=100, bs=2, seed=0)
        assert dls.sr == sr and dls.one_batch()[0].shape == (2, 100)
        assert all(abs(audio_info(o).n-4410*sr/44100) < 1 for o in f.glob('*'))


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    (tmp_path/'in').mkdir()
    for i in range(4): write_audio(tmp_path/'in'/f'{i}.wav', noise(800, seed=i), 8000)
    import fastproaudio.data.prepare as prepare
    real, calls = prepare.resample_file, []
    def fails_at_third(*args):
        calls.append(args[0])
        if len(calls) == 3: raise KeyboardInterrupt
        return real(*args)
    monkeypatch.setattr(prepare, 'resample_file', fails_at_third)
    make = partial(prepare_audio, tmp_path/'in', tmp_path/'out', sr=4000, n_workers=1, progress=False)
    with pytest.raises(KeyboardInterrupt): make()
    assert len(list((tmp_path/'out').rglob('*.flac'))) == 2
    make()
    assert len(calls) == 5 and len([o for o in (tmp_path/'out').rglob('*') if o.is_file()]) == 4
    make()
    assert len(calls) == 5
