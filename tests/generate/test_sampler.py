"""One sampler for all: beams, strategies by name, encoder-decoders; conditions from the loaders to the sound;
streams in flat memory."""
import itertools
import os

import numpy as np
import pytest
import torch
from fastai.basics import Path, parent_label
import fastai.callback.schedule  # noqa: F401  (gives learners fit_one_cycle)

from fastproaudio.data import (AudioDataLoaders, AudioTensor, logit_to_categorical, mu_law_decoding,
                               mu_law_encoding, prepare_audio, waveform_to_categorical, waveform_to_input)
from fastproaudio.data.conditions import KnobsOf
from fastproaudio.dsp import noise, sine
from fastproaudio.generate import generate, generate_blocks, sample, sample_blocks
from fastproaudio.io import write_audio
from fastproaudio.models import ConvSummary, Discriminator, Generator, SampleLSTM, SampleWaveNet, Seq2Seq
from fastproaudio.train import autoregressive_learner, gan_learner, seq2seq_learner
from fastproaudio.train.next_sample import compare_learners



def nets():
    torch.manual_seed(3)
    a, b = SampleLSTM(4, hidden=6, emb=3), SampleWaveNet(4, 6, 6, n_layers=3, n_blocks=1)
    with torch.no_grad():
        a.weight.mul_(6)
        b.post2.weight.mul_(8)
    return dict(lstm=a.eval(), wavenet=b.eval())


def log_p(m, prompt, t):
    x = torch.cat([prompt.expand(len(t), -1), t], 1)
    with torch.no_grad(): out = m(x[:, :-1])[:, prompt.shape[1]-1:].double().log_softmax(-1)
    return out.gather(2, t[..., None])[..., 0].sum(1)


# beams

@pytest.mark.parametrize('name', nets())
def test_wide_beam_is_exhaustive_search(name):
    m, prompt = nets()[name], torch.tensor([[1, 3, 0, 2]])
    every = torch.tensor(list(itertools.product(range(4), repeat=5)))
    odds = log_p(m, prompt, every)
    assert torch.equal(sample(m, 5, prompt=prompt, beam_width=4**4), every[odds.argmax()][None])
    narrow = log_p(m, prompt, sample(m, 5, prompt=prompt, beam_width=3))
    assert narrow <= odds.max()+1e-9
    assert torch.equal(sample(m, 5, prompt=prompt, beam_width=1), sample(m, 5, prompt=prompt, temperature=0.))


@pytest.mark.parametrize('name', nets())
def test_beams_of_a_batch_are_those_of_each(name):
    m, prompts = nets()[name], torch.randint(4, (3, 7), generator=torch.Generator().manual_seed(0))
    together = sample(m, 9, prompt=prompts, batch=3, beam_width=5)
    alone = torch.cat([sample(m, 9, prompt=p, beam_width=5) for p in prompts])
    assert torch.equal(together, alone) and len(together.unique(dim=0)) > 1
    assert torch.equal(torch.cat(list(sample_blocks(m, 9, prompt=prompts, batch=3, beam_width=5, block=4)), 1),
                       together)


def test_beams_with_conditions():
    torch.manual_seed(0)
    m = SampleWaveNet(4, 6, 6, n_layers=3, n_blocks=1, n_knobs=2, n_local=1, hop=3)
    kw = dict(prompt=torch.tensor([[1, 2]]), local=torch.rand(1, 9))
    a, b = [sample(m, 8, knobs=k, batch=1, beam_width=4, **kw) for k in torch.eye(2)]
    both = sample(m, 8, knobs=torch.eye(2), batch=2, beam_width=4, **kw)
    assert torch.equal(both, torch.cat([a, b]))


def test_strategies_by_name():
    m = nets()['lstm']
    kw = dict(prompt=torch.tensor([[1, 2]]), seed=0)
    assert torch.equal(sample(m, 30, sampling_strategy='max', **kw), sample(m, 30, temperature=0., **kw))
    assert torch.equal(sample(m, 30, sampling_strategy='sample', temperature=.7, **kw),
                       sample(m, 30, temperature=.7, **kw))
    assert torch.equal(sample(m, 12, sampling_strategy='beam', **kw), sample(m, 12, beam_width=10, **kw))


def test_a_random_beginning():
    m = nets()['wavenet']
    firsts = {tuple(sample(m, 6, rando=True, temperature=0., seed=s)[0].tolist()) for s in range(12)}
    assert len(firsts) > 1 and torch.equal(sample(m, 6, rando=True, seed=1), sample(m, 6, rando=True, seed=1))


