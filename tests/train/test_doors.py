"What a learner is given by mistake is refused in one sentence, before an hour of training; what can be meant, works."
import numpy as np
import pytest
import torch
from fastai.basics import CategoryBlock, DataBlock, RegressionBlock
from fastai.data.all import MultiCategoryBlock, RandomSplitter
from torch import nn

from fastproaudio.data import AudioBlock, AudioDataLoaders, get_audio_files
from fastproaudio.dsp import noise
from fastproaudio.io import write_audio
from fastproaudio.models import FIR, TCN
from fastproaudio.spectral import MelSpectrogram
from fastproaudio.train import classifier_learner, effects_learner, ToSpectrogram

SR = 8000


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('doors')
    for i in range(2):
        x = noise(5*SR, seed=i, amp=.2)
        for name,y in ((f'input_{i}', x), (f'target_{i}', torch.tanh(3*x))):
            write_audio(path/f'{name}.wav', y, SR, subtype='FLOAT')
    for i in range(6): write_audio(path/f'n{i}.wav', noise(4000, seed=i, amp=.3), SR, subtype='FLOAT')
    return path


def pairs(path, **kwargs):
    return AudioDataLoaders.from_pairs(path/'input_0.wav', path/'target_0.wav', chunk_len=512, bs=4, seed=0, path=path,
                                       device='cpu', **kwargs)


def test_whole_numbers_are_scaled_by_their_type(folder):
    learn = effects_learner(pairs(folder), FIR(4), checkpoint=None)
    x = (noise(1000, seed=0, amp=.2).clamp(-1, 1)*32767).round()
    torch.testing.assert_close(learn.predict(x.numpy().astype(np.int16)), learn.predict(x/32768), check_dtype=False)
    torch.testing.assert_close(learn.predict(x.to(torch.int16)), learn.predict(x/32768), check_dtype=False)
    with pytest.raises(ValueError, match='one by one'): learn.predict([folder/'input_0.wav', folder/'input_1.wav'])


@pytest.mark.parametrize('net,said',
                         [(TCN, r'TCN\(\)'), (nn.Conv1d(1, 1, 9), 'pad'), (nn.Conv1d(1, 2, 9, padding=4), 'channels'),
                          (3, 'network')])
def test_a_network_that_cannot_be_one(folder, net, said):
    with pytest.raises(ValueError, match=said): effects_learner(pairs(folder), net).fit(1)


def test_crossed_files_are_told(folder):
    with pytest.warns(UserWarning, match='not the same performance'):
        AudioDataLoaders.from_pairs([folder/f'input_{i}.wav' for i in range(2)],
                                    [folder/f'target_{1-i}.wav' for i in range(2)], chunk_len=512, device='cpu')


def net(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, n_out))
def wave_net(n_out):
    return nn.Sequential(nn.Conv1d(1, 2, 9, stride=8), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, n_out))


def loaders(path, block, get_y, **kwargs):
    db = DataBlock((AudioBlock(chunk_len=4000, head=True, pad=True), block),
                   get_items=lambda p: get_audio_files(p).filter(lambda f: f.name[0]=='n'),
                   get_y=get_y, splitter=RandomSplitter(.34, seed=0), **kwargs)
    return AudioDataLoaders.from_dblock(db, path, path=path, bs=2, device='cpu')


def test_pictures_labels_and_numbers(folder):
    mel = MelSpectrogram(SR, 256, 128, 20)
    def kind(f): return 'odd' if int(f.stem[1:])%2 else 'even'
    pics = loaders(folder, CategoryBlock(), kind, batch_tfms=ToSpectrogram(mel))
    x = pics.one_batch()[0]
    assert x.hop_length==128 and x.sr==SR
    with pytest.raises(ValueError, match='pictures'): classifier_learner(pics)
    classifier_learner(pics, net(1, 2)).fit(1)
    several = loaders(folder, MultiCategoryBlock(), lambda f: [kind(f), 'noise'])
    with pytest.raises(ValueError, match='several labels'): classifier_learner(several)
    classifier_learner(several, wave_net(3)).fit(1)
    number = loaders(folder, RegressionBlock(), lambda f: float(f.stem[1:]))
    learn = classifier_learner(number, wave_net(1))
    learn.fit(1)
    assert np.isfinite(learn.validate()).all()
