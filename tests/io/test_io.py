"""Files in, files out: every format, every kind of bad file."""
import os,struct,sys,warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from fastproaudio.io import *
from fastproaudio.dsp import noise, sine
from fastproaudio.io.recording import resample_audio

sr = 22050
formats = {'w16.wav':('WAV','PCM_16'), 'w24.wav':('WAV','PCM_24'), 'w32.wav':('WAV','PCM_32'), 'wf.wav':('WAV','FLOAT'),
           'rf64.wav':('RF64','PCM_16'), 'wex.wav':('WAVEX','PCM_24'), 'f16.flac':('FLAC','PCM_16'),
           'f24.flac':('FLAC','PCM_24'),
           'v.ogg':('OGG','VORBIS'), 'm.mp3':('MP3','MPEG_LAYER_III'), 'a.aiff':('AIFF','PCM_16')}
steps = {'PCM_16':2**-15, 'PCM_24':2**-23, 'PCM_32':2**-24, 'FLOAT':0}

def sound(n=3*sr, n_ch=2):
    return (torch.stack([sine(220*(i+1), sr, n, amp=.4) for i in range(n_ch)]) + .05*noise(n, seed=1, n_ch=n_ch)/.1)

def put(path, x, fmt=None, subtype=None, rate=sr):
    sf.write(path, x.T.numpy(), rate, format=fmt, subtype=subtype)
    return path

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    d = tmp_path_factory.mktemp('formats')
    for name,(fmt,sub) in formats.items(): put(d/name, sound(), fmt, sub)
    return d

@pytest.mark.parametrize('name', formats)
def test_header(files, name):
    i = audio_info(files/name)
    assert (i.sr, i.n, i.n_ch, i.subtype) == (sr, 3*sr, 2, formats[name][1])
    assert i.duration == 3. and audio_info(files/name) is i

@pytest.mark.parametrize('name', formats)
def test_slice_equals_slice_of_the_whole(files, name):
    "In any order, whatever was read before, to the last bit."
    whole,rate = read_audio(files/name)
    assert rate == sr and whole.dtype == torch.float32 and whole.shape == (2, 3*sr)
    rng = np.random.default_rng(0)
    for start in [0, 1, 1151, 1152, 1153, 3*sr-500, *rng.integers(0, 3*sr-500, 25).tolist()]:
        assert torch.equal(read_audio(files/name, start, 500)[0], whole[:, start:start+500]), start
    assert torch.equal(read_audio(files/name, 3*sr-1)[0], whole[:, -1:])

@pytest.mark.parametrize('name', [k for k,(f,s) in formats.items() if s in steps])
def test_lossless_formats_agree(files, name):
    assert (read_audio(files/name)[0]-sound()).abs().max() <= steps[formats[name][1]]

@pytest.mark.parametrize('name', ['v.ogg', 'm.mp3'])
def test_lossy_formats_line_up(files, name):
    "No delay: the correlation with the original peaks at lag 0."
    x,y = sound()[0],read_audio(files/name)[0][0]
    c = torch.fft.irfft(torch.fft.rfft(y, 2**18)*torch.fft.rfft(x, 2**18).conj())
    assert c.argmax() == 0

def test_only_what_is_asked_is_decoded(files, monkeypatch):
    asked = []
    plain = sf.SoundFile.read
    def read(self, *a, **k):
        asked.append(len(k['out']) if 'out' in k else a[0])
        return plain(self, *a, **k)
    monkeypatch.setattr(sf.SoundFile, 'read', read)
    read_audio(files/'w16.wav', 40_000, 100)
    assert sum(asked) == 100

def test_handles_are_few(tmp_path):
    if not Path('/proc/self/fd').exists(): pytest.skip('counts open files in /proc')
    paths = [put(tmp_path/f'{i}.wav', sound(100)) for i in range(150)]
    before = len(os.listdir('/proc/self/fd'))
    for p in paths: read_audio(p, 10, 20)
    assert len(os.listdir('/proc/self/fd'))-before <= 64