@pytest.mark.parametrize('kw,words', [
    (dict(sampling_strategy='best'), 'sampling_strategy'),
    (dict(sampling_strategy='max', beam_width=3), 'beam_width belongs'), (dict(beam_width=0), 'beam_width >= 1'),
    (dict(n=None, beam_width=3), 'say how many'), (dict(rando=True, prompt=torch.tensor([1])), 'rando'),
    (dict(beam_width=2, engine='numba'), 'eager'),
    (dict(knobs=torch.ones(2)), 'no knobs'), (dict(local=torch.ones(1, 9)), 'no local'),
    (dict(changes=[(1, torch.ones(2))]), 'latent')])
def test_bad_settings_are_refused(kw, words):
    with pytest.raises(ValueError, match=words): list(sample_blocks(nets()['lstm'], **{'n': 5, **kw}))


NAN, INF, HUGE = float('nan'), float('inf'), 2**64
EVERY = dict(lstm=lambda: SampleLSTM(5, hidden=6),
             lstm_stereo=lambda: SampleLSTM(0, hidden=6, head='gaussian', n_in=2),
             wavenet=lambda: SampleWaveNet(5, 4, 4, n_layers=3, n_blocks=1),
             wavenet_mol=lambda: SampleWaveNet(0, 4, 4, n_layers=3, n_blocks=1, head='mol'),
             seq2seq=lambda: Seq2Seq(6), drawn=lambda: Seq2Seq(6, summary=ConvSummary((2, 5), (3, 4)), n_z=2),
             gan=lambda: Generator((2,), (4,)))
WAYS = [(name, engine, batch) for name in EVERY
        for engine in (('eager', 'numba') if 'lstm' in name or 'wavenet' in name else ('eager',)) for batch in (1, 16)]
BAD = dict(n=[-1, 1.5, 2., NAN, True, '5', [5], None], temperature=[-1, NAN, INF, 'a', None, True, [1.]],
           batch=[0, -1, 1.5, None, True, 'a'],
           seed=[-1, 1.5, NAN, 'a', True, [1, 2], HUGE], block=[0, -1, 1.5, NAN, 'a'],
           top_k=[0, -1, 6, 1.5, True, NAN, 'a'], top_p=[0, -.1, 1.1, NAN, 'a', [.5]],
           beam_width=[0, 1.5, 'a'], knobs=[torch.ones(2)], local=[torch.ones(1, 9)], engine=[None, 'abacus'])


@pytest.mark.parametrize('name,engine,batch', WAYS)
def test_every_way_in_refuses_settings_that_mean_nothing(name, engine, batch):
    m = EVERY[name]()
    for key, values in BAD.items():
        says = rf'expected (engine|a CUDA|(an? )?{key}\b)|no {key}'
        if key in ('top_k', 'top_p', 'beam_width') and getattr(m, 'head', '') != 'categorical':
            says = 'choose among tokens'
        for v in values:
            with pytest.raises(ValueError, match=says):
                generate(m, **{'n': 5, 'engine': engine, 'batch': batch, 'seed': 0, key: v})
    assert generate(m, n=np.int64(5), engine=engine, batch=batch,
                    seed=np.int64(3)).shape == (batch, getattr(m, 'n_in', 1), 5)
    n = torch.tensor(5)
    assert generate(m, n, engine=engine, batch=batch).shape[2] == 5 and n == 5                 # it is not counted down


@pytest.mark.parametrize('name,engine,batch', WAYS)
def test_every_way_in_refuses_prompts_that_are_no_sound(name, engine, batch):
    m = EVERY[name]()
    c, tokens, late = m.n_in, getattr(m, 'head', '') == 'categorical', torch.zeros(m.n_in, 30)
    late[-1, -1] = NAN
    bad = [(late, 'finite'), (torch.full((c, 5), INF), 'finite'), (torch.zeros(c+1, 9), r'\(batch'),
           (torch.zeros(1, 1, c, 9), r'\(batch'), (torch.zeros(3, c, 9), 'pass batch=3'),
           (torch.tensor(.5), 'real numbers'), (torch.zeros(c, 9, dtype=torch.complex64), 'real numbers'),
           (torch.zeros(c, 9, dtype=torch.bool), 'real numbers'),
           (torch.zeros(c, 9, device='meta'), 'real numbers'), ('a.wav', 'read_audio'),
           ({}, 'got dict'), (torch.full((c, 2), 300, dtype=torch.int16), '0..4' if tokens else 'floating-point')]
    if tokens:
        bad += [(torch.tensor([5]), r'0\.\.4'), (torch.tensor([-1]), r'0\.\.4'),
                (torch.zeros(1, 1, 9, dtype=torch.int64), r'\(batch, samples\)')]
    for prompt, says in bad:
        with pytest.raises(ValueError, match=says): generate(m, 5, prompt=prompt, engine=engine, batch=batch)
    for fine in (torch.zeros(c, 0), [], torch.zeros(c, 1), torch.zeros(c, 9000),
                 np.zeros((c, 9), np.float32), torch.zeros(c, 9, dtype=torch.float64)):
        y = generate(m, 5, prompt=fine, engine=engine, batch=batch, seed=0)
        assert y.shape == (batch, c, 5) and y.isfinite().all()


