"The command line as a person has it: another process, a real terminal, a log, names and numbers that are wrong."
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from fastproaudio.cli import main
from fastproaudio.dsp import noise, sine
from fastproaudio.io import audio_info, read_audio, write_audio
from fastproaudio.train import auto

SR = 16000
COMMAND = [sys.executable, '-m', 'fastproaudio.cli']


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    tmp = tmp_path_factory.mktemp('terminal')
    x = .3*noise(4*SR, seed=0)+.4*sine(110, SR, 4*SR)
    write_audio(tmp/'dry.wav', x, SR)
    write_audio(tmp/'wet.wav', .5*torch.tanh(4*x), SR)
    return tmp


@pytest.fixture(scope='module')
def amp(pair):
    words = ['train', pair/'dry.wav', pair/'wet.wav', '-o', pair/'amp', '--minutes', '.03', '--net', 'nam-nano']
    assert main([str(o) for o in words]) == 0
    return pair/'amp'


def run(*words, **kwargs):
    return subprocess.run([*COMMAND, *map(os.fspath, map(str, words))], capture_output=True, text=True, timeout=300,
                          **kwargs)


def on_terminal(*words, cwd, columns=100):
    "What a real terminal is sent, with the second of each piece, and the exit code."
    leader, follower = pty.openpty()
    env = dict(os.environ, COLUMNS=str(columns))
    start = time.time()
    p = subprocess.Popen([*COMMAND, *map(str, words)], stdin=follower, stdout=follower, stderr=follower, cwd=cwd,
                         env=env)
    os.close(follower)
    pieces = []
    while time.time()-start < 300:
        if not select.select([leader], [], [], .1)[0]: continue
        try: got = os.read(leader, 65536)
        except OSError: break                                   # the process has closed its side
        if not got: break
        pieces.append((time.time()-start, got.decode()))
    os.close(leader)
    return pieces, p.wait(timeout=60)


def screen(text):
    "The lines that are left when a terminal has obeyed every carriage return."
    lines = []
    for row in text.replace('\r\n', '\n').split('\n'):
        cells = []
        for part in row.split('\r'): cells[:len(part)] = list(part)
        lines.append(''.join(cells).rstrip())
    return lines


@pytest.mark.parametrize('words',
                         [('--help',), ('train', '--help'), ('train', 'a.wav', 'b.wav', '-o', 'x', '--minutes', '0'),
                          ('aply',), ('train', 'a.wav', 'b.wav', '-o', 'x', '--net', 'wavnet'), ('info', 'none.wav')])
def test_answers_to_words_need_no_torch(words, tmp_path):
    code = (f"import sys; from fastproaudio.cli import main\ntry: main({list(words)!r})\nexcept SystemExit: pass\n"
            "print([o for o in ('torch', 'numpy', 'fastai') if o in sys.modules])")
    begin = time.process_time()
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert r.stdout.endswith('[]\n'), r.stdout+r.stderr
    assert time.process_time()-begin < 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('words,why', [
    (('--minutes', '0'), '--minutes'), (('--minutes', 'inf'), '--minutes'), (('--minutes', 'nan'), '--minutes'),
    (('--minutes', '-1'), '--minutes'), (('--net', 'wavnet'), 'did you mean wavenet'),
    (('--threads', '0'), '--threads'), (('--sr', '8'), '--sr'), (('--seed', '-1'), '--seed'),
    (('--channels', '3'), '--channels'),
])
def test_bad_values_are_found_first(pair, capsys, monkeypatch, words, why):
    monkeypatch.chdir(pair)
    assert main(['train', 'dry.wav', 'wet.wav', '-o', 'never/made', *words]) == 1
    out, err = capsys.readouterr()
    assert out == '' and why in err and err.count('\n') == 1 and not (pair/'never').exists()


