"""`prepare_audio`: a run that is killed goes on, a broken file stops nobody, and each fault is one sentence."""
import errno,os,signal,subprocess,sys,time

import pytest
import soundfile as sf
from fastproaudio.data import get_audio_files, prepare_audio
from fastproaudio.dsp import noise
from fastproaudio.io import audio_info, read_audio, write_audio

def folder(d, k=6, n=8000):
    (d/'in').mkdir()
    for i in range(k): write_audio(d/'in'/f'{i}.wav', noise(n, seed=i, n_ch=2), 16000)
    return d/'in',d/'out'

@pytest.mark.parametrize('suffix,subtype,format',
                         [('.flac', 'PCM_16', 'FLAC'), ('.wav', 'FLOAT', 'WAV'), ('.wav', None, 'WAV'),
                          ('.ogg', None, 'OGG')])
def test_rate_channels_and_format(tmp_path, suffix, subtype, format):
    src,dst = folder(tmp_path, 2)
    out = prepare_audio(src, dst, 8000, n_ch=1, suffix=suffix, subtype=subtype, progress=False)[8000]
    for f in get_audio_files(out):
        i = audio_info(f)
        assert (i.sr, i.n, i.n_ch, i.format)==(8000, 4000, 1, format) and f.suffix==suffix

def test_killed_in_the_middle(tmp_path):
    src,dst = folder(tmp_path, 12, 160_000)
    code = ("from fastproaudio.data.prepare import prepare_audio; "
            f"prepare_audio({str(src)!r}, {str(dst)!r}, 44100, n_workers=1, progress=False)")
    p = subprocess.Popen([sys.executable, '-c', code], env={**os.environ, 'OMP_NUM_THREADS':'1'})
    until = time.time()+60
    def named(): return [f for f in dst.rglob('*.flac') if not f.name.startswith('.part-')]
    while len(named())<3 and p.poll() is None and time.time()<until: time.sleep(.005)
    p.send_signal(signal.SIGKILL); p.wait()
    made = {f:f.stat().st_mtime_ns for f in named()}
    assert 3<=len(made)<12
    for f in made: read_audio(f)                                 # what has its name is whole
    prepare_audio(src, dst, 44100, progress=False)
    files = get_audio_files(dst)
    assert len(files)==12 and all(f.stat().st_mtime_ns==t for f,t in made.items())
    whole = prepare_audio(src, tmp_path/'other', 44100, progress=False)[44100]
    assert all((dst/'44100'/f.name).read_bytes()==f.read_bytes() for f in get_audio_files(whole))

@pytest.mark.parametrize('n_workers', [1, 4])
def test_a_broken_file_among_them(tmp_path, n_workers):
    src,dst = folder(tmp_path)
    (src/'2.wav').write_bytes((src/'2.wav').read_bytes()[:500])
    with pytest.raises(ValueError, match='1 of 6 could not be converted, the others are done.*2.wav'):
        prepare_audio(src, dst, 8000, n_workers=n_workers, progress=False)
    assert len(get_audio_files(dst))==5

def test_two_that_would_be_one(tmp_path):
    src,dst = folder(tmp_path, 1)
    write_audio(src/'0.flac', noise(100, seed=0), 16000)
    with pytest.raises(ValueError, match='both would become 0.flac; rename one'):
        prepare_audio(src, dst, 8000, progress=False)
    assert not dst.exists()

def test_same_names_in_other_folders_are_no_collision(tmp_path):
    src,dst = folder(tmp_path, 1)
    (src/'b').mkdir()
    write_audio(src/'b'/'0.wav', noise(1000, seed=0), 16000)
    prepare_audio(src, dst, 8000, progress=False)
    assert {f.relative_to(dst).as_posix() for f in get_audio_files(dst)}=={'8000/0.flac', '8000/b/0.flac'}

def test_full_disk(tmp_path, monkeypatch):
    src,dst = folder(tmp_path, 2)
    def full(*a, **kw): # noqa: ARG001
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        m.setattr(sf.SoundFile, 'write', full)
        with pytest.raises(ValueError, match='could not be converted.*No space left on device') as e:
            prepare_audio(src, dst, 8000, progress=False)
    assert '\n' not in str(e.value) and not [f for f in dst.rglob('*') if f.is_file()]
    prepare_audio(src, dst, 8000, progress=False)
    assert len(get_audio_files(dst))==2
