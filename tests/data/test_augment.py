"Sound is varied in training through every door, and pairs stay pairs."
import inspect

import pytest
import torch
from fastai.basics import cast, Normalize, RandomSplitter, Tensor, Transform

from fastproaudio.data import AudioBlock, AudioDataLoaders, AudioTensor, RandomGain, sound_transforms
from fastproaudio.dsp import noise
from fastproaudio.io import write_audio
import fastproaudio.train.seq2seq # noqa: F401 gives `from_prev_next`

SR = 8000
MORE = dict(chunk_len=512, bs=4, device='cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('sound')
    for i in range(4):
        x = noise(4000, seed=i, amp=.2)
        x[:, :2000] *= 1e-3                                          # nearly silent
        write_audio(path/f'input_{i}.wav', x, SR, subtype='FLOAT')
        write_audio(path/f'target_{i}.wav', .5*x, SR, subtype='FLOAT')
    return path


def test_a_pair_keeps_its_ratio_through_the_loaders(folder):
    dls = AudioDataLoaders.from_pairs(folder, batch_tfms=RandomGain(12.), **MORE)
    levels = []
    for _ in range(4):
        for x,y in dls.train:
            torch.testing.assert_close(cast(y, Tensor), .5*cast(x, Tensor))
            levels += cast(x, Tensor).square().mean((1, 2)).tolist()
    assert len(set(levels))>.9*len(levels), 'each row is another sound in each epoch'
    a,b = [torch.cat([cast(x, Tensor) for x,_ in dls.valid]) for _ in range(2)]
    assert torch.equal(a, b)


@pytest.mark.parametrize('make', [AudioDataLoaders.from_pairs, AudioDataLoaders.from_files])
def test_doors_take_what_fastai_gives(folder, make):
    seen = []
    class Look(Transform):
        order = 45
        def encodes(self, x:AudioTensor):
            seen.append(type(x))
            return x
    class Item(Look): pass
    dls = make(folder, item_tfms=Item(), batch_tfms=[*sound_transforms(SR), Look()],
               splitter=RandomSplitter(.25, seed=1), **MORE)
    files = [{p.name for p,_ in dl.spans()} for dl in dls.loaders]
    assert not files[0]&files[1] and len(files[1])==len(files[0]|files[1])//4
    seen.clear()
    dls.one_batch()
    assert len(seen)>4


@pytest.mark.parametrize('make',
                         [AudioDataLoaders.from_pairs, AudioDataLoaders.from_files, AudioDataLoaders.from_folder,
                                  AudioDataLoaders.from_table, AudioDataLoaders.from_prev_next, AudioBlock])
def test_signatures_say_what_is_taken(make):
    names = inspect.signature(make).parameters
    assert not {'after_batch', 'create_batch', 'get_idxs', 'do_setup', 'kwargs'} & set(names)
    if make is not AudioBlock: assert names['shuffle'].default is True and {'batch_tfms', 'item_tfms'} <= set(names)


def test_inner_settings_say_what_to_pass(folder):
    with pytest.raises(ValueError, match='batch_tfms'):
        AudioDataLoaders.from_pairs(folder, after_batch=[RandomGain()], **MORE)


def test_normalize_measures_a_batch(folder):
    dls = AudioDataLoaders.from_pairs(folder, batch_tfms=Normalize(), **MORE)
    raw = AudioDataLoaders.from_pairs(folder, splitter=RandomSplitter(.25, seed=1), **MORE)
    x,y = dls.valid.one_batch()
    torch.testing.assert_close(cast(y, Tensor)-cast(y, Tensor).mean(), .5*(cast(x, Tensor)-cast(x, Tensor).mean()),
                               atol=1e-4, rtol=1e-4)
    loud = torch.cat([cast(x, Tensor) for x,_ in dls.train]).std()
    assert .3<loud<3 and torch.cat([cast(x, Tensor) for x,_ in raw.train]).std()<.3