def test_changed_file_is_read_anew(tmp_path):
    p = put(tmp_path/'a.wav', sound(1000))
    read_audio(p, 0, 10)
    put(p, -sound(2000))
    assert audio_info(p).n == 2000
    assert torch.allclose(read_audio(p, 0, 10)[0], -sound(2000)[:, :10], atol=1e-4)

# Writing

@pytest.mark.parametrize('name,subtype,step',
                         [('a.wav',None,2**-24), ('a.wav','PCM_16',2**-16), ('a.wav','PCM_32',2**-25),
                          ('a.wav','FLOAT',0),
                         ('a.wav','PCM_U8',2**-8), ('a.flac',None,2**-24), ('a.flac','PCM_16',2**-16),
                         ('a.aiff',None,2**-24), ('a.rf64',None,2**-24)])
def test_write_read(tmp_path, name, subtype, step):
    x = sound(5000)
    assert write_audio(tmp_path/name, x, sr, subtype=subtype) == tmp_path/name
    y,rate = read_audio(tmp_path/name)
    assert rate == sr and (x-y).abs().max() <= step
    assert torch.equal(read_audio(write_audio(tmp_path/name, -x, sr, subtype=subtype))[0], -y)
    assert os.listdir(tmp_path) == [name]

@pytest.mark.parametrize('name', ['a.ogg', 'a.mp3', 'a.opus'])
def test_write_lossy(tmp_path, name):
    rate = 48000
    x = torch.stack([sine(440, rate, rate, amp=.5)])
    y,_ = read_audio(write_audio(tmp_path/name, x, rate))
    assert (y-x)[:, 5000:-5000].pow(2).mean() < .01*x.pow(2).mean()

def test_16_bits_come_back_exactly(tmp_path):
    x = torch.arange(-2**15, 2**15)[None]/2**15
    assert torch.equal(read_audio(write_audio(tmp_path/'a.wav', x, sr, subtype='PCM_16'))[0], x)

def test_writer_appends(tmp_path):
    x = sound(5000)
    with audio_writer(tmp_path/'a.flac', sr, 2) as write:
        for i in range(0, 5000, 700): write(x[:, i:i+700])
        assert not (tmp_path/'a.flac').exists()
    assert (read_audio(tmp_path/'a.flac')[0]-x).abs().max() <= 2**-24

@pytest.mark.parametrize('bad,says', [(torch.tensor([[0., float('nan')]]), 'at sample 1; nothing was written'),
                                      (torch.zeros(2, 3, 4), r'got \(2, 3, 4\)'),
                                      (torch.zeros(5000, 2), 'transpose it')])
def test_refused_writes_leave_what_was_there(tmp_path, bad, says):
    p = write_audio(tmp_path/'a.wav', sound(100), sr)
    was = p.read_bytes()
    with pytest.raises(ValueError, match=says) as e: write_audio(p, bad, sr)
    assert str(p) in str(e.value) and p.read_bytes() == was and os.listdir(tmp_path) == ['a.wav']

def test_crash_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        with audio_writer(tmp_path/'a.wav', sr) as write:
            write(torch.zeros(1, 100))
            raise RuntimeError
    assert os.listdir(tmp_path) == []

def test_clipping_is_said(tmp_path):
    with pytest.warns(UserWarning, match=r'a.wav: 2 samples clipped, the peak was 1.5'):
        write_audio(tmp_path/'a.wav', [[0, 1.5, -1.2, 1.]], sr)
    assert read_audio(tmp_path/'a.wav')[0].abs().max() <= 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        write_audio(tmp_path/'f.wav', [[0, 1.5]], sr, subtype='FLOAT')
    assert read_audio(tmp_path/'f.wav')[0].max() == 1.5

@pytest.mark.parametrize('name,kw,says', [('a.xyz', {}, "got the suffix '.xyz'"),
                                          ('a.wav', dict(subtype='VORBIS'), "got subtype='VORBIS'"),
                                          ('no/a.wav', {}, 'does not exist'),
                                          ('é'*200+'.wav', {}, 'cannot be written')])
