"The command line: every job from files to files, errors in one line, nothing lost."
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from fastproaudio.cli import main
from fastproaudio.dsp import noise, sine
from fastproaudio.export import load_effect, load_network
from fastproaudio.io import audio_info, read_audio, write_audio
from fastproaudio.train import auto

SR = 16000


def run(capsys, *words):
    "Exit code and what was printed."
    capsys.readouterr()
    try: code = main([str(w) for w in words])
    except SystemExit as e: code = e.code
    said = capsys.readouterr()
    # without the progress of a slow machine
    return code, said.out, ''.join(o for o in said.err.splitlines(True) if ' gone' not in o)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A pair, a stereo file, one at another rate, and faulty ones."
    tmp = tmp_path_factory.mktemp('cli')
    torch.manual_seed(0)
    x = .3*noise(3*SR, seed=0)+.4*sine(110, SR, 3*SR)
    write_audio(tmp/'dry.wav', x, SR)
    write_audio(tmp/'wet.wav', .5*torch.tanh(4*x), SR)
    write_audio(tmp/'stereo.wav', torch.cat([x, -x]), SR)
    write_audio(tmp/'fast.wav', x, 2*SR)
    write_audio(tmp/'silent.wav', 0*x, SR)
    write_audio(tmp/'short.wav', x[:, :100], SR)
    (tmp/'text.wav').write_text('not sound')
    return tmp


@pytest.fixture(scope='module')
def amp(files):
    assert main(['train', str(files/'dry.wav'), str(files/'wet.wav'), '-o',
                 str(files/'amp'), '--minutes', '.03', '--net', 'wavenet']) == 0
    return files/'amp'


def test_help_needs_no_torch():
    code = ("import sys; from fastproaudio.cli import main\n"
            "try: main(['train', '--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)")
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.stdout.strip().endswith('False') and '--minutes' in r.stdout and not r.stderr


def test_the_folder_is_whole(amp):
    names = sorted(p.name for p in amp.iterdir())
    assert names == ['dry.wav', 'network.json', 'picture.png', 'predicted.wav', 'report.md', 'weights.pt', 'wet.wav']
    assert load_network(amp).record['esr'] and 'ESR' in (amp/'report.md').read_text()


@pytest.mark.parametrize('name,n_ch', [('dry', 1), ('stereo', 2)])
def test_apply(files, amp, capsys, name, n_ch):
    code, out, err = run(capsys, 'apply', amp, files/f'{name}.wav', files/f'{name}_out.wav')
    assert (code, err) == (0, '') and 'written' in out
    info = audio_info(files/f'{name}_out.wav')
    assert (info.n, info.n_ch, info.sr) == (3*SR, n_ch, SR)
    with torch.no_grad(): want = load_network(amp)(read_audio(files/f'{name}.wav')[0][:, None])[:, 0]
    assert (read_audio(files/f'{name}_out.wav')[0]-want).abs().max() < 2e-6


def test_apply_at_another_rate(files, amp, capsys):
    code, out, err = run(capsys, 'apply', amp, files/'fast.wav', files/'fast_out.wav')
    assert code == 1 and f'expected {SR} Hz' in err and '--resample' in err and not (files/'fast_out.wav').exists()
    code, out, err = run(capsys, 'apply', amp, files/'fast.wav', files/'fast_out.wav', '--resample')
    assert code == 0 and (audio_info(files/'fast_out.wav').sr, audio_info(files/'fast_out.wav').n) == (2*SR, 3*SR)


@pytest.mark.parametrize('to,name', [('audacity', 'aud'), ('onnx', 'amp.onnx'), ('nn_tilde', 'amp.ts')])
def test_exports_play_as_the_folder_does(files, amp, capsys, to, name):
    code, out, err = run(capsys, 'export', amp, files/name, '--to', to)
    assert code == 0, err
    x = read_audio(files/'dry.wav')[0]
    with torch.no_grad(): assert (load_effect(files/name)(x)-load_network(amp)(x[None])[0]).abs().max() < 1e-4
    code, out, err = run(capsys, 'apply', files/name, files/'dry.wav', files/f'through_{to}.wav')
    assert code == 0 and audio_info(files/f'through_{to}.wav').n == 3*SR
    assert f'an export for {to}' in run(capsys, 'info', files/name)[1]


def test_a_net_for_nam(files, capsys):
    assert run(capsys, 'train', files/'dry.wav', files/'wet.wav', '-o', files/'nano',
               '--minutes', '.02', '--net', 'nam-nano')[0] == 0
    code, out, err = run(capsys, 'export', files/'nano', files/'nano.nam', '--to', 'nam')
    assert code == 0 and (files/'nano.nam').exists(), err


def test_knobs_from_a_table(files, capsys):
    x = read_audio(files/'dry.wav')[0]
    rows = ['input,target,drive']
    for d in (0, 6, 12):
        write_audio(files/f'd{d}.wav', .5*torch.tanh(10**(d/20)*x), SR)
        rows.append(f'dry.wav,d{d}.wav,{d}')
    (files/'table.csv').write_text('\n'.join(rows)+'\n')
    code, out, err = run(capsys, 'train', files/'table.csv', '-o', files/'knobbed',
                         '--minutes', '.05', '--net', 'wavenet')
    assert code == 0, err
    assert run(capsys, 'apply', files/'knobbed', files/'dry.wav', files/'k3.wav', '--knob', 'drive=3')[0] == 0
    assert run(capsys, 'apply', files/'knobbed', files/'dry.wav', files/'k12.wav', '--knob', 'drive=12')[0] == 0
    assert (read_audio(files/'k3.wav')[0]-read_audio(files/'k12.wav')[0]).abs().max() > 1e-4
    for setting, why in (('drive=30', '0 to 12'), ('gain=3', "'drive'"), ('drive=loud', 'drive')):
        code, out, err = run(capsys, 'apply', files/'knobbed', files/'dry.wav', files/'k.wav', '--knob', setting)
        assert code == 1 and why in err and err.count('\n') == 1 and not (files/'k.wav').exists(), err