def test_failed_runs_leave_no_folders(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    write_audio(pair/'short.wav', torch.zeros(1, 100), SR)
    assert main(['train', 'short.wav', 'short.wav', '-o', 'deep/er/out', '--minutes', '.02']) == 1
    assert not (pair/'deep').exists(), capsys.readouterr()


def test_names_that_are_no_utf8(pair):
    r = subprocess.run([*COMMAND, 'info', b'\xff\xfe.wav'], capture_output=True, text=True, cwd=pair)
    assert (r.returncode == 1 and
            r.stderr == 'error: \\xff\\xfe.wav: expected a name in UTF-8, got other bytes; rename it\n')


def test_a_pipe_does_not_hang(pair):
    os.mkfifo(pair/'pipe.wav')
    for words in (('info', 'pipe.wav'), ('check', 'pipe.wav', 'dry.wav'), ('train', 'dry.wav', 'pipe.wav', '-o', 'x')):
        r = run(*words, cwd=pair)
        assert r.returncode == 1 and 'got a pipe' in r.stderr and r.stderr.count('\n') == 1


def test_what_nobody_expected_is_one_sentence(pair, capsys, monkeypatch):
    from fastproaudio.cli import look
    monkeypatch.chdir(pair)
    monkeypatch.setattr(look, 'describe', lambda *_: {}['lost\nkey'])
    assert main(['info', 'dry.wav']) == 1
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'KeyError' in err and '--debug' in err
    with pytest.raises(KeyError): main(['info', 'dry.wav', '--debug'])


def test_one_line_on_a_terminal(pair):
    pieces, code = on_terminal('train', 'dry.wav', 'wet.wav', '-o', 'seen', '--minutes', '.15', '--net', 'wavenet',
                               cwd=pair)
    text = ''.join(o for _, o in pieces)
    assert code == 0, text
    assert pieces[0][1].startswith('\rtrain') and '\x1b' not in text
    rows = [o for o in re.split(r'[\r\n]+', text) if o.strip()]
    moving = [o for o in rows if 'gone' in o]
    assert any(re.search(r'learning wavenet \[#+\.+\]: +\d+%, \d:\d\d gone, \d:\d\d left', o)
               for o in moving), moving[-3:]
    assert any('ESR' in o for o in moving)
    left = [o for o in screen(text) if o]
    assert not any('gone' in o for o in left) and left[0].startswith('ESR ') and left[1].startswith('next: '), left
    assert all(len(o) < 100 for o in moving)


def test_a_log_has_few_lines_and_no_control_characters(pair):
    r = run('train', 'dry.wav', 'wet.wav', '-o', 'logged', '--minutes', '.1', '--net', 'wavenet', cwd=pair)
    assert r.returncode == 0, r.stderr
    assert (r.stdout+r.stderr).replace('\n', '').isprintable()
    lines = r.stderr.splitlines()
    assert 1 <= len(lines) < 12 and all(' gone' in o for o in lines), lines


def test_interrupted_asks_for_resume(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    words = ['train', 'dry.wav', 'wet.wav', '-o', 'cut', '--minutes', '.4', '--net', 'wavenet']
    p = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.time()+120
    kept = pair/'cut'/'models'/'last.pth'
    seen = set()                                                # the first is of the start, before anything is learned
    while len(seen) < 3 and p.poll() is None and time.time() < until:
        if kept.exists(): seen.add(kept.stat().st_mtime_ns)
        time.sleep(.05)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode == 130 and
            err.splitlines()[-1] == 'interrupted; fastproaudio train ... -o cut --resume goes on'), err
    assert main(words) == 1
    err = capsys.readouterr().err
    assert '--resume' in err and '--overwrite' in err and (pair/'cut'/'models'/'last.pth').exists()
    assert main([*words, '--resume']) == 0
    said = capsys.readouterr()
    assert 'going on with wavenet' in said.out, said
    assert not (pair/'cut'/'training.json').exists()


def test_export_goes_by_the_suffix(amp, pair, capsys, monkeypatch): # noqa: ARG001
    import json
    monkeypatch.chdir(pair)
    about = ['--name', 'My amp', '--modeled-by', 'Me', '--gear-type', 'amp', '--gear-make', 'Acme',
             '--gear-model', 'One', '--tone-type', 'crunch', '--input-dbu', '12.5', '--output-dbu', '4']
    assert main(['export', 'amp', 'amp.nam', *about]) == 0
    meta = json.loads((pair/'amp.nam').read_text())['metadata']
    assert ((meta['name'], meta['gear_make'], meta['input_level_dbu']) == ('My amp', 'Acme', 12.5) and
            meta['training']['validation_esr'] > 0)
    assert main(['export', 'amp', 'other', '--to', 'nam']) == 0 and (pair/'other.nam').is_file()
    assert main(['export', 'amp', 'amp.onnx', '--to', 'nam']) == 1 and 'leave --to out' in capsys.readouterr().err
    assert main(['export', 'amp', 'amp.ts']) == 0 and (pair/'amp.ts').is_file()
    assert main(['export', 'amp', 'for/audacity']) == 0 and (pair/'for'/'audacity'/'model.pt').is_file()
    assert main(['export', 'amp', 'amp2.ts', '--gear-make', 'x']) == 1 and '--gear-make' in capsys.readouterr().err


@pytest.mark.parametrize('model', ['amp', 'amp.nam', 'amp.ts'])
def test_apply_is_one_path(amp, pair, capsys, monkeypatch, model): # noqa: ARG001
    monkeypatch.chdir(pair)
    if not (pair/model).exists(): assert main(['export', 'amp', model]) == 0
    x = read_audio(pair/'dry.wav')[0]
    write_audio(pair/'two.flac', torch.cat([x, x.flip(1)]), SR, 'PCM_16')
    assert main(['apply', model, 'two.flac', 'two_out.flac', '--overwrite']) == 0, capsys.readouterr()
    info = audio_info(pair/'two_out.flac')
    assert (info.sr, info.n, info.n_ch, info.subtype) == (SR, x.shape[1], 2, 'PCM_16')
    assert main(['apply', 'amp', 'dry.wav', 'mono_out.wav', '--float', '--overwrite']) == 0
    both = read_audio(pair/'two_out.flac')[0]
    assert (both[:1]-read_audio(pair/'mono_out.wav')[0]).abs().max() < 1e-4


def test_apply_keeps_rate_and_takes_folders(amp, pair, capsys, monkeypatch): # noqa: ARG001
    monkeypatch.chdir(pair)
    (pair/'in'/'sub').mkdir(parents=True)
    write_audio(pair/'in'/'a.wav', .1*noise(44100, seed=0), 44100, 'PCM_16')
    write_audio(pair/'in'/'sub'/'b.wav', .1*noise(SR, seed=0), SR)
    assert main(['apply', 'amp', 'in', 'out_dir', '--resample', '--gain', '-6',
                 '--tail', '.5']) == 0, capsys.readouterr()
    a, b = [audio_info(pair/'out_dir'/o) for o in ('a.wav', 'sub/b.wav')]
    assert ((a.sr, a.n, a.subtype) == (44100, 44100+22050, 'PCM_16') and
            (b.sr, b.n, b.subtype) == (SR, SR+SR//2, 'PCM_24'))
    (pair/'in'/'bad.wav').write_text('not sound')
    assert main(['apply', 'amp', 'in', 'out_dir', '--resample', '--overwrite']) == 1
    said = capsys.readouterr()
    assert '2 of 3 written' in said.out and 'bad.wav' in said.err


def test_stereo_that_is_none_is_folded(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    x, y = [read_audio(pair/o)[0] for o in ('dry.wav', 'wet.wav')]
    write_audio(pair/'dry2.wav', torch.cat([x, x]), SR)
    write_audio(pair/'wet2.wav', torch.cat([y, 0*y]), SR)
    assert main(['train', 'dry2.wav', 'wet2.wav', '-o', 'folded', '--minutes', '.02', '--net', 'wavenet']) == 0
    out = capsys.readouterr().out
    assert 'dry2.wav: both channels are equal, folded to mono' in out and 'wet2.wav: the right channel is silent' in out
    write_audio(pair/'wide.wav', torch.cat([y, .5*y.flip(0)-.1*x]), SR)
    assert main(['train', 'dry.wav', 'wide.wav', '-o', 'wide', '--minutes', '.02', '--net', 'wavenet']) == 0
    assert main(['apply', 'wide', 'dry.wav', 'wide_out.wav']) == 0 and audio_info(pair/'wide_out.wav').n_ch == 2
    assert main(['train', 'dry.wav', 'wide.wav', '-o', 'narrow', '--minutes', '.02', '--net', 'wavenet',
                 '--channels', '1']) == 0
    assert main(['apply', 'narrow', 'dry.wav', 'narrow_out.wav']) == 0 and audio_info(pair/'narrow_out.wav').n_ch == 1


def test_generate_mixes_stereo_down(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    x = read_audio(pair/'dry.wav')[0]
    write_audio(pair/'stereo.wav', torch.cat([x, .5*x]), SR)
    assert main(['train', '--generate', 'stereo.wav', '-o', 'hum', '--minutes', '.02', '--net', 'lstm']) == 0
    assert 'mixed down to mono' in capsys.readouterr().out


def test_check_says_what_the_files_are(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    write_audio(pair/'lossy.mp3', read_audio(pair/'dry.wav')[0], SR)
    main(['check', 'lossy.mp3', 'wet.wav'])
    out = capsys.readouterr().out
    for words in ('4.00 s (64000 samples), 16000 Hz, 1 channel(s), 24 bit; peak', 'crest', 'quietest part',
                  'compressed with loss'):
        assert words in out, out
    assert main(['check', 'dry.wav', 'dry.wav']) == 1 and 'the same sound' in capsys.readouterr().out


def test_info_prints_sentences(amp, capsys):
    assert main(['info', str(amp)]) == 0
    out = capsys.readouterr().out
    assert not set('{}[]') & set(out.replace(str(amp), '')) and 'error-to-signal ratio' in out, out


def test_a_capture_signal_from_end_to_end(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    # as much training on a busy machine
    monkeypatch.setattr(auto, 'train_effect', partial(auto.train_effect, clock=time.process_time))
    assert main(['signal', 'capture.wav', '--sr', '8000', '--minutes', '1']) == 0
    x = read_audio(pair/'capture.wav')[0]
    late = torch.cat([torch.zeros(1, 123), -.4*torch.tanh(3*x)], 1)[:, :x.shape[1]]
    write_audio(pair/'recorded.wav', late+1e-4*noise(late.shape[1], seed=0, amp=1.), 8000)
    assert main(['train', 'capture.wav', 'recorded.wav', '-o', 'captured', '--minutes', '.08', '--net', 'wavenet']) == 0
    said = capsys.readouterr()
    assert 'latency 123 samples (15.38 ms), inverted' in said.out and 'noise -80 dBFS, no hum' in said.out, said
    from fastproaudio.export import load_network
    assert load_network(pair/'captured').record['esr_test'] < .5


def test_many_captures(pair, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    rows = ['name,dry,wet', 'good,dry.wav,wet.wav', 'lost,dry.wav,none.wav', 'again,dry.wav,wet.wav', '']
    (pair/'captures.csv').write_text('\n'.join(rows))
    assert main(['train', 'captures.csv', '-o', 'many', '--minutes', '.02', '--net', 'wavenet']) == 1
    page = (pair/'many'/'captures.md').read_text()
    assert all((pair/'many'/o/'network.json').exists() for o in ('good', 'again')) and not (pair/'many'/'lost').exists()
    assert '| good | ' in page and '| lost | - | failed: none.wav' in page and page in capsys.readouterr().out