@pytest.mark.parametrize('name,engine', [w[:2] for w in WAYS if w[2] == 1])
def test_a_model_that_answers_nan_is_named(name, engine):
    m = EVERY[name]()
    with torch.no_grad():
        for p in m.parameters(): p.fill_(NAN)
    with pytest.raises(ValueError, match='got NaN; its training went wrong'): generate(m, 5, engine=engine)


@pytest.mark.parametrize('name,engine', [w[:2] for w in WAYS if w[2] == 1 and 'lstm' in w[0] or 'wavenet' in w[0]])
@pytest.mark.parametrize('temperature', [1e-38, 1e-45, 1e-310, 5e-324])
def test_the_smallest_temperatures_are_as_none(name, engine, temperature):
    torch.manual_seed(0)
    m = EVERY[name]()
    assert torch.equal(sample(m, 20, temperature=temperature, engine=engine, seed=1),
                       sample(m, 20, temperature=0, engine=engine, seed=1))


@pytest.mark.parametrize('knobs', [torch.full((2,), NAN), torch.full((2,), INF), 'a', {}])
def test_conditions_that_are_no_numbers_are_refused(knobs):
    m = SampleWaveNet(0, 4, 4, n_layers=3, n_blocks=1, n_knobs=2, n_local=1, head='mol')
    with pytest.raises(ValueError, match='expected (finite )?knobs'): sample(m, 5, knobs=knobs, local=torch.zeros(1, 9))
    with pytest.raises(ValueError, match='expected (finite )?local'): sample(m, 5, knobs=torch.zeros(2), local=knobs)


@pytest.mark.parametrize('changes,words', [([1], 'sample >= 0'), ('a', 'sample >= 0'),
                                           ([(1.5, torch.ones(2))], 'sample >= 0'),
                                           ([(1, torch.full((2,), NAN))], 'NaN or Inf'),
                                           ([(-1, torch.ones(2))], 'sample >= 0'), ([(1, torch.ones(3))], 'z of 2')])
def test_changes_that_are_none(changes, words):
    with pytest.raises(ValueError, match=words): generate(EVERY['drawn'](), 5, changes=changes)


@pytest.mark.parametrize('name', ['lstm', 'wavenet'])
def test_networks_refuse_tokens_that_they_have_not(name):
    m = EVERY[name]()
    for bad in ([[5]], [[-1]], [[0, 1, 99]]):
        with pytest.raises(ValueError, match=r'expected tokens in 0\.\.4'): m(torch.tensor(bad))
        with pytest.raises(ValueError, match=r'expected tokens in 0\.\.4'): m.stream(torch.tensor(bad), m.init_state(1))
    for bad in (torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 1, 9, dtype=torch.int64), torch.zeros(1, 1, 9)):
        with pytest.raises(ValueError, match='expected'): m(bad)


@pytest.mark.parametrize('name', ['lstm_stereo', 'wavenet_mol'])
def test_networks_of_samples_refuse_what_is_no_waveform(name):
    m = EVERY[name]()
    for bad in (torch.zeros(1, m.n_in, 9, dtype=torch.int64), torch.zeros(1, m.n_in+1, 9),
                torch.zeros(m.n_in, 9), torch.zeros(1, m.n_in, 0)):
        with pytest.raises(ValueError, match='expected'): m(bad)


# a long prompt

@pytest.mark.parametrize('n', [1, 5, 8, 4095, 4096, 10_000])
@pytest.mark.parametrize('name', nets())
def test_prompts_of_any_length(name, n):
    m, prompt = nets()[name], torch.randint(4, (1, n), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): want = m(prompt)[:, -1].argmax(-1)
    assert sample(m, 1, prompt=prompt, temperature=0.).item() == want.item()