def test_unwritable(tmp_path, name, kw, says):
    with pytest.raises(ValueError, match=says): write_audio(tmp_path/name, sound(100), sr, **kw)
    assert os.listdir(tmp_path) == []

def test_longest_possible_name(tmp_path):
    p = tmp_path/('n'*251+'.wav')
    assert read_audio(write_audio(p, sound(100), sr))[0].shape == (2, 100)

def test_non_ascii_name(tmp_path):
    p = tmp_path/'Größe 音 ñ \'"🎸.flac'
    assert read_audio(write_audio(p, sound(100), sr), 10, 5)[0].shape == (2, 5)

# Bad files: one sentence that names the file

def says(path, *words, call=audio_info):
    with pytest.raises(ValueError) as e: call(path)
    m = str(e.value)
    assert str(path) in m and '\n' not in m and all(w in m for w in words), m

def test_not_audio(tmp_path):
    p = tmp_path/'a.wav'
    p.write_text('dear diary')
    says(p, 'expected an audio file', 'convert it')

def test_empty_file(tmp_path):
    (tmp_path/'a.wav').touch()
    says(tmp_path/'a.wav', 'expected an audio file')

@pytest.mark.parametrize('name', ['w16.wav', 'wf.wav', 'rf64.wav', 'wex.wav', 'f16.flac', 'f24.flac'])
def test_truncated(files, tmp_path, name):
    b = (files/name).read_bytes()
    (tmp_path/name).write_bytes(b[:len(b)*2//3])
    says(tmp_path/name, 'truncated', 'promises', 'copy the file again')

@pytest.mark.parametrize('size', [0xFFFFFFFF])
def test_wav_from_a_pipe_is_whole(files, tmp_path, size):
    "Programs that write WAV into a pipe cannot know the size: that is no truncation."
    b = bytearray((files/'w16.wav').read_bytes())
    at = b.index(b'data')
    b[at+4:at+8] = struct.pack('<I', size)
    (tmp_path/'a.wav').write_bytes(b)
    assert audio_info(tmp_path/'a.wav').n == 3*sr

def test_flac_of_unknown_length(files, tmp_path):
    b = bytearray((files/'f16.flac').read_bytes())
    b[21] &= 0xF0
    b[22:26] = bytes(4)
    (tmp_path/'a.flac').write_bytes(b)
    says(tmp_path/'a.flac', 'says how long', 'convert it again')

def test_zero_samples(tmp_path):
    sf.write(tmp_path/'a.wav', np.zeros((0, 1)), sr)
    says(tmp_path/'a.wav', 'zero samples')

def test_directory(tmp_path): says(tmp_path, 'got a directory')
def test_missing(tmp_path): says(tmp_path/'a.wav', 'no such file')
def test_name_too_long(tmp_path): says(tmp_path/('n'*300+'.wav'), 'cannot be opened')

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_unreadable(tmp_path):
    "As root everything is readable, so the question is put by a child that is nobody."
    p = put(tmp_path/'a.wav', sound(100))
    p.chmod(0)
    if os.getuid()!=0: return says(p, 'permission denied')
    for d in [tmp_path, *tmp_path.parents][:-2]: d.chmod(0o755)
    if (pid := os.fork())==0:
        code = 1
        try:
            os.setuid(65534)
            try: audio_info(p)
            except ValueError as e: code = 0 if f'{p}: expected a readable file' in str(e) else 2
        finally: os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

@pytest.mark.parametrize('start,n', [(0, 101), (101, 1), (-1, 5), (50, -1), (200, None)])
def test_outside(tmp_path, start, n):
    p = put(tmp_path/'a.wav', sound(100))
    with pytest.raises(ValueError, match='range inside its 100 samples'): read_audio(p, start, n)

# Health

@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_nan_and_inf(tmp_path, value):
    sf.write(tmp_path/'a.wav', np.array([0, value, .5, value]), sr, subtype='FLOAT')
    says(tmp_path/'a.wav', 'got 2 NaN or Inf', call=check_audio)

def test_silent(tmp_path): says(put(tmp_path/'a.wav', torch.zeros(1, 100)), 'silence throughout', call=check_audio)

def test_clipped_warns(tmp_path):
    x = (3*sine(100, sr, sr)[None]).clamp(-1, 1)
    with pytest.warns(UserWarning, match=r'samples are clipped'): h = check_audio(put(tmp_path/'a.wav', x))
    assert h.n_clipped == pytest.approx((x.abs()>=.9999).sum().item(), abs=4)

@pytest.mark.parametrize('x', [sine(100, sr, sr)[None], .5*sound(),
                               torch.cat([torch.ones(1, 2), torch.zeros(1, 9)], 1)])
def test_sound_that_is_well(tmp_path, x):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        h = check_audio(put(tmp_path/'a.wav', x))
    assert h.n_clipped == 0 and h.peak == pytest.approx(x.abs().max().item(), abs=1e-4)

# Rates

@pytest.mark.parametrize('to', [16000, 44100, 48000])
def test_resample_file(tmp_path, to):
    "By blocks equals in one go; a tone stays what it is."
    p = write_audio(tmp_path/'a.wav', sine(440, sr, 4*sr, amp=.5)[None], sr)
    q = resample_file(p, tmp_path/'b.wav', to, block=10_000)
    y,rate = read_audio(q)
    assert (rate, y.shape) == (to, (1, 4*to))
    assert (y[0]-sine(440, to, 4*to, amp=.5))[to//2:-to//2].abs().max() < 1e-5
    assert (y-resample_audio(read_audio(p)[0], sr, to)).abs().max() < 1e-5

# A recording: one face for a file, an array and a tensor

class Rated(torch.Tensor): sr = sr

SOURCES = {'a file':lambda d, x: write_audio(d/'x.wav', x, sr, subtype='FLOAT'),
           'a path as text':lambda d, x: str(write_audio(d/'x.wav', x, sr, subtype='FLOAT')),
           'a compressed file':lambda d, x: write_audio(d/'x.flac', x, sr),
           'a tensor':lambda d, x: x,
           'an array':lambda d, x: x.numpy(),
           'doubles':lambda d, x: x.double().numpy(),
           'a list':lambda d, x: x.tolist(),
           'a gradient':lambda d, x: x.clone().requires_grad_(),
           'a tensor with a rate':lambda d, x: x.as_subclass(Rated)}

@pytest.mark.parametrize('src', SOURCES)
@pytest.mark.parametrize('n_ch', [1, 2])
def test_recordings_read_alike(tmp_path, src, n_ch):
    x = .4*sound(4000, n_ch)
    r = Recording(SOURCES[src](tmp_path, x), sr)
    assert (r.sr, r.n, r.n_ch) == (sr, 4000, n_ch)
    assert (r.read()-x).abs().max() <= 2**-23 and r.read().dtype == torch.float32
    assert torch.equal(r.read(100, 50), r.read()[:, 100:150])
    assert torch.equal(torch.cat([b for _,b in r.blocks(999)], 1), r.read())
    assert [s for s,_ in r.blocks(999)] == [0, 999, 1998, 2997, 3996]
    p = r.part(1000, 3000).part(10)
    assert p.n == 1990 and torch.equal(p.read(), r.read(1010, 1990)) and r.n == 4000
    out = np.ones((n_ch, 2100), np.float32)
    p.fill(out, -60)
    assert (out[:, :60]==0).all() and (out[:, 2050:]==0).all()
    assert torch.equal(torch.from_numpy(out[:, 60:2050]), p.read())
    for start,n in ((-1, 5), (1989, 2), (0, -1)):
        with pytest.raises(ValueError, match='range inside its 1990 samples'): p.read(start, n)
    with pytest.raises(ValueError, match='range inside its 4000 samples'): r.part(3000, 5000)

def test_one_dimension_is_one_channel_and_16_bits_are_scaled(tmp_path):
    codes = np.array([0, 2**14, -2**15, 2**15-1], np.int16)
    for x in (codes, torch.from_numpy(codes)): assert Recording(x, sr).read().tolist() == [[0, .5, -1, 1-2**-15]]
    sf.write(tmp_path/'a.wav', codes, sr, subtype='PCM_16')
    r = Recording(tmp_path/'a.wav')
    assert r.load().dtype == np.int16 and torch.equal(r.read(), Recording(codes, sr).read())
    assert Recording(tmp_path/'a.wav').load() is r.load()            # who holds the same file holds the same samples

@pytest.mark.parametrize('x,says', [(np.zeros((1, 2, 9)), r'got \[1, 2, 9\]; pass one recording'),
                                    (np.zeros((5000, 2)), 'transpose it'),
    (np.zeros(0), 'got zero samples'), (np.zeros(9, bool), 'got bool; pass the sound itself'),
    (torch.zeros(9)>0, 'got bool'),
    (np.zeros(9, np.int32), 'got int32; divide'), (torch.zeros(9).byte(), 'got uint8; divide'),
    (np.zeros(9, complex), 'got complex128'),
    (np.array(['a']), 'pass the sound itself'), ([0., float('nan')], r'NaN or Inf at sample 1 \('),
    ([0., float('-inf')], 'NaN or Inf')])
def test_what_is_no_recording_is_said(x, says):
    with pytest.raises(ValueError, match=says) as e: Recording(x, sr, name='my take').read()
    assert str(e.value).startswith('my take: expected') and '\n' not in str(e.value)

def test_the_rate_of_a_recording(tmp_path):
    x,p = sound(4000),write_audio(tmp_path/'x.wav', sound(4000), sr, subtype='FLOAT')
    with pytest.raises(ValueError, match='recording: expected its sample rate, got none'): Recording(x)
    for src in (p, x.as_subclass(Rated)):
        with pytest.raises(ValueError, match='expected 48000 Hz, got 22050 Hz; pass resample=True'):
            Recording(src, 48000)
        r = Recording(src, 11025, resample=True)
        assert (r.sr, r.n) == (11025, 2000) and torch.equal(r.read(), resample_audio(x, sr, 11025))
        assert torch.equal(r.part(500).read(0, 100), r.read(500, 100))

def test_nan_in_a_file_is_refused_where_it_is_read(tmp_path):
    x = sound(4000, 1)
    x[0, 3000] = float('nan')
    sf.write(tmp_path/'a.wav', x.T.numpy(), sr, subtype='FLOAT')
    r = Recording(tmp_path/'a.wav')
    assert torch.equal(r.read(0, 3000), x[:, :3000])
    for read in (lambda: r.read(2900, 200), lambda: r.part(2900).read(), lambda: list(r.blocks(700))):
        with pytest.raises(ValueError, match=r'a.wav: expected finite samples, .* at sample 3000 \(0.136 s\)'):
            read()
    assert Recording(tmp_path/'a.wav', finite=False).read().isnan().sum() == 1

@pytest.mark.parametrize('kw', [{}, dict(jumps=True), dict(sr=11025, resample=True)], ids=str)
@pytest.mark.parametrize('ext', ['wav', 'ogg', 'mp3'])
def test_a_recording_goes_to_another_process_without_its_samples(tmp_path, kw, ext):
    import pickle
    r = Recording(write_audio(tmp_path/f'x.{ext}', .4*sound(40_000), sr), **kw)
    whole = r.read()
    r.load()
    sent = pickle.dumps(r)
    assert len(sent) < 2000 and torch.equal(pickle.loads(sent).read(5000, 100), whole[:, 5000:5100])
    part = pickle.loads(pickle.dumps(r.part(5000)))
    assert torch.equal(part.read(0, 100), whole[:, 5000:5100])
    x = Recording(sound(100), sr)
    assert torch.equal(pickle.loads(pickle.dumps(x)).read(), x.read())

def test_io_is_of_the_torch_trunk():
    import subprocess
    code = "import sys, fastproaudio.io; sys.exit(any(m in sys.modules for m in ('fastai', 'matplotlib', 'IPython')))"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
