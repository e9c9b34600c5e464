"A file that ends early is never read as a shorter one; what is no sound is named; no reader waits for a pipe."
import os
import threading

import numpy as np
import pytest
import soundfile as sf

from fastproaudio.io import audio_info, read_audio, recover_audio
from fastproaudio.io.headers import HeaderIndex

FORMATS = dict(wav=('WAV', 'PCM_16'), rf64=('RF64', 'PCM_24'), aiff=('AIFF', 'PCM_16'), w64=('W64', 'FLOAT'),
               au=('AU', 'PCM_16'), caf=('CAF', 'PCM_16'), flac=('FLAC', 'PCM_16'), ogg=('OGG', 'VORBIS'),
               opus=('OGG', 'OPUS'), mp3=('MP3', 'MPEG_LAYER_III'))


@pytest.fixture(params=FORMATS)
def made(request, tmp_path):
    x = np.random.default_rng(0).standard_normal((48000, 2))*.1
    p = tmp_path/f'a.{request.param}'
    fmt, sub = FORMATS[request.param]
    sf.write(p, x, 48000, sub, format=fmt)
    assert read_audio(p)[0].shape == (2, 48000)
    return p


@pytest.mark.parametrize('part', [.3, .5, .9, .999])
def test_a_cut_file_is_refused(made, part, tmp_path):
    data = made.read_bytes()
    cut = tmp_path/f'cut{made.suffix}'
    cut.write_bytes(data[:int(len(data)*part)])
    with pytest.raises(ValueError) as e: read_audio(cut)
    assert str(cut) in str(e.value) and '\n' not in str(e.value)


def test_a_header_that_promises_more_than_fits_is_no_memory_error(tmp_path):
    p = tmp_path/'a.mp3'
    sf.write(p, np.random.default_rng(0).standard_normal(48000)*.1, 48000, 'MPEG_LAYER_III', format='MP3')
    data = bytearray(p.read_bytes())
    at = max(data.find(b'Xing'), data.find(b'Info'))
    if at < 0: pytest.skip('no Xing header from this encoder')
    data[at+8:at+12] = (2**31-1).to_bytes(4, 'big')
    p.write_bytes(data)
    with pytest.raises(ValueError, match='bytes cannot hold'): read_audio(p)


def test_a_recorder_that_was_cut_off(tmp_path):
    p = tmp_path/'a.wav'
    x = np.random.default_rng(0).standard_normal((9000, 2))*.1
    sf.write(p, x, 44100, 'FLOAT')
    data = bytearray(p.read_bytes())
    at = data.index(b'data')+4
    data[at:at+4] = bytes(4)
    p.write_bytes(data)
    with pytest.raises(ValueError, match=r'recorder was cut off.*72000 bytes lie behind it; recover_audio'):
        read_audio(p)
    y, sr = read_audio(recover_audio(p, tmp_path/'b.wav'))
    assert sr == 44100 and np.allclose(y.numpy().T, x, atol=1e-6)


@pytest.mark.parametrize('head,what',
                         [(b'\0\0\0 ftypM4A ', 'MPEG-4'), (b'wvpk', 'WavPack'), (b'\x1aE\xdf\xa3', 'Matroska'),
                                       (b'OggS'+bytes(24)+b'Speex   ', 'Speex in Ogg')])
def test_what_it_is_instead_is_named(head, what, tmp_path):
    (tmp_path/'a.wav').write_bytes(head+bytes(500))
    with pytest.raises(ValueError, match=what): read_audio(tmp_path/'a.wav')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names here')
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path/'a.wav')
    said = []
    def read():
        try: audio_info(tmp_path/'a.wav')
        except ValueError as e: said.append(str(e))
    t = threading.Thread(target=read, daemon=True)
    t.start()
    t.join(5)
    assert said and 'got a pipe or a device' in said[0]


@pytest.mark.skipif(os.name != 'posix', reason='names are bytes on POSIX')
def test_names_that_are_no_utf8(tmp_path):
    p = os.fsdecode(os.fsencode(tmp_path)+b'/\xff\xfe.wav')
    x = np.zeros((100, 1))
    sf.write(os.fsencode(p), x, 8000, format='WAV')
    assert read_audio(p)[0].shape == (1, 100)
    open(p, 'wb').write(b'nothing')
    with pytest.raises(ValueError, match=r'\\xff\\xfe.wav: expected an audio file'): read_audio(p)


@pytest.mark.parametrize('change',
                         [dict(n=[2**62]), dict(sr=[.5]), dict(n_ch=['x']), dict(kind=[-1]), dict(sr=[[1]]),
                          dict(names=3)])
def test_an_index_with_wrong_values_is_as_if_it_were_not_there(change, tmp_path, monkeypatch):
    monkeypatch.setenv('FASTPROAUDIO_CACHE', str(tmp_path/'cache'))
    ix = HeaderIndex(tmp_path/'sounds')
    ix.put('a.wav', 1, 2, 8000, 7, 1, 'WAV', 'PCM_16')
    assert ix.save() and HeaderIndex(tmp_path/'sounds').get('a.wav', 1, 2) == (8000, 7, 1, 'WAV', 'PCM_16')
    with np.load(ix.path) as z: held = dict(z)
    np.savez(open(ix.path, 'wb'), **{**held, **{k: np.array(v) for k, v in change.items()}})
    assert HeaderIndex(tmp_path/'sounds').d == {}
