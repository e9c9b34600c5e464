"The players of others play our files as the model does: RTNeural, GuitarML and nn~, where they are compiled (tools/)."
import os

import pytest
import torch
from torch import nn

from fastproaudio.data import Knob, Knobs
from fastproaudio.dsp import noise, sine
from fastproaudio.export import export, load_effect
from fastproaudio.export.nn_tilde import LiveModel, render_nn_tilde
from fastproaudio.export.rtneural import render_rtneural
from fastproaudio.models import LSTMEffect, NAMLSTM, NAMWaveNet, TCN, UNet1d, WaveNet

RTNEURAL = pytest.mark.skipif(not os.environ.get('FASTPROAUDIO_RTNEURAL_RENDER'),
                              reason='FASTPROAUDIO_RTNEURAL_RENDER does not name the player')
NN_TILDE = pytest.mark.skipif(not os.environ.get('FASTPROAUDIO_NN_TILDE_RENDER'),
                              reason='FASTPROAUDIO_NN_TILDE_RENDER does not name the player')


def sound(n=6000): return noise(n, seed=0, amp=.4)[0]+.3*sine(220, sr=48000, n=n)


def lstm(dry, **kwargs):
    "An LSTM that is loud, so that no gate is wrong unheard, and not chaotic, so that rounding stays small."
    m = LSTMEffect(**kwargs)
    with torch.no_grad():
        m.dry.fill_(dry)
        for p in m.lstm.parameters(): p.add_(.6*torch.randn_like(p)*kwargs['hidden']**-.5)
        m.out.weight.normal_(0, .5)
    return m


def conv(*args, **kwargs): return nn.Conv1d(*args, **kwargs)


STACKS = {'tanh': lambda: nn.Sequential(conv(1, 8, 3), nn.Tanh(), conv(8, 8, 3, dilation=16), nn.Tanh(),
                                        conv(8, 1, 1)),
          'relu, far': lambda: nn.Sequential(conv(1, 16, 9, dilation=100), nn.ReLU(),
                                             conv(16, 4, 5, dilation=7, bias=False), nn.ReLU(),
                                             conv(4, 1, 3, dilation=512)),
          'sigmoid': lambda: nn.Sequential(conv(1, 5, 4), nn.Sigmoid(), conv(5, 1, 2)),
          'prelu': lambda: nn.Sequential(conv(1, 6, 3), nn.PReLU(), conv(6, 6, 3, dilation=4), nn.PReLU(6),
                                         conv(6, 1, 1)),
          'activations first and last': lambda: nn.Sequential(nn.Tanh(), conv(1, 4, 3), nn.ReLU(),
                                                              conv(4, 1, 1), nn.Tanh()),
          'one tap': lambda: nn.Sequential(conv(1, 1, 1))}
LSTMS = {'lstm': lambda: lstm(0., hidden=16), 'dry added': lambda: lstm(1., hidden=40),
         'two layers': lambda: lstm(0., hidden=32, n_layers=2),
         'nam': lambda: NAMLSTM(24), 'nam, two layers': lambda: NAMLSTM(8, 2)}


def from_zeros(model, path, x):
    "What RTNeural plays after the silence that the model has behind it, and what the model plays."
    if isinstance(model, nn.Sequential):
        silence = sum(m.dilation[0]*(m.kernel_size[0]-1) for m in model if isinstance(m, nn.Conv1d))
        whole = torch.cat([torch.zeros(silence), x])
        with torch.no_grad(): return render_rtneural(path, whole)[silence:], model(whole[None, None])[0, 0]
    silence = model.receptive_field-1
    with torch.no_grad():
        return render_rtneural(path, torch.cat([torch.zeros(silence), x]))[silence:], model(x[None, None])[0, 0]


@RTNEURAL
@pytest.mark.parametrize('name', [*STACKS, *LSTMS])
def test_rtneural_plays_the_file(name, tmp_path):
    torch.manual_seed(0)
    model = {**STACKS, **LSTMS}[name]().eval()
    export(model, tmp_path/'a.json', to='rtneural', sr=48000)
    played, wanted = from_zeros(model, tmp_path/'a.json', sound())
    assert wanted.std() > .002
    torch.testing.assert_close(played, wanted, atol=1e-6, rtol=0)


@RTNEURAL
@pytest.mark.parametrize('hidden,who', [(20, 'NeuralPi plays it'), (40, 'Proteus plays it')])
def test_the_plugins_of_guitarml_play_the_file(hidden, who, tmp_path):
    torch.manual_seed(0)
    model = lstm(1., hidden=hidden).eval()
    report = export(model, tmp_path/'a.json', to='guitarml', sr=44100)
    played, wanted = from_zeros(model, tmp_path/'a.json', sound())
    assert who in str(report)
    torch.testing.assert_close(played, wanted, atol=1e-6, rtol=0)


@RTNEURAL
@pytest.mark.parametrize('make', [lambda: lstm(0., hidden=20), lambda: lstm(1., hidden=20, n_layers=2),
                                  lambda: NAMLSTM(40)], ids=['no dry', 'two layers', 'nam'])
