"Properties of the sound classifier, its labels and their export, on the bundled one-shots."

import math

import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import IndexSplitter, parent_label
from fastai.torch_core import set_seed

from fastproaudio.models import *
from fastproaudio.train import *
from fastproaudio.data import AudioBlock, AudioDataLoaders, AudioSpectrogram, AudioTensor, bundled, get_audio_files
from fastproaudio.dsp import noise, sine
from fastproaudio.export import export, load_effect
from fastproaudio.export.audacity import check_inputs
from fastproaudio.export.libtorch import check_archive
from fastproaudio.io import read_audio, write_audio
from fastproaudio.models.classifier import LogPicture, MelPicture
from fastproaudio.data.augment import warp
from fastproaudio.train.classifier import class_weights, confusion, EachNet
from fastproaudio.train.labels import Labeller, SoundEvent

SR = 8000
SIZES = dict(chunk_len=16384, head=True, pad=True, bs=12, seed=1, device='cpu')

def loaders(**kwargs):
    return AudioDataLoaders.from_folder(bundled('oneshots'), **{**SIZES, 'valid_pct':.25, **kwargs})

@pytest.fixture(scope='module')
def learn(tmp_path_factory):
    set_seed(0)
    learn = classifier_learner(loaders(), width=8, mixup=0, path=tmp_path_factory.mktemp('learn'))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(120, 1e-2)
    return learn

def untrained(sr=SR, arch='spec'):
    torch.manual_seed(0)
    return SoundClassifier(sr, ['a', 'b', 'c'], arch=arch, width=4).eval()

def is_right(learn, path): return learn.predict(path)[0]==path.parent.name

def test_learns_the_bundled_sounds(learn):
    "All but one; and what was printed in training is what the learner says of the files that were held out."
    assert sum(is_right(learn, p) for p in get_audio_files(bundled('oneshots')))>=11
    held_out = [is_right(learn, p) for p in learn.dls.valid_ds.items]
    assert len(held_out)==3 and learn.recorder.values[-1][-1]==pytest.approx(sum(held_out)/3)

def test_knows_sounds_that_it_has_not_seen(tmp_path):
    """Each of the twelve sounds is named by a network that learned from the others, two of each class.
    A guess is right three times of twelve, and seven times or more in 1.4 % of such tests; measured with two seeds:
    8 and 10. Three held-out sounds are no measure: one may be the pedal that most networks take for a snare."""
    right = 0
    for part in range(3):
        set_seed(0)
        db = DataBlock((AudioBlock(), CategoryBlock), get_items=get_audio_files, get_y=parent_label,
                       splitter=IndexSplitter(range(part, 12, 3)))      # sorted by class, three of each
        dls = AudioDataLoaders.from_dblock(db, bundled('oneshots'), path=tmp_path, **{**SIZES, 'drop_last':False})
        assert sorted(p.parent.name for p in dls.valid_ds.items)==sorted(dls.vocab)
        learn = classifier_learner(dls, width=8, mixup=0, path=tmp_path)
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(30, 1e-2)
        right += sum(is_right(learn, p) for p in dls.valid_ds.items)
    assert right>=7, right

def test_labels_the_stream(learn):
    found,truth = learn.label(bundled('oneshots_stream.flac')),read_labels(bundled('oneshots_stream_labels.txt'))
    assert event_f1(found, truth)[0]>.8
    assert [e.start for e in found]==sorted(e.start for e in found)

@pytest.mark.parametrize('block_s', [.7, 2., 30.])
def test_labels_do_not_depend_on_the_blocks(learn, block_s):
    a,b = (learn.label(bundled('oneshots_stream.flac'), min_prob=0., block_s=s) for s in (1000., block_s))
    assert [e.label for e in a]==[e.label for e in b]
    assert all(abs(x.start-y.start)<1e-4 and abs(x.end-y.end)<1e-4 for x,y in zip(a, b))

def test_one_sound_as_in_a_batch(learn):
    x = noise(9000, seed=0, n_ch=3)[:, None]*torch.tensor([1., .1, .3])[:, None, None]
    net = learn.model.eval()
    with torch.no_grad(): torch.testing.assert_close(net(x), torch.cat([net(o[None]) for o in x]), atol=1e-4, rtol=1e-4)