# what goes on by itself

GOING = dict(samples=lambda: Seq2Seq(6), frames=lambda: Seq2Seq(6, summary=ConvSummary((2, 5), (3, 4))),
             drawn=lambda: Seq2Seq(6, n_z=2),
             drawn_frames=lambda: Seq2Seq(6, summary=ConvSummary((3,), (4,)), n_z=2),
             stereo=lambda: Seq2Seq(6, n_in=2), gan=lambda: Generator((2,), (4,)))


@pytest.mark.parametrize('name', GOING)
def test_encoder_decoders_in_the_one_sampler(name):
    torch.manual_seed(0)
    m = GOING[name]()
    heard = torch.rand(2, m.n_in, 31, generator=torch.Generator().manual_seed(0))-.5
    y = generate(m, 50, prompt=heard, batch=2, seed=4)
    assert y.shape == (2, m.n_in, 50) and m.training
    for block in (1, 7, 100):
        torch.testing.assert_close(torch.cat(list(generate_blocks(m, 50, prompt=heard, batch=2,
                                                                  seed=4, block=block)), -1), y, atol=1e-6, rtol=0)
    assert generate(m, 0, prompt=heard, batch=2).shape == (2, m.n_in, 0)
    endless = generate_blocks(m, prompt=heard, batch=2, block=20)
    assert [next(endless).shape[-1] for _ in range(3)] == [20, 20, 20]
    if name in ('drawn', 'drawn_frames', 'gan'):
        spread = [torch.stack([generate(m, 30, prompt=heard, batch=2, temperature=t, seed=s)
                               for s in range(5)]).std(0).mean() for t in (0., 1., 3.)]
        assert spread[0] == 0 < spread[1] < spread[2]
    else:
        with pytest.raises(ValueError, match='no temperature changes'):
            generate(m, 5, prompt=heard, batch=2, temperature=.3)
    if isinstance(m, Seq2Seq): torch.testing.assert_close(y, m.generate(heard, 50, seed=4), atol=1e-6, rtol=0)


@pytest.mark.parametrize('kw,words', [(dict(top_k=3), 'tokens'), (dict(beam_width=3), 'tokens'),
                                      (dict(engine='numba'), 'eager'), (dict(knobs=torch.ones(1)), 'no knobs'),
                                      (dict(changes=[(2, torch.ones(3))]), 'z of 2'),
                                      (dict(prompt=torch.zeros(2, 2, 9)), r'\(batch, 1'), (dict(n=-1), 'n >= 0')])
def test_encoder_decoders_refuse_what_they_have_not(kw, words):
    with pytest.raises(ValueError, match=words):
        generate(GOING['drawn'](), **{'n': 9, 'prompt': torch.zeros(1, 1, 9), **kw})


def test_a_generator_and_its_critic_share_the_call_too(tmp_path):
    write_audio(tmp_path/'a.wav', sine(500, 8000, 4000, amp=.5)[None], 8000)
    dls = AudioDataLoaders.from_prev_next(tmp_path/'a.wav', 32, 32, whole=True, bs=16, seed=0)
    learn = gan_learner(dls, Generator((2,), (4,)), Discriminator((4,), (4,)))
    heard = AudioTensor.create(tmp_path/'a.wav', 0, 64)
    y = learn.generate(50, prompt=heard, seed=0)
    assert type(y) is AudioTensor and y.shape == (1, 50) and y.sr == 8000
    torch.testing.assert_close(y.as_subclass(torch.Tensor),
                               generate(learn.model.generator, 50, prompt=heard, seed=0)[0])
    for bad in (1.5, -1, '5'):
        with pytest.raises(ValueError, match='expected n'): learn.generate(bad)
    with pytest.raises(ValueError, match='expected 8000 Hz'):
        learn.generate(10, prompt=AudioTensor(torch.zeros(1, 40), sr=44100))


