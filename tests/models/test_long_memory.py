"Recurrent effects that keep their state from batch to batch, and the side-chain network."
import pytest
import torch
from fastai.basics import first, nn, set_seed

from fastproaudio.data import AudioDataLoaders, Knob
from fastproaudio.dsp import noise
from fastproaudio.io import write_audio
from fastproaudio.losses import effects_loss
from fastproaudio.models import LSTMEffect, SideChain
from fastproaudio.models.sidechain import spread_memory
from fastproaudio.train import effects_learner
from fastproaudio.train.callbacks import CarryState

SR = 8000


def loaders(path, carry=True, **kwargs):
    kwargs = dict(chunk_len=200, bs=3, valid_pct=.25, seed=0, path=path, carry=carry, check=False) | kwargs
    return AudioDataLoaders.from_pairs(path/'dry.wav', path/'wet.wav', **kwargs)


@pytest.fixture
def pair(tmp_path):
    x = noise(8000, seed=0, amp=.3)
    write_audio(tmp_path/'dry.wav', x, SR, subtype='FLOAT')
    write_audio(tmp_path/'wet.wav', x.tanh(), SR, subtype='FLOAT')
    return tmp_path


SMALL = dict(hop=8, frames=20, driver='lstm', channels=4, width=5, n_layers=2)
NETS = dict(lstm=lambda k=0: LSTMEffect(n_knobs=k, hidden=5, warm_up=60),
            sidechain=lambda k=0: SideChain(n_knobs=k, **SMALL))


class Watch(nn.Module):
    "A loss that keeps what it is given."
    def __init__(self): super().__init__(); self.seen = []
    def forward(self, pred, targ):
        self.seen.append((pred.detach().clone(), targ.clone()))
        return pred.pow(2).mean()


@pytest.mark.parametrize('name', NETS)
def test_carried_state_equals_one_long_pass(pair, name):
    "Row by row, what validation scores is what one pass over the stream makes, from its warm-up on."
    torch.manual_seed(0)
    dls, watch = loaders(pair), Watch()
    learn = effects_learner(dls, NETS[name](), loss_func=watch, checkpoint=None, metrics=[])
    with learn.no_bar(), learn.no_logging(): learn.validate()
    past, x = learn.model.receptive_field-1, noise(8000, seed=0, amp=.3)
    rows = [s for _, s in dls.valid.spans()]
    learn.model.eval()
    order, bs = list(dls.valid.get_idxs()), dls.valid.bs
    starts = [[rows[i] for i in order[k:k+bs]] for k in range(0, len(order), bs)]
    assert len(starts) > 3
    for j in range(bs):                                              # a stream of validation
        mine = [(b[j], *(o[j:j+1] for o in seen)) for b, seen in zip(starts, watch.seen) if len(b) > j]
        state, at = None, None
        for start, pred, targ in mine:
            assert pred.shape[-1] == 200 and torch.allclose(targ[0], x[:, start:start+200].tanh(), atol=1e-6)
            with torch.no_grad():
                if start != at:
                    state = learn.model.init_state(1)
                    learn.model.stream(x[None, :, start-past:start], state)
                want, state = learn.model.stream(x[None, :, start:start+200], state)
            assert (pred-want).abs().max() < 1e-5
            at = start+200
    assert 'forward' not in learn.model.__dict__


@pytest.mark.parametrize('name', NETS)
def test_training_with_state_leaves_nothing_behind(pair, name):
    set_seed(0)
    learn = effects_learner(loaders(pair, chunk_len=256), NETS[name](), checkpoint=None)
    carry = first(c for c in learn.cbs if isinstance(c, CarryState))
    before = [p.clone() for p in learn.model.parameters()]
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, 1e-3)
        learn.get_preds(), learn.show_results(max_n=1), learn.to_bf16().fit(1, 1e-3)
    assert carry.state is None and 'forward' not in learn.model.__dict__
    assert all((a-b).abs().max() > 0 for a, b in zip(before, learn.model.parameters()))
    assert learn.predict(pair/'dry.wav').shape == (1, 8000)


def test_an_interrupted_batch_takes_nothing_along(pair):
    class Stop(nn.Module):
        def forward(self, pred, targ): raise KeyboardInterrupt
    learn = effects_learner(loaders(pair), NETS['lstm'](), loss_func=Stop(), checkpoint=None)
    with learn.no_bar(), learn.no_logging(), pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert 'forward' not in learn.model.__dict__


def test_streams_with_knobs(tmp_path):
    set_seed(0)
    rows = ['input,target,drive']
    for i, k in enumerate((0., 5., 10., 5.)):
        x = noise(2500, seed=i, amp=.1)
        write_audio(tmp_path/f'x{i}.wav', x, SR), write_audio(tmp_path/f'y{i}.wav', (x*(1+k)).tanh(), SR)
        rows.append(f'x{i}.wav,y{i}.wav,{k}')
    (tmp_path/'t.csv').write_text('\n'.join(rows))
    dls = AudioDataLoaders.from_table(tmp_path/'t.csv', knobs=[Knob('drive', 0, 10)], carry=True, chunk_len=160, bs=2,
                                      seed=0, path=tmp_path, check=False)
    for name in NETS:
        learn = effects_learner(dls, NETS[name](1), checkpoint=None)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
        assert any(isinstance(c, CarryState) for c in learn.cbs)


def test_chunks_must_end_with_a_frame(pair):
    with pytest.raises(ValueError, match='multiple of 8 samples.*take 96'):
        effects_learner(loaders(pair, chunk_len=100), NETS['sidechain']())


def test_networks_without_state_train_on_streams_as_ever(pair):
    net = SideChain(hop=8, frames=8, channels=4, width=4, n_layers=2)
    learn = effects_learner(loaders(pair, chunk_len=256), net, checkpoint=None)
    assert not any(isinstance(c, CarryState) for c in learn.cbs)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)


def test_a_memory_longer_than_the_chunk_is_learned_only_with_carried_state(tmp_path):
    "Gain that follows the level of seconds: a chunk and its warm-up hear a small part of them."
    n, hop = 96_000, 16
    g = torch.Generator().manual_seed(0)
    level = torch.where(torch.rand(n//800, generator=g) < .5, .05, .5).repeat_interleave(800)
    x = noise(n, seed=1, amp=1.)[0]*level
    env, out = 0., torch.empty(n//hop)
    for i, p in enumerate(x.reshape(-1, hop).abs().mean(1).tolist()):
        env += .01*(p-env)                                           # 100 frames, 1600 samples
        out[i] = env
    y = x*(1/(1+20*out)).repeat_interleave(hop)
    write_audio(tmp_path/'dry.wav', x[None], SR, subtype='FLOAT')
    write_audio(tmp_path/'wet.wav', y[None], SR, subtype='FLOAT')
    esr = []
    for carry in (True, False):
        set_seed(0)
        net = SideChain(hop=hop, frames=8, driver='lstm', width=8, channels=4, ks=3, n_layers=1)
        spread_memory(net.lstm, 300)
        dls = loaders(tmp_path, carry, chunk_len=320, bs=16, flip_polarity=False)
        learn = effects_learner(dls, net, loss_func=effects_loss(), checkpoint=None)
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(20, 1e-2); esr.append(learn.validate()[1])
    assert esr[0] < .6*esr[1], esr