@pytest.mark.parametrize('arch', ['spec', 'wave'])
def test_level_and_trailing_silence_change_nothing(arch):
    net,x = untrained(16000, arch),noise(7000, seed=1)[None]
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(.25*x), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(net(x), net(torch.cat([x, torch.zeros(1, 1, 3000)], -1)), atol=1e-3, rtol=1e-3)

@pytest.mark.parametrize('front', [MelPicture, LogPicture])
def test_a_learned_front_takes_part(front):
    net = SoundClassifier(SR, ['a', 'b'], front=front(SR, 40, trainable='bank'), width=4).eval()
    net(noise(6000, seed=0)[None])[0, 0].backward()
    assert net.front.mel.bank.weight.grad.abs().max()>0

@pytest.mark.parametrize('sr', [8000, 16000, 22050, 44100, 48000, 96000])
def test_pitch_bands_are_filled_and_evenly_spaced(sr):
    front = LogPicture(sr)
    bank = front.mel.bank.dense()
    assert bank.shape==(front.n_fft//2+1, 64) and (bank.amax(0)>.5).all() and (bank>=0).all() and (bank<=1).all()
    loudest = [int(front(sine(hz, sr, sr)[None, None])[0, 0].mean(-1).argmax())
               for hz in (60, 120, 240, 480, 960, 1920)]
    steps = torch.tensor(loudest).diff()
    assert (steps-64/math.log2(min(16000, sr/2)/30)).abs().max()<=1.5

@pytest.mark.parametrize('gap_ms', [60, 120, 500])
@pytest.mark.parametrize('hz', [55, 440])
def test_finds_tones_between_silences(gap_ms, hz):
    tone,gap = sine(hz, SR, SR//4, amp=.5),torch.zeros(gap_ms*SR//1000)
    a,b = FindEvents(SR)(torch.cat([gap, tone, gap, tone, gap]))
    want = torch.tensor([len(gap), 2*len(gap)+len(tone)])
    assert len(a)==2 and (a-want).abs().max()<=.006*SR and (b-want-len(tone)).abs().max()<=.011*SR

def test_finds_a_stroke_in_the_decay_of_another():
    x = sine(200, SR, 2*SR)*torch.exp(-torch.arange(2*SR)/800.)
    x[4000:] += sine(300, SR, 2*SR-4000)*torch.exp(-torch.arange(2*SR-4000)/800.)
    a,b = FindEvents(SR)(x)
    assert len(a)==2 and abs(int(a[1])-4000)<=.025*SR and b[0]==a[1]

def test_a_steady_bass_is_one_sound():
    a,b = FindEvents(44100)(torch.cat([torch.zeros(8820), sine(40, 44100, 2*44100), torch.zeros(8820)]))
    assert len(a)==1 and abs(int(a[0])-8820)<=441 and abs(int(b[0])-11*8820)<=.02*44100

def coloured(n, slope, seed=0):
    "Noise above 20 Hz that falls with the frequency to the power of `slope`."
    f = torch.fft.rfftfreq(n, 1/SR).clamp(min=1)
    y = torch.fft.irfft(torch.fft.rfft(noise(n, seed=seed)[0])*f**-slope*(f>20), n)
    return y/y.std()

def pink(n): return coloured(n, .5)

STEADY = dict(white=lambda n: noise(n, seed=3)[0], pink=pink, brown=lambda n: coloured(n, 1.),
              hum=lambda n: sine(50, SR, n)+.3*sine(150, SR, n), tone=lambda n: sine(1000, SR, n), dc=torch.ones,
              both=lambda n: .1*pink(n)+sine(60, SR, n), mains_off_by_a_bit=lambda n: sine(49.7, SR, n))

@pytest.mark.parametrize('db', [-90, -40, -20, 0])
@pytest.mark.parametrize('kind', STEADY)
def test_steady_background_has_no_events(kind, db):
    a,b = FindEvents(SR)(STEADY[kind](12*SR)*10**(db/20))
    assert a.shape==b.shape==(0,)

@pytest.mark.parametrize('db', [-20, 0, 20])
@pytest.mark.parametrize('kind', ['white', 'pink', 'hum'])
def test_strokes_stand_out_of_a_background_at_any_level(kind, db):
    stroke = sine(440, SR, SR//2)*torch.exp(-torch.arange(SR//2)/600.)
    x,at = STEADY[kind](12*SR)*.01,[2., 5.3, 9.]
    for t in at: x[int(t*SR):int(t*SR)+len(stroke)] += stroke
    a,b = FindEvents(SR)(x*10**(db/20))
    assert len(a)==3 and (a/SR-torch.tensor(at)).abs().max()<.015
    assert ((b-a)>.1*SR).all() and ((b-a)<.6*SR).all()

def test_level_of_a_recording_changes_no_label(learn):
    stream = read_audio(bundled('oneshots_stream.flac'))[0]
    want = learn.label(stream)
    for gain in (.1, 10.): assert event_f1(learn.label(stream*gain), want)[0]>=.9

def test_blocks_of_a_host_share_an_event(learn):
    """A tone across the edge of two blocks is labelled up to it in the first, from it on in the second; onsets
    elsewhere are those of the whole."""
    listen,x = learn.model.eval().labeller(min_prob=0.),torch.zeros(1, 4*44100)
    x[0, 44100:3*44100] = sine(200, 44100, 2*44100, amp=.5)
    edge = 2*44100
    (_,a),(_,b) = listen(x[:, :edge]),listen(x[:, edge:])
    torch.testing.assert_close(a, torch.tensor([[1., 2.]]), atol=.006, rtol=0)
    torch.testing.assert_close(b, torch.tensor([[0., 1.]]), atol=.011, rtol=0)

@pytest.mark.parametrize('block_s', [.5, 1.7, 30.])
def test_a_long_event_is_one_label_whatever_the_blocks(learn, block_s):
    x = torch.zeros(1, 6*44100)
    x[0, 44100:int(4.5*44100)] = sine(200, 44100, int(4.5*44100)-44100, amp=.5)
    (e,) = learn.label(x, min_prob=0., block_s=block_s)
    assert abs(e.start-1)<.006 and abs(e.end-4.5)<.011

def test_a_class_called_none_gets_no_label():
    net = untrained()
    for p in net.bodies[0].head.parameters(): torch.nn.init.zeros_(p)
    x = torch.cat([torch.zeros(1, SR), sine(300, SR, 2000)[None], torch.zeros(1, SR)], -1)
    kept = Labeller(net, min_prob=0.)
    said = int(kept(x)[0])
    net.vocab[said] = 'none'
    assert len(Labeller(net, min_prob=0.)(x)[0])==0 and len(Labeller(net, min_prob=0., nothing='other')(x)[0])==1

def test_each_net_learns_for_itself():
    net = untrained().train()
    x,y = noise(6000, seed=0, n_ch=2)[:, None],torch.tensor([0, 2])
    pred = net(x)
    assert pred.shape==(2, 3, 3)
    loss = EachNet(torch.nn.CrossEntropyLoss())
    torch.testing.assert_close(loss(pred, y), sum(torch.nn.functional.cross_entropy(pred[:, i], y) for i in range(3))/3)
    alone = torch.autograd.grad(torch.nn.functional.cross_entropy(pred[:, 1], y)/3,
                                list(net.bodies[1].parameters()), retain_graph=True)
    for a,b in zip(torch.autograd.grad(loss(pred, y), list(net.bodies[1].parameters())), alone):
        torch.testing.assert_close(a, b)
    assert net.eval()(x).shape==(2, 3) and torch.allclose(net(x).exp().sum(-1), torch.ones(2), atol=1e-5)

@pytest.mark.parametrize('n', [1, 2, 39, 40, 41, 4000])
def test_silence_has_no_events(n):
    a,b = FindEvents(SR)(torch.zeros(n))
    assert a.shape==b.shape==(0,)

@pytest.mark.parametrize('seed', range(4))
def test_labels_keep_the_contract(seed):
    g = torch.Generator().manual_seed(seed)
    x = noise(20000, seed=seed, n_ch=2)*(torch.rand(1, 10, generator=g)>.5).float().repeat_interleave(2000, 1)
    labels,times = Labeller(untrained(), min_prob=0.)(x)
    assert labels.dtype==torch.int64 and times.dtype==torch.float32 and times.shape==(len(labels), 2) and len(labels)>0
    assert (0<=labels).all() and (labels<3).all()
    assert (times[:, 0]>=0).all() and (times[:, 1]>times[:, 0]).all() and (times<=2.5+1e-6).all()

def test_export_equals_the_learner(learn, tmp_path):
    rep = export(learn, tmp_path/'out', to='audacity', n_random=1)
    host = load_effect(tmp_path/'out')
    assert check_archive(tmp_path/'out'/'model.pt')==[] and rep.max_diff<1e-5
    assert host.metadata['effect_type']=='waveform-to-labels' and host.metadata['labels']==list(learn.dls.vocab)
    stream = bundled('oneshots_stream.flac')
    labels,times = host(read_audio(stream)[0])
    want = learn.label(stream)
    assert [learn.dls.vocab[i] for i in labels]==[e.label for e in want]
    torch.testing.assert_close(times, torch.tensor([e[1:] for e in want]))
    for x in check_inputs(False, 1000, 1):
        labels,times = host(x)
        assert labels.dtype==torch.int64 and times.shape==(len(labels), 2) and (labels<4).all()
        assert (times[:, 0]<times[:, 1]).all()

def test_reloaded_learner_labels_alike(learn, tmp_path):
    learn.export(tmp_path/'l.pkl')
    from fastai.learner import load_learner
    again = load_learner(tmp_path/'l.pkl')
    stream = bundled('oneshots_stream.flac')
    assert again.label(stream)==learn.label(stream)

def test_spec_augment_leaves_most():
    torch.manual_seed(0)
    y = SpecAugment()(torch.ones(200, 1, 64, 64))
    assert .7<(y==1).float().mean()<.95 and (y.flatten(1)==1).any(1).all()

def test_warp_moves_pitch_and_onset():
    x = torch.zeros(1, 1, 1000)
    x[..., 500] = 1
    assert warp(x, torch.full((1, 1), 2.), torch.zeros(1, 1)).argmax()==250
    assert warp(x, torch.ones(1, 1), torch.full((1, 1), -20.)).argmax()==520

def test_batch_transform_makes_spectrograms():
    from fastproaudio.spectral.stft import STFT
    tfm = ToSpectrogram(STFT(1024, 512, output='power', freq_scale='log', freq_bins=48, fmax=15000., sr=44100),
                        44100, 512)
    dls = loaders(bs=4, batch_tfms=tfm)
    x,y = dls.one_batch()
    assert type(x) is AudioSpectrogram and x.shape[:3]==(4, 1, 48)
    ax = AudioSpectrogram(x[0].as_subclass(torch.Tensor), sr=44100, hop_length=512, freqs=tfm.freqs).show()
    assert (ax.get_xlabel(), ax.get_ylabel())==('seconds', 'Hz') and ax.figure.axes[-1].get_ylabel()=='dB'
    at = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks()))
    assert abs(tfm.freqs[int(at['1k'])]/1000-1)<.1

def test_worst_and_confusion_agree(learn):
    m,w = confusion(learn, ds_idx=0),worst_sounds(learn, 100, ds_idx=0)
    assert m.sum()==len(w)==learn.dls.train.n and sum(was==said for _,_,was,said,_ in w)==m.diag().sum()
    assert [o[-1] for o in w]==sorted(o[-1] for o in w)
    assert all(path.parent.name==was for path,_,was,_,_ in w)

def test_top_losses_name_file_time_and_classes(learn):
    titles = [ax.get_title() for ax in learn.plot_top_losses(2)]
    path,start,was,said,p = worst_sounds(learn, 1)[0]
    assert len(titles)==2 and titles[0].startswith(f'{path.name}  {start:.2f} s  {was} -> {said}')

@pytest.mark.parametrize('arch', ['spec', 'wave'])
def test_trains_with_everything_on_and_by_the_clock(arch, tmp_path):
    torch.manual_seed(0)
    learn = classifier_learner(loaders(), arch=arch, width=4, path=tmp_path)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.fit_for(.002)
    assert all(p.isfinite().all() and not torch.equal(p, q) for p,q in zip(learn.model.parameters(), before))

def test_rare_classes_count_more():
    dls = loaders()
    w,n = class_weights(dls, 1.),torch.bincount(torch.tensor([int(r[1]) for r in dls.train.rows])).float()
    torch.testing.assert_close(w*n, torch.full((4,), n.sum()/4))
    assert torch.equal(class_weights(dls, 0.), torch.ones(4))

def test_label_track_round_trip(tmp_path):
    events = [SoundEvent('kick', 0., .25), SoundEvent('große Trommel', 1.5, 1.5)]
    assert read_labels(write_labels(tmp_path/'l.txt', events))==events
    assert (tmp_path/'l.txt').read_text(encoding='utf-8').startswith('0.000000\t0.250000\tkick\n')

@pytest.mark.parametrize('found, f1', [([('a', .05, 1)], 1.), ([('a', .051, 1)], 0.),
                                       ([('b', 0, 1)], 0.), ([('a', 0, 1)]*2, 2/3), ([], 0.)])
def test_event_f1(found, f1): assert event_f1(found, [('a', 0, 1)])[0]==pytest.approx(f1)

BAD = [(lambda: SoundClassifier(SR, ['a', 'b'], arch='rnn'), "'spec', 'wave'"),
       (lambda: SoundClassifier(SR, ['a']), 'two or more'),
       (lambda: SoundClassifier(SR, ['a', 'b'], front=torch.nn.Identity()), '16 bins'),
       (lambda: untrained()(torch.zeros(1, 400)), 'batch, channels'),
       (lambda: SoundClassifier(SR, ['a', 'b'], arch='wave', window=100), '6000'),
       (lambda: FindEvents(SR, gate_db=3.), 'gate_db'),
       (lambda: Labeller(untrained(), min_prob=2.), '0..1'), (lambda: SpecAugment(frames=2.), '0..1'),
       (lambda: class_weights(loaders(), 2.), 'balance'),
       (lambda: write_labels('nowhere/at/all.txt', []), 'existing folder'),
       (lambda: write_labels('x.txt', [('a\tb', 0, 1)]), 'tabs'),
       (lambda: write_labels('x.txt', [('a', float('nan'), 1)]), 'start <= end'),
       (lambda: loaders(pad=False, chunk_len=10**6), 'pad=True')]

@pytest.mark.parametrize('call, what', BAD)
def test_bad_settings_are_refused(call, what):
    with pytest.raises(ValueError, match=what): call()

@pytest.mark.parametrize('x, what', [(torch.full((1, 4000), float('nan')), 'finite'),
                                     (torch.zeros(2, 2, 400), 'channels, samples'), (torch.zeros(1, 0), 'zero samples'),
                                     (torch.zeros(4000, dtype=torch.int64), '16 or 32 bits'),
                                     (AudioTensor(torch.zeros(1, 4000), sr=8000), 'resample_file')])
@pytest.mark.parametrize('what_to_do', ['predict', 'label'])
def test_bad_sound_is_refused(learn, what_to_do, x, what):
    with pytest.raises(ValueError, match=what): getattr(learn, what_to_do)(x)

def test_label_file_of_another_rate_or_broken(learn, tmp_path):
    p = write_audio(tmp_path/'x.wav', noise(4000, seed=0), 8000)
    with pytest.raises(ValueError, match='x.wav.*44100'): learn.label(p)
    (tmp_path/'l.txt').write_text('0.1 0.2 kick\n')
    with pytest.raises(ValueError, match='line 1'): read_labels(tmp_path/'l.txt')

@pytest.mark.parametrize('arch', ['spec', 'wave'])
@pytest.mark.parametrize('bs,sizes', [(1, {1}), (8, {8, 1})])
def test_a_batch_of_one_sound_is_trained_on(arch, bs, sizes):
    "fastai's MixUp knows none; a last batch of one is nothing unusual."
    dls = loaders(chunk_len=6000, bs=bs)
    assert {len(x) for x,_ in dls.train}==sizes
    learn = classifier_learner(dls, arch=arch, width=4, augment=False)
    loss,before = learn.loss_func,[p.detach().clone() for p in learn.model.parameters()]
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert learn.loss_func is loss and all(math.isfinite(v) for v in learn.recorder.values[-1])
    assert any(not torch.equal(a, b) for a,b in zip(before, learn.model.parameters()))

def test_one_sound_is_mixed_with_none():
    learn = classifier_learner(loaders(chunk_len=6000, bs=1), width=4, augment=False)
    seen = []
    class See(Callback):
        order = 1
        def before_batch(self):
            if self.training: seen.append((self.x.clone(), self.mix_sounds.lam.tolist()))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=See())
    assert len(seen)==len(learn.dls.train) and all(lam==[1.] and x.shape[0]==1 for x,lam in seen)