def test_learners_share_the_call(tmp_path):
    write_audio(tmp_path/'a.wav', sine(500, 8000, 4000, amp=.5)[None], 8000)
    learn = seq2seq_learner(AudioDataLoaders.from_prev_next(tmp_path/'a.wav', 40, 20, bs=16, seed=0),
                            Seq2Seq(4, n_layers=1, n_z=2))
    y = learn.generate(30, prompt=tmp_path/'a.wav', seed=0)
    assert type(y) is AudioTensor and y.shape == (1, 30) and y.sr == 8000
    torch.testing.assert_close(torch.cat(list(learn.generate_blocks(30, prompt=tmp_path/'a.wav', seed=0, block=8)),
                                         -1)[0], y, atol=1e-6, rtol=0)
    changed = learn.generate(30, prompt=tmp_path/'a.wav', seed=0, changes=[(10, torch.full((2,), 3.))])
    assert torch.equal(changed[:, :10], y[:, :10]) and not torch.equal(changed[:, 10:], y[:, 10:])
    assert learn.generate(30, prompt=tmp_path/'a.wav', batch=3, seed=0).shape == (3, 1, 30)
    with pytest.raises(ValueError, match=r'generate\(n, prompt\)'): learn.generate(y, 10)
    with pytest.raises(ValueError, match='expected 8000 Hz'):
        learn.generate(10, prompt=AudioTensor(torch.zeros(1, 40), sr=44100))


# conditions

@pytest.fixture
def players(tmp_path):
    for f in (100, 250):
        (tmp_path/f'{f}').mkdir()
        write_audio(tmp_path/f'{f}'/'tone.wav', sine(f, 2000, 4000, amp=.6)[None], 2000)
    return tmp_path