def test_generate(files, capsys):
    code, out, err = run(capsys, 'train', files/'dry.wav', '-o', files/'hum',
                         '--generate', '--minutes', '.02', '--net', 'lstm')
    assert code == 0 and 'bits per sample' in out, err
    for name in ('g1', 'g2'):
        code, out, err = run(capsys, 'generate', files/'hum', files/f'{name}.wav',
                             '--seconds', '.1', '--seed', '3', '--prompt', files/'dry.wav')
        assert code == 0, err
    a, b = [read_audio(files/f'{n}.wav')[0] for n in ('g1', 'g2')]
    assert a.shape == (1, SR//10) and torch.equal(a, b)


@pytest.mark.parametrize('words,why', [
    (('info', 'none.wav'), 'none.wav'), (('info', 'text.wav'), 'text.wav'),
    (('train', 'none.wav', 'wet.wav', '-o', 'x'), 'none.wav'),
    (('train', 'dry.wav', 'text.wav', '-o', 'x'), 'text.wav'),
    (('train', 'dry.wav', 'fast.wav', '-o', 'x'), 'Hz'), (('train', 'dry.wav', 'silent.wav', '-o', 'x'), 'silen'),
    (('train', 'short.wav', 'short.wav', '-o', 'x'), '8192'),
    (('train', 'dry.wav', 'wet.wav', '-o', 'x', '--net', 'magic'), 'magic'),
    (('train', 'dry.wav', 'wet.wav', '-o', 'x', '--minutes', '-1'), 'minutes'),
    (('train', 'dry.wav', 'wet.wav', '-o', 'x', '--resume'), 'cut off'),
    (('train', 'dry.wav', 'wet.wav', '-o', 'amp'), '--overwrite'), (('apply', 'amp', 'text.wav', 'x.wav'), 'text.wav'),
    (('apply', 'none', 'dry.wav', 'x.wav'), 'none'), (('generate', 'amp', 'x.wav'), 'next sample'),
    (('export', 'amp', 'x.nam', '--to', 'nam'), 'nam'),
    (('check', 'dry.wav', 'none.wav'), 'none.wav'),
])
@pytest.mark.usefixtures('amp')
def test_errors_are_one_line(files, capsys, monkeypatch, words, why):
    monkeypatch.chdir(files)
    code, out, err = run(capsys, *words)
    errors = [o for o in err.splitlines() if not o.startswith('warning: ')]
    assert code == 1 and len(errors) == 1 and errors[0].startswith('error: ') and why in errors[0], (code, out, err)
    assert not (files/'x.wav').exists() and not (files/'x'/'network.json').exists() and not (files/'x.nam').exists()


def test_debug_shows_where(files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match='none.wav'): main(['info', 'none.wav', '--debug'])


def test_check_says_what_is_wrong(files, capsys):
    x = read_audio(files/'dry.wav')[0]
    write_audio(files/'late.wav', torch.cat([torch.zeros(1, 240), .5*torch.tanh(4*x)], 1)[:, :x.shape[1]], SR)
    code, out, err = run(capsys, 'check', files/'dry.wav', files/'late.wav', '--picture', files/'late.png')
    assert '240' in out and (files/'late.png').stat().st_size > 10_000, out
    assert run(capsys, 'check', files/'dry.wav', files/'wet.wav')[0] == 0


def test_killed_and_resumed(files, capsys):
    words = [sys.executable, '-m', 'fastproaudio.cli', 'train', files/'dry.wav',
             files/'wet.wav', '-o', files/'killed', '--minutes', '.4', '--net', 'wavenet']
    p = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.time()+120
    while not (files/'killed'/'models'/'last.pth').exists() and p.poll() is None and time.time() < until: time.sleep(.1)
    time.sleep(1)
    p.send_signal(signal.SIGKILL); p.wait()
    assert not (files/'killed'/'network.json').exists(), 'it was done before it was killed'
    code, out, err = run(capsys, *words[3:], '--resume')
    assert code == 0 and (files/'killed'/'network.json').exists() and not (files/'killed'/'models').exists(), err


def test_aligned_recordings_are_judged_aligned(files, capsys, monkeypatch):
    # as much training on a busy machine
    monkeypatch.setattr(auto, 'train_effect', partial(auto.train_effect, clock=time.process_time))
    x = read_audio(files/'dry.wav')[0]
    write_audio(files/'behind.wav', torch.cat([torch.zeros(1, 700), .5*torch.tanh(4*x)], 1)[:, :x.shape[1]], SR)
    pair = (files/'dry.wav', files/'behind.wav')
    code, out, err = run(capsys, 'train', *pair, '-o', files/'aligned', '--minutes',
                         '.04', '--net', 'wavenet', '--align', '--test', *pair)
    assert code == 0, err
    record = load_network(files/'aligned').record
    assert abs(record['latency_removed'][0]-700) <= 1 and record['esr_test'] < .5, record