def test_what_the_plugins_of_guitarml_play_wrong_is_said(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    report = export(model, tmp_path/'a.json', to='guitarml', sr=44100)
    played, wanted = from_zeros(model, tmp_path/'a.json', sound())
    assert (played-wanted).abs().max() > .01 and 'would sound wrong there' in str(report)


NETS = {'tcn': lambda **k: TCN(n_blocks=2, ks=5, dilation_growth=4, channel_width=6, **k),
        'ahead': lambda **k: TCN(n_blocks=2, ks=5, channel_width=4, causal=False, **k),
        'lstm': lambda **k: LSTMEffect(hidden=8, warm_up=200, **k),
        'unet': lambda **k: UNet1d(channels=(4, 6), strides=(4,), ks=3, **k),
        'wavenet': lambda **k: WaveNet(**{'n_knobs': 0, **k}, channels=4, n_layers=5),
        'stereo': lambda **k: TCN(n_in=2, n_out=2, n_blocks=2, ks=3, channel_width=4, **k)}
ALONE = {'nam': lambda: NAMWaveNet('nano'), 'namlstm': lambda: NAMLSTM(8, 2, run_in=500)}


@NN_TILDE
@pytest.mark.parametrize('name', [*NETS, *ALONE])
def test_nn_tilde_plays_the_file(name, tmp_path):
    torch.manual_seed(0)
    model = {**NETS, **ALONE}[name]().eval()
    export(model, tmp_path/'a.ts', to='nn_tilde', sr=48000)
    x = torch.stack([sound(5000)/(i+1) for i in range(model.n_in)])
    with torch.no_grad(): wanted = model(x[None])[0]
    for size in (64, 512, 2048, 8192):
        torch.testing.assert_close(render_nn_tilde(tmp_path/'a.ts', x, size), wanted, atol=1e-6, rtol=0)
    # mc.nn~
    torch.testing.assert_close(render_nn_tilde(tmp_path/'a.ts', x, streams=3), wanted, atol=1e-6, rtol=0)


class TwoKnobs:
    sr = 48000
    knobs = Knobs([Knob('Drive amount', 0, 30, 'dB', default=12), Knob('tone', 0, 1)])


@NN_TILDE
@pytest.mark.parametrize('name', NETS)
def test_nn_tilde_turns_the_knobs(name, tmp_path):
    torch.manual_seed(0)
    class Learn: model, dls = NETS[name](n_knobs=2).eval(), TwoKnobs()
    export(Learn(), tmp_path/'a.ts', to='nn_tilde')
    x = torch.stack([sound(3000)]*Learn.model.n_in)
    with torch.no_grad(): start, turned = (Learn.model(x[None], torch.tensor([p]))[0] for p in ([.4, .5], [.8, .9]))
    assert (start-turned).abs().max() > 1e-4
    torch.testing.assert_close(render_nn_tilde(tmp_path/'a.ts', x), start, atol=1e-6, rtol=0)
    torch.testing.assert_close(render_nn_tilde(tmp_path/'a.ts', x, drive_amount=24, tone=.9), turned,
                               atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match='no attribute'): render_nn_tilde(tmp_path/'a.ts', x, volume=3)


@pytest.mark.parametrize('name', ['forward', 'Methods', 'Attributes', 'sample rate', 'none', 'buffer attributes'])
def test_names_that_nn_tilde_keeps_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match='keeps for itself'):
        export(TCN(n_knobs=1, n_blocks=1, ks=3), tmp_path/'a.ts', to='nn_tilde', sr=48000, knobs={name: .3})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['state', 'knobs', 'reset', 'Höhe', '3', 'class'])
def test_any_other_name_is_an_attribute(name, tmp_path):
    export(TCN(n_knobs=1, n_blocks=1, ks=3), tmp_path/'a.ts', to='nn_tilde', sr=48000, knobs={name: .3})
    live = load_effect(tmp_path/'a.ts').graph
    attribute, = live.get_attributes()
    assert getattr(live, f'get_{attribute}')() == pytest.approx((.3,))
    assert getattr(live, f'{attribute}_params').tolist() == [2]
    assert live.forward_params.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize('name', [*NETS, *ALONE])
def test_a_host_may_move_the_module_to_its_gpu(name):
    "nn~ calls `to` on the module, and its state is no buffer; `meta` stands for a device that is not the CPU."
    live = LiveModel({**NETS, **ALONE}[name]().eval().requires_grad_(False), 48000)
    live(torch.zeros(1, live.n_in, 64))
    y = live.to('meta')(torch.zeros(1, live.n_in, 64, device='meta'))
    assert y.device.type == 'meta' and list(y.shape) == [1, live.n_out, 64]


def test_one_process_exports_nets_with_knobs_again_and_again(tmp_path):
    "TorchScript shares the class of modules that are alike: each file still has its own knobs, whatever their order."
    for names in (['gain', 'tone'], ['gain', 'tone'], ['tone', 'gain']):
        torch.manual_seed(0)
        net, values = TCN(n_knobs=2, n_blocks=1, ks=3).eval(), dict(zip(names, (.2, .9)))
        export(net, tmp_path/'a.ts', to='nn_tilde', sr=48000, knobs=values)
        live, x = load_effect(tmp_path/'a.ts'), sound(300)[None]
        assert [getattr(live.graph, f'get_{n}')() for n in names] == [pytest.approx((.2,)), pytest.approx((.9,))]
        live.graph.set_tone(.6)
        values['tone'] = .6
        with torch.no_grad(): wanted = net(x[None], torch.tensor([list(values.values())]))[0]
        torch.testing.assert_close(live(x), wanted, atol=1e-6, rtol=0)
