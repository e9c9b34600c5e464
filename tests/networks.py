"The networks that the contract is asked of, each in a small size, and what one gives them."
from typing import Optional

import torch
from torch import nn

from fastproaudio.dsp import noise
from fastproaudio.models import (AudioModel, Block, FIR, LSTMEffect, NAMLSTM, NAMWaveNet, Parallel, SideChain, TCN,
                                 UNet1d, WaveNet)


def noisy(m):
    "A filter that is not just the dry signal."
    with torch.no_grad(): m.taps.normal_(std=.1)
    return m


NAM = [dict(n_in=1, channels=4, dilations=[1, 2, 4], ks=[3]*3, acts=['Tanh']*3, gated=False, head=2, head_ks=1,
            head_bias=False),
       dict(n_in=4, channels=2, dilations=[8, 1], ks=[2, 3], acts=['SiLU', 'Tanh'], gated=True, head=1, head_ks=5,
            head_bias=True)]


class Own(AudioModel):
    "A network of a user's: `valid` alone, all else from the base."
    def __init__(self):
        super().__init__(1, 1, 0, receptive_field=7, lookahead=2)
        self.conv = nn.Conv1d(1, 1, 7)
    def valid(self, x: torch.Tensor, knobs: Optional[torch.Tensor] = None) -> torch.Tensor:
        return torch.tanh(self.conv(x))


MODELS = {
    'own': Own,
    'tcn': lambda: TCN(n_blocks=3, ks=5, dilation_growth=4, channel_width=6),
    'tcn_centred': lambda: TCN(n_blocks=3, ks=5, dilation_growth=4, channel_width=6, causal=False),
    'tcn_even_kernel_centred': lambda: TCN(n_blocks=3, ks=4, dilation_growth=3, channel_width=6, causal=False),
    'tcn_knobs': lambda: TCN(n_knobs=2, n_blocks=3, ks=3, dilation_growth=5, channel_width=6),
    'tcn_stereo_grouped': lambda: TCN(2, 2, n_blocks=4, ks=3, dilation_growth=2, channel_width=4, stack_size=2,
                                      grouped=True),
    'tcn_no_memory': lambda: TCN(n_blocks=2, ks=1, channel_width=6),
    'wavenet': lambda: WaveNet(channels=6, n_layers=5, n_blocks=2, head=4),
    'wavenet_gated_knobs_stereo': lambda: WaveNet(2, 2, n_knobs=2, channels=4, ks=2, n_layers=4, gated=True, head=4),
    'fir': lambda: noisy(FIR(40)),
    'fir_stereo': lambda: noisy(FIR(20, 2, 2)),
    'parallel_knobs': lambda: Parallel(noisy(FIR(50)),
                                       TCN(n_knobs=2, n_blocks=2, ks=3, dilation_growth=5, channel_width=6)),
    'nam': lambda: NAMWaveNet(NAM, head_scale=.5),
    'nam_lstm': lambda: NAMLSTM(6, 2, run_in=200),
    'block': lambda: Block(3, 3, intermediate_channels=4, bias=True),
    'unet': lambda: UNet1d(channels=(4, 6, 8), strides=(2, 3), ks=5),
    'unet_knobs': lambda: UNet1d(n_knobs=3, channels=(4, 6), strides=(4,), ks=3),
    'unet_causal': lambda: UNet1d(channels=(4, 6, 8), strides=(2, 3), ks=5, causal=True),
    'unet_causal_stereo_knobs': lambda: UNet1d(2, 2, 1, channels=(4, 6, 8), strides=(4, 2), ks=3, causal=True),
    'sidechain': lambda: SideChain(hop=6, frames=8, width=5, channels=4, ks=3, n_layers=3, film=3),
    'sidechain_stereo_knobs': lambda: SideChain(2, 2, 2, hop=8, frames=2, width=4, channels=4, ks=2, n_layers=2,
                                                film=3),
    'sidechain_lstm': lambda: SideChain(hop=4, frames=60, driver='lstm', width=5, channels=4, ks=3, n_layers=2, film=3),
    'sidechain_lstm_knobs': lambda: SideChain(1, 2, n_knobs=1, hop=5, frames=60, driver='lstm', width=5, channels=4,
                                              n_layers=2, film=3),
    'lstm': lambda: LSTMEffect(hidden=6, warm_up=200),
    'lstm_stereo_knobs_layers': lambda: LSTMEffect(2, 2, n_knobs=2, hidden=5, n_layers=2, warm_up=200),
}


def make_input(m, n, bs=2, dtype=torch.float32):
    x = torch.stack([noise(n, seed=i, n_ch=m.n_in, amp=.5) for i in range(bs)]).to(dtype)
    knobs = torch.linspace(.1, .9, bs*m.n_knobs).reshape(bs, m.n_knobs).to(dtype) if m.n_knobs else None
    return x, knobs