def test_conditions_travel_with_their_samples(players):
    series = lambda f: np.stack([np.arange(401), np.full(401, float(f.parent.name))])
    for carry, tokens in itertools.product((True, False), (16, None)):
        dls = AudioDataLoaders.from_files(players, n_tokens=tokens, carry=carry, split_by='time',
                                          chunk_len=90, bs=4, seed=0, knobs=parent_label, local=series, hop=10,
                                          flip_polarity=True)
        dls.set_context(20, 1)
        for dl in dls.loaders:
            x, knobs, local, y = dl.one_batch()
            assert x.shape[-1] == local.shape[-1] == y.shape[-1] == 110
            for (f, s), k, l in zip(dl.spans(x.rows), knobs.tolist(), local.tolist()):
                assert k == [float(f.parent.name == n) for n in ('100', '250')]
                assert l[0] == [t//10 for t in range(s-20, s+90)] and set(l[1]) == {float(f.parent.name)}


def test_conditioned_learner_is_the_model(players):
    torch.manual_seed(0)
    dls = AudioDataLoaders.from_files(players, n_tokens=16, carry=False, split_by='time',
                                      chunk_len=90, bs=4, seed=0, knobs=parent_label,
                                      local=lambda f: np.linspace(-1, 1, 400), hop=10)
    m = SampleWaveNet(16, 6, 6, n_layers=4, n_blocks=1, n_knobs=2, n_local=1, hop=10)
    learn = autoregressive_learner(dls, m, path=players)
    preds, targs = learn.get_preds()
    b = dls.valid.one_batch()
    with torch.no_grad(): want = m.eval()(*[o.as_subclass(torch.Tensor) for o in b[:-1]])[:, m.receptive_field-1:]
    torch.testing.assert_close(preds[:len(want)].as_subclass(torch.Tensor), want, atol=1e-5, rtol=0)
    series = torch.linspace(-1, 1, 400)
    a = learn.generate(100, knobs='250', local=series, seed=0)
    assert torch.equal(a, learn.generate(100, knobs=torch.tensor([0., 1.]), local=series[None], seed=0))
    assert not torch.equal(a, learn.generate(100, knobs='100', local=series, seed=0))
    assert not torch.equal(a, learn.generate(100, knobs='250', local=-series, seed=0))
    assert len(learn.predict(players/'100'/'tone.wav', knobs='100', local=series)[0]) == 4000
    learn.show_results(max_n=2, hear=False)
    dls.show_batch(max_n=2, hear=False)


@pytest.mark.parametrize('values,n', [([.1, .9], 2), (.5, 1)])
def test_numbers_as_conditions(players, values, n):
    dls = AudioDataLoaders.from_files(players, n_tokens=16, split_by='time',
                                      chunk_len=90, bs=4, seed=0, knobs=lambda f: values)
    assert dls.one_batch()[1].shape == (4, n)
    learn = autoregressive_learner(dls, SampleWaveNet(16, 6, 6, n_layers=3, n_blocks=1, n_knobs=n))
    assert learn.generate(10, knobs=values).shape == (1, 10)


def test_conditions_that_do_not_fit_are_refused(players):
    with pytest.raises(ValueError, match='at least 400 frames'):
        AudioDataLoaders.from_files(players, local=lambda f: np.zeros(399), hop=10, chunk_len=90)
    with pytest.raises(ValueError, match='one length'): KnobsOf(lambda f: [1]*len(f.name), [Path('a'), Path('bb')])
    with pytest.raises(ValueError, match='got both'):
        KnobsOf(lambda f: 'x' if f.name == 'a' else 1, [Path('a'), Path('bb')])
    dls = AudioDataLoaders.from_files(players, n_tokens=16, split_by='time',
                                      chunk_len=90, bs=4, knobs=parent_label, local=lambda f: np.zeros(400), hop=10)
    make = lambda **kw: SampleWaveNet(16, 6, 6, n_layers=3, n_blocks=1, **kw)
    for model, words in ((make(), 'n_knobs=2'), (make(n_knobs=3, n_local=1, hop=10), 'n_knobs=2'),
                         (make(n_knobs=2, hop=10), 'n_local=1'), (make(n_knobs=2, n_local=1, hop=5), 'hop=5'),
                         (SampleLSTM(16, hidden=4), 'n_knobs=2')):
        with pytest.raises(ValueError, match=words): autoregressive_learner(dls, model)
    learn = autoregressive_learner(dls, make(n_knobs=2, n_local=1, hop=10))
    for kw, words in ((dict(local=torch.zeros(1, 9)), "'100', '250'"),
                      (dict(knobs='flute', local=torch.zeros(1, 9)), 'flute'), (dict(knobs='100'), 'local'),
                      (dict(knobs='100', local=torch.zeros(1, 2)), 'frames')):
        with pytest.raises(ValueError, match=words): learn.generate(50, **kw)


# rates and tables

def test_one_folder_many_rates_one_table(tmp_path):
    (tmp_path/'in').mkdir()
    write_audio(tmp_path/'in'/'a.wav', sine(300, 8000, 16_000, amp=.5)[None]+noise(16_000, seed=0, amp=.01), 8000)
    prepare_audio(tmp_path/'in', tmp_path/'out', sr=[2000, 4000], progress=False)
    make = lambda sr, hidden: lambda: autoregressive_learner(AudioDataLoaders.from_files(tmp_path/'out',
                                                                                         sr=sr, n_tokens=16,
                                                                                         chunk_len=50,
                                                                                         bs=8, seed=0),
                                                             SampleLSTM(16, hidden=hidden))
    t = compare_learners({'low': make(2000, 8), 'high': make(4000, 8), 'wide': make(4000, 16)}, minutes=.005)
    assert sorted(t.sr) == [2000, 4000, 4000] and list(t.bits_per_second) == sorted(t.bits_per_second)
    assert t.parameters.nunique() == 2
    assert AudioDataLoaders.from_prev_next(tmp_path/'out', 40, 20, sr=2000, bs=4).sr == 2000


# names

def test_names_that_people_know():
    x = torch.stack([sine(100, 2000, 200, amp=.7), noise(200, seed=0)[0]])
    assert torch.equal(waveform_to_categorical(x, 10), mu_law_encoding(x, 10))
    assert waveform_to_input(x[None], 10).shape == (1, 20, 200)
    assert torch.equal(logit_to_categorical(waveform_to_input(x[:1][None], 10)), mu_law_encoding(x[:1], 10))
    assert torch.equal(mu_law_encoding(mu_law_decoding(torch.arange(10), 10), 10), torch.arange(10))


# many files

def handles(): return len(os.listdir('/proc/self/fd'))
def memory(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])*1024


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='counts handles and memory where Linux says them')
def test_streams_over_many_files_keep_memory_and_handles_flat(tmp_path):
    one = noise(20_000, seed=0)
    # 16 MB as 16 bit, 32 MB as numbers
    for i in range(400): write_audio(tmp_path/f'{i:03}.wav', one, 8000)
    files = sorted(tmp_path.glob('*.wav'))
    before = handles()
    dl = AudioDataLoaders.from_files(files[1:], valid=files[:1], n_tokens=None,
                                     chunk_len=500, bs=16, check=False, seed=0).train
    next(iter(dl))
    most, start, fds, n = 0, memory(), handles(), 0
    for i, (x, _) in enumerate(dl):
        n += len(x)
        if i % 20 == 0: most, fds = max(most, memory()), max(fds, handles())
    assert n == dl.n > 15_000 and fds-before <= 80
    assert most-start < 8e6, (most-start)/1e6
